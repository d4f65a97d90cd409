import OTKernels
import OTTensor

/// Rows of another view in another order.
struct RearrangedRows: RowDecoder {
  /// How the rows of the view are ordered that a model wants in another order.
  enum Order: Sendable {
    /// In each head of `size` rows, the rows of the first half alternate with those of the second:
    /// llama.cpp's order for rotations of neighbours.
    case alternating(headSize: Int)
    /// All heads' first parts, then all second ones: the model wants a head's parts together.
    case byPart(partCount: Int, headSize: Int)
    /// All queries, then all keys, then all values: the model wants those of a group of heads together, `width` heads
    /// of queries beside one of keys and one of values.
    case byGroup(width: Int, groupCount: Int, headSize: Int)

    /// The row of llama.cpp's, of `rowCount`, that has the model's `row`.
    func source(of row: Int, rowCount: Int) -> Int {
      switch self {
      case .alternating(let size):
        let within = row % size
        return row - within + within % (size / 2) * 2 + within / (size / 2)
      case .byPart(let partCount, let size):
        let headCount = rowCount / (partCount * size)
        let (head, part) = (row / (partCount * size), row / size % partCount)
        return (part * headCount + head) * size + row % size
      case .byGroup(let width, let groupCount, let size):
        let (group, place) = (row / size / (width + 2), row / size % (width + 2))
        let head = place < width ? group * width + place : (width + place - width) * groupCount + group
        return head * size + row % size
      }
    }
  }

  let view: TensorView
  let order: Order

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    guard !rows.isEmpty else { return }
    let rowByteCount = target.count / rows.count
    for row in rows {
      let source = order.source(of: row, rowCount: view.shape.rowCount)
      let start = (row - rows.lowerBound) * rowByteCount
      view.withRowBytes(source..<source + 1) {
        UnsafeMutableRawBufferPointer(rebasing: target[start..<start + rowByteCount]).copyMemory(from: $0)
      }
    }
  }

  // Neighbours are of other blocks: only the whole is forgotten.
  func release(_ rows: Range<Int>) {
    if rows.upperBound == view.shape.rowCount { view.release(0..<view.shape.rowCount) }
  }

  func storedByteCount(of rows: Range<Int>) -> Int { view.storedByteCount(of: rows) }
}

/// Every element of another view less a constant, in float32.
struct LessRows: RowDecoder {
  let view: TensorView
  let constant: Float

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    let target = target.bindMemory(to: Float.self)
    view.withRowBytes(rows) { Kernels.current.convert($0, from: view.elementType, to: target) }
    for index in target.indices { target[index] -= constant }
  }

  func release(_ rows: Range<Int>) { view.release(rows) }

  func storedByteCount(of rows: Range<Int>) -> Int { view.storedByteCount(of: rows) }
}
