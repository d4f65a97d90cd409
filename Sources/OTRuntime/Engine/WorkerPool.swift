import OTFoundation
import OTPlatform
import Synchronization

/// Threads that are made once and wait for loops to share.
///
/// A thread that has just worked looks for the next loop for some microseconds before
/// it goes to sleep: between two products of a token there is no time to wake it.
package final class WorkerPool: Sendable {
  /// Threads that work on a loop, the caller's included; no more than there are processors for
  /// them, since one that waits its turn would keep the others waiting.
  package let threadCount: Int

  private let team: Team

  /// A pool of at least one thread and at most 1,024.
  package init(threadCount: Int, processorCount: Int = Machine.processorCount) {
    self.threadCount = min(max(1, threadCount), processorCount, 1024)
    team = Team()
    for worker in 1..<self.threadCount {
      let team = team
      // Without it the others do its part.
      _ = WorkThread.start { team.serve(as: worker) }
    }
  }

  deinit { team.dismiss() }

  /// Work in numbered parts.
  package protocol Loop {
    /// Does part `index` on the thread `worker`, below `threadCount`; called from several threads at once.
    func perform(_ index: Int, worker: Int) throws
  }

  /// Does every part below `count` of `loop` once; returns when all are done. Allocates no memory.
  ///
  /// Indices are handed out in order. A loop that starts while another one
  /// of the same pool runs (from another thread, or from within) runs on its own thread alone, which then is
  /// worker 0 of that loop.
  ///
  /// - Throws: the first error that a part threw; indices not handed out by then are left out.
  package func run<Body: Loop>(_ count: Int, _ loop: Body) throws {
    guard count > 1, threadCount > 1, team.begin() else {
      for index in 0..<count { try loop.perform(index, worker: 0) }
      return
    }
    defer { team.end() }
    withUnsafePointer(to: loop) {
      team.share(Work(type: Body.self, loop: $0, count: count), helperCount: min(threadCount, count) - 1)
    }
    if let error = team.takeFailure() { throw error }
  }

  /// Calls `body` once for every index below `count`, as `run` of a loop.
  package func run(_ count: Int, _ body: (_ worker: Int, _ index: Int) throws -> Void) throws {
    try withoutActuallyEscaping(body) { try run(count, ClosureLoop(body: $0)) }
  }

  private struct ClosureLoop: Loop {
    let body: (_ worker: Int, _ index: Int) throws -> Void
    func perform(_ index: Int, worker: Int) throws { try body(worker, index) }
  }
}

extension WorkerPool {
  /// A loop as threads share it: where it is, on the stack of the thread that runs it. (A closure
  /// that outlives its call, as one that is shared seems to, would be on the heap.)
  fileprivate struct Work {
    let type: any Loop.Type
    let loop: UnsafeRawPointer
    let count: Int
  }
}

extension WorkerPool.Loop {
  /// Does the parts of the loop at `place` that no other thread takes.
  fileprivate static func takeParts(of place: UnsafeRawPointer, count: Int, worker: Int, from team: WorkerPool.Team) {
    // One copy: what it refers to is retained once, not for every part.
    let loop = place.assumingMemoryBound(to: Self.self).pointee
    while let index = team.next(below: count) {
      do {
        try loop.perform(index, worker: worker)
      } catch {
        team.fail(error, count: count)
      }
    }
  }
}

extension WorkerPool {
  /// The state that the pool's threads share. They hold it, and not the pool, so that the pool can end.
  ///
  /// A helper joins a loop if it comes in time, and nobody waits for one that does not: on
  /// a busy machine its turn may come long after the work is done.
  fileprivate final class Team: @unchecked Sendable {
    /// Times that a helper looks before it sleeps: some tens of microseconds.
    private static let lookCount = 60_000
    /// Parts of `state`: the number of the loop, whether it can be joined, helpers that may
    /// still join. One word, so that a helper that comes late cannot mix up two loops.
    private static let openBit = 1 << 16
    private static let placeMask = openBit - 1
    private static let numberShift = 17

    private let isBusy = Atomic(false)
    private let state = Atomic(0)
    private let nextIndex = Atomic(0)
    private let finishedCount = Atomic(0)
    private let isDismissed = Atomic(false)
    private let sleepingCount = Atomic(0)
    private let condition = Condition()
    private let failure = Lock<(any Error)?>(nil)
    /// Written before a loop is opened, read by those who have joined it.
    private var work: Work?

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

    /// Runs `work` on this thread and on up to `helperCount` helpers.
    func share(_ work: Work, helperCount: Int) {
      self.work = work
      nextIndex.store(0, ordering: .relaxed)
      finishedCount.store(0, ordering: .relaxed)
      open(placeCount: helperCount)
      wakeSleepers()
      perform(as: 0)
      let closed = state.bitwiseAnd(~Team.openBit, ordering: .acquiringAndReleasing).oldValue
      let joinedCount = helperCount - closed & Team.placeMask
      var looks = 0
      while finishedCount.load(ordering: .acquiring) < joinedCount {
        looks += 1
        // Another process may have the helper's core: let it go on.
        if looks % 256 == 0 { sched_yield() }
      }
      self.work = nil
    }

    private func open(placeCount: Int) {
      let number = state.load(ordering: .relaxed) >> Team.numberShift &+ 1
      state.store(number << Team.numberShift | Team.openBit | placeCount, ordering: .sequentiallyConsistent)
    }

    private func wakeSleepers() {
      guard sleepingCount.load(ordering: .sequentiallyConsistent) > 0 else { return }
      condition.lock()
      condition.broadcast()
      condition.unlock()
    }

    /// The life of a helper.
    func serve(as worker: Int) {
      var seen = 0
      while true {
        seen = waitForLoop(after: seen)
        if isDismissed.load(ordering: .acquiring) { return }
        guard join(seen) else { continue }
        perform(as: worker)
        finishedCount.wrappingAdd(1, ordering: .releasing)
      }
    }

    /// Takes a place in loop `number`, if it is open and has one.
    private func join(_ number: Int) -> Bool {
      var current = state.load(ordering: .acquiring)
      while current >> Team.numberShift == number, current & Team.openBit != 0, current & Team.placeMask > 0 {
        let (exchanged, original) = state.compareExchange(
          expected: current, desired: current - 1, ordering: .acquiringAndReleasing)
        if exchanged { return true }
        current = original
      }
      return false
    }

    /// A function of its own, so that nothing of the loop is held any more when it returns.
    @inline(never)
    private func perform(as worker: Int) {
      guard let work else { return }
      work.type.takeParts(of: work.loop, count: work.count, worker: worker, from: self)
    }

    /// The number of the loop that follows `seen`.
    private func waitForLoop(after seen: Int) -> Int {
      for _ in 0..<Team.lookCount {
        let number = state.load(ordering: .acquiring) >> Team.numberShift
        if number != seen { return number }
      }
      condition.lock()
      defer { condition.unlock() }
      sleepingCount.wrappingAdd(1, ordering: .sequentiallyConsistent)
      defer { sleepingCount.wrappingSubtract(1, ordering: .sequentiallyConsistent) }
      while true {
        let number = state.load(ordering: .sequentiallyConsistent) >> Team.numberShift
        if number != seen { return number }
        condition.wait()
      }
    }

    /// Ends the helper threads.
    func dismiss() {
      isDismissed.store(true, ordering: .releasing)
      open(placeCount: 0)
      condition.lock()
      condition.broadcast()
      condition.unlock()
    }
  }
}
