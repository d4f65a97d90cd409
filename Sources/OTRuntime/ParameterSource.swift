import OTGraph

/// Where an executor gets the parameters of a graph: already transformed, in
/// float32, a range of rows at a time, so that no tensor need be whole in memory.
public protocol ParameterSource: Sendable {
  /// Rows `rows` of the parameter `use`, transformed as `ParameterUse` says, row-major.
  ///
  /// Called from several threads at once. Vectors have as many rows as entries.
  ///
  /// - Throws: `Refusal` when the tensor is absent, unreadable or not as the graph says.
  func values(of use: ParameterUse, rows: Range<Int>) throws -> [Float]

  /// Reads one row of the parameter `use`; as `values(of:rows:)`.
  func read(_ use: ParameterUse, row: Int, into target: UnsafeMutableBufferPointer<Float>) throws
}

extension ParameterSource {
  /// Reads one row by way of an array.
  public func read(_ use: ParameterUse, row: Int, into target: UnsafeMutableBufferPointer<Float>) throws {
    _ = target.update(fromContentsOf: try values(of: use, rows: row..<row + 1))
  }

  /// The whole parameter, row-major.
  ///
  /// - Throws: as `values(of:rows:)`.
  public func values(of use: ParameterUse) throws -> [Float] {
    try values(of: use, rows: 0..<use.shape.rowCount)
  }
}
