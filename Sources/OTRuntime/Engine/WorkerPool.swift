import Foundation
import OTTensor
import Synchronization

/// Threads that are made once and wait for loops to share.
///
/// A thread that has just worked looks for the next loop for some microseconds before
/// it goes to sleep: between two products of a token there is no time to wake it.
package final class WorkerPool: Sendable {
  /// Threads that work on a loop, the caller's included.
  package let threadCount: Int

  private let team: Team

  package init(threadCount: Int) {
    self.threadCount = min(max(1, threadCount), 1024)
    team = Team()
    for worker in 1..<self.threadCount {
      let team = team
      let thread = Thread { team.serve(as: worker) }
      thread.name = "otq worker \(worker)"
      thread.stackSize = 1 << 20
      thread.start()
    }
  }

  deinit { team.dismiss() }

  /// Calls `body` once for every index below `count` with the number of the thread
  /// that does it, below `threadCount`; returns when all are done.
  ///
  /// Indices are handed out in order. A loop that starts while another one
  /// of the same pool runs (from another thread, or from within) runs on its own thread alone, which then is
  /// worker 0 of that loop.
  ///
  /// - Throws: the first error that a call threw; indices not handed out by then are left out.
  package func run(_ count: Int, _ body: (_ worker: Int, _ index: Int) throws -> Void) throws {
    guard count > 1, threadCount > 1, team.begin() else {
      for index in 0..<count { try body(0, index) }
      return
    }
    defer { team.end() }
    withoutActuallyEscaping(body) { body in
      var work: Team.Work = { [team] worker in
        while let index = team.next(below: count) {
          do {
            try body(worker, index)
          } catch {
            team.fail(error, count: count)
          }
        }
      }
      team.share(&work, helperCount: min(threadCount, count) - 1)
    }
    if let error = team.takeFailure() { throw error }
  }
}

extension WorkerPool {
  /// What the pool's threads share. They hold it, and not the pool, so that the pool can end.
  private final class Team: @unchecked Sendable {
    typealias Work = (_ worker: Int) -> Void

    /// Times that a helper looks before it sleeps: some tens of microseconds.
    private static let lookCount = 20_000

    private let isBusy = Atomic(false)
    /// The number of the loop and, in the low bits, how many helpers it wants; a change is
    /// the sign to start. One word, so that a helper that comes late cannot mix up two loops.
    private let round = Atomic(0)
    private static let helperBitCount = 16
    private let nextIndex = Atomic(0)
    private let workingCount = Atomic(0)
    private let isDismissed = Atomic(false)
    private let sleepingCount = Atomic(0)
    private let condition = NSCondition()
    private let failure = Mutex<(any Error)?>(nil)
    /// Written before `round` is raised, read after it was seen to be.
    private var work: UnsafePointer<Work>?

    func begin() -> Bool {
      isBusy.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged
    }

    func end() { isBusy.store(false, ordering: .releasing) }

    func next(below count: Int) -> Int? {
      let index = nextIndex.wrappingAdd(1, ordering: .relaxed).oldValue
      return index < count ? index : nil
    }

    /// Keeps the first error, and leaves out what has not been handed out.
    func fail(_ error: any Error, count: Int) {
      failure.withLock { if $0 == nil { $0 = error } }
      nextIndex.store(count, ordering: .relaxed)
    }

    func takeFailure() -> (any Error)? { failure.withLock { $0.take() } }

    /// Has `work` done by this thread and the first `helperCount` helpers.
    func share(_ work: inout Work, helperCount: Int) {
      withUnsafePointer(to: &work) { pointer in
        self.work = pointer
        nextIndex.store(0, ordering: .relaxed)
        workingCount.store(helperCount, ordering: .relaxed)
        startRound(helperCount: helperCount)
        if sleepingCount.load(ordering: .sequentiallyConsistent) > 0 {
          condition.lock()
          condition.broadcast()
          condition.unlock()
        }
        pointer.pointee(0)
        var looks = 0
        while workingCount.load(ordering: .acquiring) > 0 {
          looks += 1
          // Another process may have the helper's core: let it go on.
          if looks % 2000 == 0 { sched_yield() }
        }
        self.work = nil
      }
    }

    /// The life of a helper.
    func serve(as worker: Int) {
      var seen = 0
      while true {
        seen = waitForRound(after: seen)
        if isDismissed.load(ordering: .acquiring) { return }
        // A helper that is not wanted reads nothing of this loop: it may be over already.
        guard worker <= seen & (1 << Team.helperBitCount - 1) else { continue }
        perform(as: worker)
        workingCount.wrappingSubtract(1, ordering: .releasing)
      }
    }

    /// A function of its own, so that nothing of the loop is held any more when it returns.
    @inline(never)
    private func perform(as worker: Int) { work?.pointee(worker) }

    private func waitForRound(after seen: Int) -> Int {
      for _ in 0..<Team.lookCount {
        let current = round.load(ordering: .acquiring)
        if current != seen { return current }
      }
      condition.lock()
      defer { condition.unlock() }
      sleepingCount.wrappingAdd(1, ordering: .sequentiallyConsistent)
      defer { sleepingCount.wrappingSubtract(1, ordering: .sequentiallyConsistent) }
      while true {
        let current = round.load(ordering: .sequentiallyConsistent)
        if current != seen { return current }
        condition.wait()
      }
    }

    /// Sends the helpers home.
    func dismiss() {
      isDismissed.store(true, ordering: .releasing)
      startRound(helperCount: 0)
      condition.lock()
      condition.broadcast()
      condition.unlock()
    }

    private func startRound(helperCount: Int) {
      let number = round.load(ordering: .relaxed) >> Team.helperBitCount &+ 1
      round.store(number << Team.helperBitCount | helperCount, ordering: .sequentiallyConsistent)
    }
  }
}
