import Synchronization

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
  withoutActuallyEscaping(body) { body in
    withUnsafePointer(to: Blocks(slots: slots, body: body)) { blocks in
      nonisolated(unsafe) let shared = blocks
      // Neighbouring blocks are in flight together.
      let next = NextIndex()
      let helpers = WorkGroup()
      for _ in 1..<min(threadCount, count) {
        // Without it the others do its part.
        guard helpers.start({ Blocks.run(shared, next) }) else { break }
      }
      Blocks.run(blocks, next)
      helpers.wait()
    }
  }
  return try slots.map { slot in
    guard let slot else { preconditionFailure("a block did not run") }
    return try slot.get()
  }
}

private final class NextIndex: Sendable {
  let value = Atomic(0)
}

/// What the threads share. It is on the stack of the one that waits for the others.
private struct Blocks<Result: Sendable> {
  let slots: UnsafeMutableBufferPointer<Swift.Result<Result, any Error>?>
  let body: @Sendable (Int) throws -> Result

  /// A function of its own, so that nothing of the blocks is held any more when it returns.
  @inline(never)
  static func run(_ place: UnsafePointer<Blocks>, _ next: NextIndex) {
    let blocks = place.pointee
    while true {
      let index = next.value.wrappingAdd(1, ordering: .relaxed).oldValue
      guard index < blocks.slots.count else { return }
      blocks.slots[index] = Swift.Result { try blocks.body(index) }
    }
  }
}
