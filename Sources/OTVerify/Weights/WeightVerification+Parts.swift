import OTFoundation
import OTJSON

// What one of several parts of a verification found of its weights.
extension WeightVerification {
  /// What the part's file holds.
  package var content: JSONObject {
    ["notes": .array(notes.map { .string($0) }), "findings": .array(findings.map(\.record))]
  }

  /// What one machine would have found.
  ///
  /// - Parameter parts: all, in order.
  /// - Throws: `Refusal` with rule `verify-part`.
  package init(_ parts: [PartFile]) throws {
    self.init(
      findings: try parts.flatMap { try $0.list("findings", TensorFinding.init(record:)) },
      notes: try parts.flatMap { try $0.list("notes", \.string) })
  }
}

extension TensorFinding {
  /// All that was found of the weights; doubles are texts, which may be infinite.
  fileprivate var record: JSONValue {
    var members: JSONObject = [
      "name": .string(name), "storedName": .string(storedName), "storage": .string(storage),
      "maximumError": .string("\(maximumError)"), "faults": .array(faults.map { .string($0) }),
      "codeCounts": .array(codeCounts.map { .integer($0) }),
    ]
    members["sqnrDecibels"] = sqnrDecibels.map { .string("\($0)") }
    members["zeroPoint"] = zeroPoint.map { .string("\($0)") }
    return .object(members)
  }

  fileprivate init?(record: JSONValue) {
    guard let name = record["name"]?.string, let storedName = record["storedName"]?.string,
      let storage = record["storage"]?.string, let error = record["maximumError"]?.string.flatMap({ Double($0) }),
      let faults = record["faults"]?.array?.map(\.string), !faults.contains(nil),
      let counts = record["codeCounts"]?.array?.map(\.integer), !counts.contains(nil)
    else { return nil }
    self.init(
      name: name, storage: storage, sqnrDecibels: record["sqnrDecibels"]?.string.flatMap { Double($0) },
      maximumError: error, faults: faults.compactMap { $0 }, codeCounts: counts.compactMap { $0 },
      zeroPoint: record["zeroPoint"]?.string.flatMap { Double($0) }, storedName: storedName)
  }
}
