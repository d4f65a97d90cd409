import Dispatch
import Foundation

/// The number and least length of timed runs.
struct KernelTimer {
  let threadCount: Int
  let runCount: Int
  /// The least seconds of one run.
  let seconds: Double

  /// Seconds of one call of `body`, over the runs; it is called with how often to
  /// do its work.
  func measure(_ body: (_ repetitionCount: Int) -> Void) -> Spread {
    // Also warms up: caches, page tables, the processor's clock.
    var repetitionCount = 1
    var elapsed = time { body(1) }
    while elapsed < seconds / 4 {
      repetitionCount = max(
        repetitionCount * 2, min(repetitionCount * 100, Int(Double(repetitionCount) * seconds / max(elapsed, 1e-7) / 2))
      )
      elapsed = time { body(repetitionCount) }
    }
    let count = max(1, Int((Double(repetitionCount) * seconds / elapsed).rounded(.up)))
    return Spread((0..<runCount).map { _ in time { body(count) } / Double(count) })
  }

  /// Runs `body` on every thread, with the thread's index.
  func onEveryThread(_ body: @Sendable (Int) -> Void) {
    DispatchQueue.concurrentPerform(iterations: threadCount, execute: body)
  }
}
