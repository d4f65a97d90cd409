import OTFoundation
import OTRuntime
import OTTensor

/// Values of nodes for all samples, from one pass over the samples to the next: in memory, in a file without a name, or
/// in one that another process has left.
package struct KeptValues: Sendable {
  private enum Place: Sendable {
    case memory(Matrix)
    case file(offset: Int, rowCount: Int, channelCount: Int)
    case view(TensorView, rows: Range<Int>)
  }

  private let scratch: ScratchFile?
  private var places: [String: [Place]] = [:]
  private var fileByteCount = 0

  /// Memory in bytes that the values take.
  package private(set) var byteCount = 0

  /// No values yet; nil: they stay in memory.
  package init(in scratch: ScratchFile? = nil) { self.scratch = scratch }

  /// Values in memory: node → its value for each sample.
  package init(_ values: [String: [Matrix]]) {
    self.init()
    for (node, matrices) in values {
      places[node] = matrices.map { .memory($0) }
      byteCount += matrices.reduce(0) { $0 + $1.values.count * MemoryLayout<Float>.stride }
    }
  }

  /// Adds values of a node that are in a file: one sample's rows after the other's.
  ///
  /// - Precondition: `view` is a float32 matrix of as many rows in all.
  package mutating func append(_ view: TensorView, rowCounts: [Int], of node: String) {
    var first = 0
    for count in rowCounts {
      places[node, default: []].append(.view(view, rows: first..<first + count))
      first += count
    }
    precondition(first == view.shape.rowCount && view.elementType == .f32)
  }

  /// The nodes that have values.
  package var nodes: Set<String> { Set(places.keys) }

  /// Samples that a node has values for.
  package func sampleCount(of node: String) -> Int { places[node]?.count ?? 0 }

  /// Adds the value of a node for its next sample.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package mutating func append(_ value: Matrix, of node: String) throws {
    guard let scratch else {
      places[node, default: []].append(.memory(value))
      byteCount += value.values.count * MemoryLayout<Float>.stride
      return
    }
    try value.values.withUnsafeBytes { try scratch.write($0, at: fileByteCount) }
    places[node, default: []].append(
      .file(offset: fileByteCount, rowCount: value.rowCount, channelCount: value.channelCount))
    fileByteCount += value.values.count * MemoryLayout<Float>.stride
  }

  /// The value of a node for a sample.
  ///
  /// - Throws: `Refusal` with rule `run-given` where there is none, or `scratch-unwritable`.
  package func matrix(of node: String, sample: Int) throws -> Matrix {
    guard let all = places[node], all.indices.contains(sample) else {
      throw Refusal("run-given", "no value of '\(node)' is kept for sample \(sample)")
    }
    switch all[sample] {
    case .memory(let matrix): return matrix
    case .file(let offset, let rowCount, let channelCount):
      guard let scratch else { preconditionFailure("written to a file") }
      let values = try [Float](unsafeUninitializedCapacity: rowCount * channelCount) { buffer, count in
        try scratch.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
        count = rowCount * channelCount
      }
      return Matrix(rowCount: rowCount, channelCount: channelCount, values: values)
    case .view(let view, let rows):
      let channelCount = view.shape.rowElementCount
      let values = view.withRowBytes(rows) { bytes in
        [Float](unsafeUninitializedCapacity: rows.count * channelCount) { buffer, count in
          UnsafeMutableRawBufferPointer(buffer).copyMemory(from: bytes)
          count = rows.count * channelCount
        }
      }
      view.release(rows)
      return Matrix(rowCount: rows.count, channelCount: channelCount, values: values)
    }
  }
}
