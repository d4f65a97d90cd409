import Foundation
import OTFoundation
import Synchronization

/// The end of a process that is interrupted (Ctrl-C, SIGTERM, SIGHUP): the
/// signal ends it when its temporary files are gone; a command may ask to end
/// in order by itself. The same signal once more ends it at once.
enum Interruption {
  private static let signals = [SIGINT, SIGTERM, SIGHUP]
  /// The signal that has come; 0: none.
  private static let number = Atomic<Int32>(0)
  /// True when the command ends by itself.
  private static let isAwaited = Atomic<Bool>(false)
  /// Wakes the thread that does what a signal's handler must not.
  private static let wakingEnd = Atomic<Int32>(-1)

  /// From now on, signals are seen, even if they were blocked; those that were ignored (nohup) stay so.
  static func prepare() {
    // Made here, so that the handler finds it made.
    number.store(0, ordering: .relaxed)
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    wakingEnd.store(ends[1], ordering: .relaxed)
    let wokenEnd = ends[0]
    Thread.detachNewThread {
      var byte: UInt8 = 0
      while read(wokenEnd, &byte, 1) < 0 && errno == EINTR {}
      if !isAwaited.load(ordering: .relaxed) { endProcessIfCome() }
    }
    let ignored = unsafeBitCast(SIG_IGN, to: Int.self)
    for number in signals where unsafeBitCast(signal(number, SIG_IGN), to: Int.self) != ignored {
      signal(number) { number in
        let code = errno
        signal(number, SIG_DFL)
        Interruption.number.store(number, ordering: .relaxed)
        var byte: UInt8 = 0
        _ = write(Interruption.wakingEnd.load(ordering: .relaxed), &byte, 1)
        errno = code
      }
      unblock(number)
    }
  }

  /// From now on the command asks whether a signal has come, and ends by itself.
  static func watch() { isAwaited.store(true, ordering: .relaxed) }

  /// Lets a signal through that whoever started the process may have left
  /// blocked: a thread of a pool does.
  private static func unblock(_ number: Int32) {
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, number)
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }

  /// Ends the process by a signal, without a message.
  static func endProcess(by number: Int32) -> Never {
    AtomicFile.removeAll {
      signal(number, SIG_DFL)
      unblock(number)
      raise(number)
      // What a shell says of a process that the signal has ended.
      _exit(128 + number)
    }
  }

  /// True when a signal has come.
  static var hasCome: Bool { number.load(ordering: .relaxed) != 0 }

  /// Ends the process by the signal that has come, if one has, so that whoever
  /// started it sees that it was interrupted.
  static func endProcessIfCome() {
    if hasCome { endProcess(by: number.load(ordering: .relaxed)) }
  }
}
