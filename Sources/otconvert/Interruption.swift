import Dispatch
import Foundation
import Synchronization

/// Lets a command end in order when it is interrupted (Ctrl-C, SIGTERM); a
/// second signal ends it at once.
final class Interruption: Sendable {
  private let number = Atomic<Int32>(0)
  nonisolated(unsafe) private let sources: [any DispatchSourceSignal]

  init() {
    let signals = [SIGINT, SIGTERM]
    sources = signals.map { DispatchSource.makeSignalSource(signal: $0, queue: .global()) }
    for (index, source) in sources.enumerated() {
      let number = signals[index]
      source.setEventHandler { [weak self] in
        signal(number, SIG_DFL)
        self?.number.store(number, ordering: .relaxed)
      }
      source.resume()
      // Else the process would end before the source learns of it.
      signal(number, SIG_IGN)
    }
  }

  /// Whether a signal has come.
  var hasCome: Bool { number.load(ordering: .relaxed) != 0 }

  /// Ends the process by the signal that has come, if one has, so that whoever
  /// started it sees that it was interrupted.
  func endProcessIfCome() {
    let number = number.load(ordering: .relaxed)
    guard number != 0 else { return }
    signal(number, SIG_DFL)
    raise(number)
  }
}
