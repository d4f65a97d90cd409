import OTJSON

/// A table of vectors, one row per ID.
package struct Embedding: Sendable, Hashable {
  /// The table, `[rowCount, size]`.
  package let table: SourceTensor
  /// Rows of the table, those before `rowOffset` included.
  package let rowCount: Int
  /// Channels of a row.
  package let size: Int
  /// Added to an ID to give its row (2 for OPT's positions).
  package let rowOffset: Int

  /// An embedding that looks rows up in the tensor `table`.
  package init(table: SourceTensor, rowCount: Int, size: Int, rowOffset: Int = 0) {
    self.table = table
    self.rowCount = rowCount
    self.size = size
    self.rowOffset = rowOffset
  }
}

extension Embedding: OperationBody {
  var name: String { "embedding" }
  var kind: Operation.Kind { .embedding }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireSizes(rowCount, size)
    try OperationFault.require(inputs[0] == 0, "needs IDs, not values")
    try OperationFault.require((0..<rowCount).contains(rowOffset), "the row offset leaves no row")
    return size
  }

  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter] {
    [OperationParameter(role: .table, tensor: table, dimensions: [rowCount, size])]
  }

  func write(to object: inout JSONObject) {
    object["table"] = table.json
    object["rowCount"] = .integer(rowCount)
    object["size"] = .integer(size)
    object["rowOffset"] = .integer(rowOffset)
  }

  init(reader: GraphReader) throws {
    self.init(
      table: try reader.tensor("table"), rowCount: try reader.integer("rowCount"), size: try reader.integer("size"),
      rowOffset: try reader.integer("rowOffset"))
  }
}
