import Foundation
import Synchronization

/// Lets a command end in order when it is interrupted (Ctrl-C, SIGTERM); a
/// second signal ends it at once.
enum Interruption {
  /// The signal that has come; 0: none.
  private static let number = Atomic<Int32>(0)

  /// From now on, signals are noted, even if they were blocked; those that were ignored (nohup) stay so.
  static func watch() {
    // Made here, so that the handler finds it made.
    number.store(0, ordering: .relaxed)
    // Whoever started this from a thread that blocks signals has passed that on.
    var awaited = sigset_t()
    sigemptyset(&awaited)
    for number in [SIGINT, SIGTERM] { sigaddset(&awaited, number) }
    pthread_sigmask(SIG_UNBLOCK, &awaited, nil)
    let ignored = unsafeBitCast(SIG_IGN, to: Int.self)
    for number in [SIGINT, SIGTERM] where unsafeBitCast(signal(number, SIG_IGN), to: Int.self) != ignored {
      signal(number) { number in
        signal(number, SIG_DFL)
        Interruption.number.store(number, ordering: .relaxed)
      }
      unblock(number)
    }
  }

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
    signal(number, SIG_DFL)
    unblock(number)
    raise(number)
    // What a shell says of a process that the signal has ended.
    exit(128 + number)
  }

  /// Whether a signal has come.
  static var hasCome: Bool { number.load(ordering: .relaxed) != 0 }

  /// Ends the process by the signal that has come, if one has, so that whoever
  /// started it sees that it was interrupted.
  static func endProcessIfCome() {
    if hasCome { endProcess(by: number.load(ordering: .relaxed)) }
  }
}
