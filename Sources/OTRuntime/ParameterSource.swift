import OTGraph

/// The source of an executor's parameters: already transformed, in
/// float32, a range of rows at a time, so that no tensor need be whole in memory.
package protocol ParameterSource: Sendable {
  /// Writes rows `rows` of the parameter `use`, transformed as `ParameterUse`
  /// says, row-major, to `target`, which has as many elements.
  ///
  /// Called from several threads at once. Vectors have as many rows as entries.
  ///
  /// - Throws: `Refusal` when the tensor is absent, unreadable or not as the graph says.
  func read(_ use: ParameterUse, rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) throws

  /// Calls `body` with these rows, where they are if the source keeps them as
  /// floats, else read into `scratch`, which has room for them.
  ///
  /// - Throws: as `read`.
  func withValues(
    of use: ParameterUse, rows: Range<Int>, scratch: UnsafeMutableBufferPointer<Float>,
    _ body: (UnsafeBufferPointer<Float>) -> Void
  ) throws
}

extension ParameterSource {
  /// Reads the rows into `scratch`.
  package func withValues(
    of use: ParameterUse, rows: Range<Int>, scratch: UnsafeMutableBufferPointer<Float>,
    _ body: (UnsafeBufferPointer<Float>) -> Void
  ) throws {
    let target = UnsafeMutableBufferPointer(rebasing: scratch[..<(rows.count * use.shape.rowElementCount)])
    try read(use, rows: rows, into: target)
    body(UnsafeBufferPointer(target))
  }

  /// Rows `rows` of the parameter `use`, row-major.
  ///
  /// - Throws: as `read`.
  package func values(of use: ParameterUse, rows: Range<Int>) throws -> [Float] {
    let count = rows.count * use.shape.rowElementCount
    return try [Float](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      try read(use, rows: rows, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
      initializedCount = count
    }
  }

  /// The whole parameter, row-major.
  ///
  /// - Throws: as `read`.
  package func values(of use: ParameterUse) throws -> [Float] {
    try values(of: use, rows: 0..<use.shape.rowCount)
  }
}
