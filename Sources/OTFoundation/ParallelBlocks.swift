import Dispatch

/// Runs `body` once for each index of `0..<count` on at most `threadCount`
/// threads, and returns the results in the order of the indices.
///
/// The result does not depend on the number of threads. The first error by
/// index is thrown after all started blocks have ended.
package func mapBlocks<Result: Sendable>(
  _ count: Int, threadCount: Int, _ body: @Sendable (Int) throws -> Result
) throws -> [Result] {
  if threadCount <= 1 || count <= 1 { return try (0..<count).map(body) }
  let slots = UnsafeMutableBufferPointer<Swift.Result<Result, any Error>?>.allocate(capacity: count)
  slots.initialize(repeating: nil)
  defer {
    slots.deinitialize()
    slots.deallocate()
  }
  // Each worker takes every threadCount-th index: no shared counter, and
  // neighbouring blocks are in flight together.
  let workers = min(threadCount, count)
  nonisolated(unsafe) let shared = slots
  DispatchQueue.concurrentPerform(iterations: workers) { worker in
    for index in stride(from: worker, to: count, by: workers) {
      shared[index] = Swift.Result { try body(index) }
    }
  }
  return try slots.map { slot in
    guard let slot else { preconditionFailure("a block did not run") }
    return try slot.get()
  }
}
