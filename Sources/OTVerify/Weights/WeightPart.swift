import OTFoundation
import OTJSON

/// What one of several parts of a verification found of its weights: a file of JSON.
package struct WeightPart {
  private static let formatName = "otq-verification-part"
  private static let formatVersion = 1

  private let weights: WeightVerification
  /// What decides about the findings: the file, its source and the tolerance.
  private let identity: String
  private let producer: String
  private let share: WorkShare
  private let path: String

  /// A part of a verification.
  ///
  /// - Parameters:
  ///   - identity: equal for all parts of one verification alone.
  ///   - producer: name and version of the program.
  package init(_ weights: WeightVerification, identity: String, producer: String, share: WorkShare) {
    (self.weights, self.identity, self.producer, self.share, path) = (weights, identity, producer, share, "")
  }

  // MARK: The file

  /// Writes the part; the file appears whole or not at all.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  package func write(to path: String, force: Bool, inputs: [FileIdentity]) throws {
    let json = JSONValue.object([
      "format": .string(Self.formatName), "version": .integer(Self.formatVersion), "producer": .string(producer),
      "part": .integer(share.number), "parts": .integer(share.count), "identity": .string(identity),
      "notes": .array(weights.notes.map { .string($0) }), "findings": .array(weights.findings.map(\.record)),
    ])
    let file = try AtomicFile(path: path, force: force, inputs: inputs)
    try file.append(json.text().utf8)
    try file.commit()
  }

  /// Reads and checks a part.
  ///
  /// - Throws: `Refusal` with rule `verify-part`, or as reading JSON throws.
  package init(path: String) throws {
    let json = try JSONValue.parse(
      contentsOf: MappedFile(path: path), limits: JSONLimits(byteCount: 1 << 30, depth: 8))
    guard json["format"]?.string == Self.formatName, json["version"]?.integer == Self.formatVersion,
      let producer = json["producer"]?.string, let identity = json["identity"]?.string,
      let number = json["part"]?.integer, let count = json["parts"]?.integer,
      let share = WorkShare(number, of: count), let notes = json["notes"]?.array?.map(\.string), !notes.contains(nil),
      let findings = json["findings"]?.array?.map(TensorFinding.init(record:)), !findings.contains(where: { $0 == nil })
    else {
      throw Refusal(
        "verify-part", "is not a part of a verification, or is damaged", file: path,
        remedy: "make it again with 'verify --part N --of M'")
    }
    self.init(
      WeightVerification(findings: findings.compactMap { $0 }, notes: notes.compactMap { $0 }), identity: identity,
      producer: producer, share: share, path: path)
  }

  private init(
    _ weights: WeightVerification, identity: String, producer: String, share: WorkShare, path: String
  ) {
    (self.weights, self.identity, self.producer) = (weights, identity, producer)
    (self.share, self.path) = (share, path)
  }

  // MARK: Merging

  /// What one machine would have found.
  ///
  /// - Throws: `Refusal` with rule `merge-part-missing`, `merge-part`, or `merge-other-plan` for parts of another
  ///   verification.
  package static func merged(_ parts: [WeightPart], identity: String, producer: String) throws -> WeightVerification {
    for part in parts
    where part.identity != identity || part.producer != producer
      || part.share.count != parts[0].share.count
    {
      throw Refusal(
        "merge-other-plan", "is a part of the verification of another file, or by another program", file: part.path,
        remedy: "make all parts again of one file, one source and one tolerance")
    }
    try WorkShare.checkAll(parts.map(\.share), file: parts.first?.path)
    let parts = parts.sorted { $0.share.number < $1.share.number }
    return WeightVerification(
      findings: parts.flatMap(\.weights.findings), notes: parts.flatMap(\.weights.notes))
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
