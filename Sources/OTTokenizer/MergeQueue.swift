/// A merge that is possible at a place of a word.
struct MergeCandidate {
  /// Rank of the merge above, place below: the order of merging.
  let order: UInt64
  /// The token that the merge makes.
  let id: Int32

  init(_ merge: Merge, at place: Int) {
    order = UInt64(merge.rank) << 32 | UInt64(place)
    id = merge.id
  }

  var place: Int { Int(order & 0xFFFF_FFFF) }
}

/// Binary heap of merges, the lowest rank and then the leftmost place first.
struct MergeQueue {
  private var heap: [MergeCandidate] = []

  mutating func insert(_ candidate: MergeCandidate) {
    heap.append(candidate)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].order < heap[parent].order else { return }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  /// - Complexity: O(log n).
  mutating func popFirst() -> MergeCandidate? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    if heap.isEmpty { return first }
    heap[0] = last
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < heap.count else { return first }
      if child + 1 < heap.count, heap[child + 1].order < heap[child].order { child += 1 }
      guard heap[child].order < heap[parent].order else { return first }
      heap.swapAt(child, parent)
      parent = child
    }
  }
}
