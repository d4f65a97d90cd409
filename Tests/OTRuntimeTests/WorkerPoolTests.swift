import OTFoundation
import OTRuntime
import Synchronization
import Testing

@Suite struct WorkerPoolTests {
  private struct Failure: Error, Equatable { let index: Int }

  @Test(arguments: [1, 2, 3, 8])
  func everyIndexIsDoneOnce(_ threadCount: Int) throws {
    // Also more than there are processors.
    let pool = WorkerPool(threadCount: threadCount, processorCount: threadCount)
    #expect(pool.threadCount == threadCount && WorkerPool(threadCount: 8, processorCount: 3).threadCount == 3)
    for count in [0, 1, 2, 3, 7, 100, 1000] {
      for _ in 0..<20 {
        let done = Lock([Int](repeating: 0, count: count))
        try pool.run(count) { worker, index in
          #expect((0..<threadCount).contains(worker))
          done.withLock { $0[index] += 1 }
        }
        #expect(done.withLock { $0 } == [Int](repeating: 1, count: count))
      }
    }
  }

  @Test func errorsEndALoopAndNoMore() throws {
    let pool = WorkerPool(threadCount: 3, processorCount: 3)
    for _ in 0..<50 {
      #expect(throws: Failure(index: 5)) {
        try pool.run(1000) { _, index in
          if index == 5 { throw Failure(index: index) }
        }
      }
      let count = Atomic(0)
      try pool.run(64) { _, _ in count.wrappingAdd(1, ordering: .relaxed) }
      #expect(count.load(ordering: .relaxed) == 64)
    }
  }

  /// A loop within a loop, and loops of two threads at a time, all end.
  @Test func nestedAndConcurrentLoops() async throws {
    let pool = WorkerPool(threadCount: 2, processorCount: 2)
    let count = Atomic(0)
    try pool.run(10) { _, _ in
      try pool.run(10) { worker, _ in
        #expect(worker == 0)
        count.wrappingAdd(1, ordering: .relaxed)
      }
    }
    #expect(count.load(ordering: .relaxed) == 100)
    try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<4 {
        group.addTask {
          let own = Atomic(0)
          for _ in 0..<100 { try pool.run(16) { _, _ in own.wrappingAdd(1, ordering: .relaxed) } }
          return own.load(ordering: .relaxed)
        }
      }
      for try await sum in group { #expect(sum == 1600) }
    }
  }
}
