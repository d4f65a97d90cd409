import OTFoundation
import Synchronization
import Testing
import _OTTestSupport

#if canImport(Glibc)
  import Glibc
#endif

@Suite struct OrderedPipelineTests {
  private struct Failure: Error, Equatable { let index: Int }

  /// What has been begun and what is still running.
  private final class Counts: Sendable {
    let started = Atomic(0)
    let running = Atomic(0)

    /// A block that lets other threads go first now and then.
    func block(_ index: Int, yields: Int = 0) -> Int {
      started.add(1, ordering: .sequentiallyConsistent)
      running.add(1, ordering: .sequentiallyConsistent)
      for _ in 0..<yields { sched_yield() }
      running.subtract(1, ordering: .sequentiallyConsistent)
      return index * index
    }

    var startedCount: Int { started.load(ordering: .sequentiallyConsistent) }
    var runningCount: Int { running.load(ordering: .sequentiallyConsistent) }
  }

  @Test(arguments: [1, 2, 5, 16], [0, 1, 2, 3, 200])
  func blocksComeInOrder(threadCount: Int, count: Int) throws {
    var random = SeededGenerator()
    let yields = (0..<count).map { _ in Int.random(in: 0...20, using: &random) }
    let counts = Counts()
    var seen: [Int] = []
    try OrderedPipeline.run(count: count, threadCount: threadCount) {
      counts.block($0, yields: yields[$0])
    } consume: {
      #expect($1 == $0 * $0)
      seen.append($0)
    }
    #expect(seen == Array(0..<count), "seed \(random.seed)")
    #expect(counts.startedCount == count && counts.runningCount == 0)
  }

  /// Whichever fails first in time, the error is that of the lowest index, and all before it was handed on.
  @Test(arguments: [1, 2, 8]) func theLowestErrorIsThrown(threadCount: Int) throws {
    var random = SeededGenerator()
    for _ in 0..<50 {
      let count = Int.random(in: 1...120, using: &random)
      let failing = Set(
        (0..<Int.random(in: 1...5, using: &random)).map { _ in Int.random(in: 0..<count, using: &random) })
      let lowest = try #require(failing.min())
      let counts = Counts()
      var seen: [Int] = []
      let error = #expect(throws: Failure.self) {
        try OrderedPipeline.run(count: count, threadCount: threadCount) { index in
          // The lowest takes longest.
          let value = counts.block(index, yields: index == lowest ? 200 : 0)
          if failing.contains(index) { throw Failure(index: index) }
          return value
        } consume: { index, _ in
          seen.append(index)
        }
      }
      #expect(error == Failure(index: lowest), "seed \(random.seed)")
      #expect(seen == Array(0..<lowest), "seed \(random.seed)")
      #expect(counts.runningCount == 0, "all that was begun has ended")
    }
  }

  @Test(arguments: [1, 2, 8], [0, 1, 17]) func nothingIsBegunAfterTheConsumerFailed(threadCount: Int, last: Int) throws
  {
    let counts = Counts()
    let error = #expect(throws: Failure.self) {
      try OrderedPipeline.run(count: 100_000, threadCount: threadCount) {
        counts.block($0)
      } consume: { index, _ in
        if index == last { throw Failure(index: index) }
      }
    }
    #expect(error == Failure(index: last))
    #expect(counts.runningCount == 0)
    #expect(counts.startedCount <= last + 1 + 4 * threadCount)
    let started = counts.startedCount
    for _ in 0..<1000 { sched_yield() }
    #expect(counts.startedCount == started)
  }

  /// While one block is with the consumer, four for each thread are computed and then none.
  @Test(arguments: [2, 3, 8]) func blocksAheadAreBounded(threadCount: Int) throws {
    let counts = Counts()
    let window = 4 * threadCount
    try OrderedPipeline.run(count: 1000, threadCount: threadCount) {
      counts.block($0)
    } consume: { index, _ in
      guard index % 100 == 0, index < 900 else { return }
      // All that may be begun is begun, however long that takes.
      while counts.startedCount < index + 1 + window { sched_yield() }
      for _ in 0..<1000 { sched_yield() }
      #expect(counts.startedCount == index + 1 + window)
    }
  }
}
