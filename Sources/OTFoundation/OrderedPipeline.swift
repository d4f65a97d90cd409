/// Computes blocks on several threads and hands them on in order.
///
/// At most `window` blocks are computed and not yet handed on, so that memory
/// stays bounded whatever the count. What `consume` sees does not depend on
/// the number of threads.
package enum OrderedPipeline {
  /// Runs `produce` for each index of `0..<count` on `threadCount` threads, and
  /// `consume` with each result on the calling thread, in order of index.
  ///
  /// - Throws: the error of the lowest index that failed, or what `consume`
  ///   threw, once all started blocks have ended.
  package static func run<Block: Sendable>(
    count: Int, threadCount: Int,
    produce: @escaping @Sendable (Int) throws -> Block,
    consume: (Int, Block) throws -> Void
  ) throws {
    if threadCount <= 1 || count <= 1 {
      for index in 0..<count { try consume(index, try produce(index)) }
      return
    }
    let state = State<Block>(count: count, window: threadCount * 4)
    let workers = WorkGroup()
    var workerCount = 0
    for _ in 0..<min(threadCount, count) {
      let hasStarted = workers.start {
        while let index = state.take() {
          state.put(index, Result { try produce(index) })
        }
      }
      guard hasStarted else { break }
      workerCount += 1
    }
    defer {
      state.stop()
      workers.wait()
    }
    for index in 0..<count {
      // Without threads of its own it makes the blocks itself.
      try consume(index, workerCount == 0 ? try produce(index) : try state.await(index).get())
    }
  }

  private final class State<Block: Sendable>: @unchecked Sendable {
    private let condition = Condition()
    private let count: Int
    private let window: Int
    private var next = 0
    private var consumed = 0
    private var isStopped = false
    private var done: [Int: Result<Block, any Error>] = [:]

    init(count: Int, window: Int) {
      self.count = count
      self.window = window
    }

    func take() -> Int? {
      condition.lock()
      defer { condition.unlock() }
      while next < count, next >= consumed + window, !isStopped { condition.wait() }
      guard next < count, !isStopped else { return nil }
      next += 1
      return next - 1
    }

    func put(_ index: Int, _ block: Result<Block, any Error>) {
      condition.lock()
      done[index] = block
      condition.broadcast()
      condition.unlock()
    }

    func await(_ index: Int) -> Result<Block, any Error> {
      condition.lock()
      defer { condition.unlock() }
      while true {
        if let block = done.removeValue(forKey: index) {
          consumed = index + 1
          condition.broadcast()
          return block
        }
        condition.wait()
      }
    }

    func stop() {
      condition.lock()
      isStopped = true
      condition.broadcast()
      condition.unlock()
    }
  }
}
