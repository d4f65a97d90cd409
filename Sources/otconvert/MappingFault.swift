import Foundation
import OTFoundation
import Synchronization

/// The end of a process that touches bytes of a mapped file which are not there (SIGBUS): another process has cut the
/// file, or its disk fails. It ends as at any refusal, with the file and the place, and no temporary file stays.
enum MappingFault {
  /// The first address that was touched; 0: none.
  private static let address = Atomic<UInt>(0)
  /// Wakes the thread that does what a signal's handler must not.
  private static let wakingEnd = Atomic<Int32>(-1)

  /// From now on the signal is seen.
  static func prepare() {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    // Made here, so that the handler finds them made.
    address.store(0, ordering: .relaxed)
    wakingEnd.store(ends[1], ordering: .relaxed)
    let wokenEnd = ends[0]
    Thread.detachNewThread {
      var byte: UInt8 = 0
      while read(wokenEnd, &byte, 1) < 0 && errno == EINTR {}
      end()
    }
    var action = sigaction()
    action.sa_flags = SA_SIGINFO
    let handler: @convention(c) (Int32, UnsafeMutablePointer<siginfo_t>?, UnsafeMutableRawPointer?) -> Void = {
      _, information, _ in
      #if canImport(Darwin)
        let place = UInt(bitPattern: information?.pointee.si_addr)
      #else
        let place = UInt(bitPattern: information?.pointee._sifields._sigfault.si_addr)
      #endif
      if MappingFault.address.compareExchange(expected: 0, desired: place, ordering: .relaxed).exchanged {
        var byte: UInt8 = 0
        _ = write(MappingFault.wakingEnd.load(ordering: .relaxed), &byte, 1)
      }
      // The thread cannot go on: its bytes are not there.
      while true { pause() }
    }
    #if canImport(Darwin)
      action.__sigaction_u.__sa_sigaction = handler
    #else
      action.__sigaction_handler.sa_sigaction = handler
    #endif
    sigaction(SIGBUS, &action, nil)
  }

  private static func end() -> Never {
    guard let refusal = MappedFile.refusal(forFaultAt: address.load(ordering: .relaxed)) else {
      Interruption.endProcess(by: SIGBUS)
    }
    AtomicFile.removeAll {
      StandardError.write("Error: \(refusal)\n")
      _exit(1)
    }
  }
}
