import OTJSON

/// Biases on the products of queries and keys by the distance of their tokens, for ranges of distances.
package struct DistanceTable: Sendable, Hashable {
  /// The biases, `[2 · ranges, heads]`: a row for each range of distances of keys at or before the query, then one
  /// for each of keys behind it.
  package let table: SourceTensor
  /// The least distance of each range, from 0 on; the last one has no end.
  package let starts: [Int]

  /// Biases of `table`.
  package init(table: SourceTensor, starts: [Int]) { (self.table, self.starts) = (table, starts) }

  /// The row of the table for a key that is `distance` tokens behind the query, or before it where that is negative.
  package func row(of distance: Int) -> Int {
    let range = (starts.lastIndex { $0 <= abs(distance) } ?? 0)
    return distance > 0 ? starts.count + range : range
  }
}

extension DistanceTable {
  /// The most ranges of a table.
  private static let maximumCount = 1 << 16

  func validate() throws {
    try OperationFault.require(
      starts.first == 0 && starts.count <= DistanceTable.maximumCount && zip(starts, starts.dropFirst()).allSatisfy(<)
        && starts.allSatisfy { $0 <= GraphValidation.maximumSize },
      "ranges of distances do not begin with 0 or do not follow each other")
  }

  var json: JSONValue {
    .object([
      "kind": .string("distances"), "table": table.json, "starts": .array(starts.map { .integer($0) }),
    ])
  }

  init(reader: GraphReader) throws {
    let starts = try reader.elements("starts").map { value in
      guard let start = value.integer else { throw reader.refusal("'starts' has an entry that is not an integer") }
      return start
    }
    self.init(table: try reader.tensor("table"), starts: starts)
  }
}
