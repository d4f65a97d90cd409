import OTExport
import OTFoundation
import OTJSON
import OTModel
import OTTensor

/// A conversion that several machines share: a file that says what each part makes, `formats/plan.md`.
package struct PartedPlan: Sendable {
  private static let formatName = "otq-plan"
  private static let formatVersion = 1
  /// The most parts.
  package static let maximumPartCount = 100_000

  /// The checkpoint.
  package let input: String
  /// The file that the parts make up.
  package let output: String
  /// Options as `convert` takes them, without those that the recipe stands for.
  package let options: [String: [String]]
  /// The number of parts.
  package let partCount: Int
  /// The file of decisions; nil for a model without a graph.
  package let recipe: FileRecord?
  /// The program that planned; parts and whole are made by the same.
  let producer: String
  /// The tensors in the order of writing, each with its part, from 0.
  let tensors: [(name: String, part: Int)]
  /// The digest of the tensors' names, shapes and storage.
  let tensorsDigest: String
  /// The files that the whole remembers: those of the checkpoint, of which a digest is taken with a part, then others.
  let sources: [FileRecord]
  /// The files of the checkpoint among them.
  let checkpointFileCount: Int
  /// The digests of the checkpoint's files that statistics or a recipe were made of, sorted; nil: none say.
  let expectedDigests: [String]?
  /// The metadata of the whole, without sources.
  let record: JSONObject
  /// The plan's file and its digest; nil before it is written.
  package private(set) var file: (path: String, sha256: String)?

  /// The parts of a plan.
  ///
  /// - Throws: as reading the files beside the checkpoint throws.
  package init(
    _ plan: ConversionPlan, from input: String, to output: String, options: [String: [String]], partCount: Int,
    recipe: FileRecord?
  ) throws {
    let checkpointFiles = plan.checkpoint.files.map {
      FileRecord(name: $0.name, byteCount: $0.mapped.byteCount, sha256: "")
    }
    let others = try Converter.otherSources(of: plan).map { try FileRecord(of: $0.file, name: $0.name) }
    self.input = input
    self.output = output
    self.options = options
    self.partCount = partCount
    self.recipe = recipe
    producer = Converter.producer
    let parts = ConversionParts(plan.tensors, count: partCount, sites: plan.roundedSites.map(\.consumers)).parts
    tensors = zip(plan.tensors, parts).map { ($0.outputName, $1) }
    tensorsDigest = try PartedPlan.digest(plan.tensors)
    sources = checkpointFiles + others
    checkpointFileCount = checkpointFiles.count
    expectedDigests = (plan.calibration?.file.map { _ in plan.calibration?.sources ?? [] } ?? plan.keptRecipe?.sources)
      .map { $0.map(\.sha256).sorted() }
    record = Converter(plan).metadata(sources: .array([]))
  }

  private static func digest(_ tensors: [PlannedTensor]) throws -> String {
    let lines = tensors.map { tensor in
      let exported = tensor.exported
      let storage =
        switch exported.content {
        case .quantized(let scheme, let rounding): "\(scheme.text), \(rounding.name)"
        case .plain(let type): type.rawValue
        case .alias(let target): "as \(target)"
        }
      return "\(tensor.outputName)\t\(tensor.shape)\t\(storage)\n"
    }
    return try SHA256Digest.hex(of: Array(lines.joined().utf8))
  }

  // MARK: Parts

  /// The file of a part, from 0; people count from 1.
  package func path(ofPart part: Int) -> String { "\(output).part-\(part + 1)" }

  /// The file of values that a part, from 0, leaves for the next.
  func valuesPath(ofPart part: Int) -> String { path(ofPart: part) + ".values" }

  /// The command that makes a part, from 0.
  func command(forPart part: Int) -> String { "otconvert convert --plan '\(file?.path ?? "")' --part \(part + 1)" }

  /// The samples by which weights are rounded; nil: they are not rounded by text.
  var roundingRun: JSONValue? { record["method"]?["rounding"]?["run"] }

  /// True when weights are rounded by what the network gives on text, so that each part goes on from the one before.
  package var isSequential: Bool { roundingRun != nil }

  /// The names of a part's tensors, in the order of writing.
  func names(ofPart part: Int) -> [String] { tensors.filter { $0.part == part }.map(\.name) }

  /// Checks that a plan that was made anew is this one.
  ///
  /// - Throws: `Refusal` with rule `plan-differs` or `plan-source-changed`.
  func check(_ plan: ConversionPlan) throws {
    func refuse(_ what: String) -> Refusal {
      refusal("plan-differs", "\(what) differs from what was planned", remedy: "plan again, with this program")
    }
    guard producer == Converter.producer else { throw refuse("the program, \(Converter.producer),") }
    guard try PartedPlan.digest(plan.tensors) == tensorsDigest, plan.tensors.map(\.outputName) == tensors.map(\.name)
    else { throw refuse("what would be written") }
    guard plan.graph.map(\.json) ?? .null == record["graph"] ?? .null else { throw refuse("the graph") }
    let files = plan.checkpoint.files.map { ($0.name, $0.mapped.byteCount) }
    guard files.count == checkpointFileCount, zip(files, sources).allSatisfy({ $0 == ($1.name, $1.byteCount) }) else {
      throw refusal(
        "plan-source-changed", "the checkpoint's files have other names or sizes than when it was planned", file: input,
        remedy: "plan again")
    }
  }

  func refusal(_ rule: String, _ message: String, file: String? = nil, remedy: String) -> Refusal {
    Refusal(rule, message, file: file ?? self.file?.path, remedy: remedy)
  }
}

// MARK: - The file

extension PartedPlan {
  /// Writes the plan; the file appears whole or not at all.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  package mutating func write(to path: String, force: Bool, inputs: [FileIdentity]) throws {
    let named = options.sorted { $0.key < $1.key }.reduce(into: JSONObject()) { members, option in
      members[option.key] = .array(option.value.map { .string($0) })
    }
    var members: JSONObject = [
      "format": .string(Self.formatName), "version": .integer(Self.formatVersion), "producer": .string(producer),
      "input": .string(input), "output": .string(output), "options": .object(named), "parts": .integer(partCount),
    ]
    members["recipe"] = recipe?.json
    let rest: JSONObject = [
      "sources": .array(sources.map(\.json)), "checkpointFiles": .integer(checkpointFileCount),
      "expectedDigests": expectedDigests.map { .array($0.map { .string($0) }) } ?? .null,
      "tensors": .array(tensors.map { .array([.string($0.name), .integer($0.part)]) }),
      "tensorsDigest": .string(tensorsDigest), "record": .object(record),
    ]
    for (key, value) in rest.members { members[key] = value }
    let text = Array(JSONValue.object(members).text().utf8)
    let output = try AtomicFile(path: path, force: force, inputs: inputs)
    try output.append(text)
    try output.commit()
    file = (path, try SHA256Digest.hex(of: text))
  }

  /// Reads and checks a plan.
  ///
  /// - Throws: `Refusal` with rule `plan-format`, `plan-version` or `plan-damaged`, or as reading JSON throws.
  package init(path: String) throws { try self.init(MappedFile(path: path)) }

  /// Reads and checks a plan that is mapped.
  ///
  /// - Throws: as `init(path:)`.
  package init(_ mapping: MappedFile) throws {
    let path = mapping.path
    let json = try JSONValue.parse(contentsOf: mapping, limits: JSONLimits(byteCount: 1 << 30, depth: 64))
    guard json["format"]?.string == Self.formatName else {
      throw Refusal(
        "plan-format", "is not a plan", file: path, remedy: "'otconvert plan IN OUT --parts N -o PLAN' writes plans")
    }
    guard json["version"]?.integer == Self.formatVersion else {
      throw Refusal(
        "plan-version", "is of a version that is not read", file: path, remedy: "plan again, with this program")
    }
    func damaged(_ key: String) -> Refusal {
      Refusal("plan-damaged", "its member '\(key)' is missing or invalid", file: path, remedy: "plan again")
    }
    func text(_ key: String) throws -> String {
      guard let value = json[key]?.string else { throw damaged(key) }
      return value
    }
    func integer(_ key: String, _ range: ClosedRange<Int>) throws -> Int {
      guard let value = json[key]?.integer, range.contains(value) else { throw damaged(key) }
      return value
    }
    func list<Element>(_ key: String, _ read: (JSONValue) -> Element?) throws -> [Element] {
      guard let values = json[key]?.array else { throw damaged(key) }
      return try values.map { value in
        guard let element = read(value) else { throw damaged(key) }
        return element
      }
    }
    input = try text("input")
    output = try text("output")
    producer = try text("producer")
    partCount = try integer("parts", 1...Self.maximumPartCount)
    guard let named = json["options"]?.object else { throw damaged("options") }
    var options: [String: [String]] = [:]
    for (key, value) in named.members {
      let texts = value.array?.compactMap(\.string) ?? []
      guard texts.count == value.array?.count else { throw damaged("options") }
      options[key] = texts
    }
    self.options = options
    recipe = try json["recipe"].map { value in
      guard let record = FileRecord(json: value), PartedPlan.isPlain(record.name) else { throw damaged("recipe") }
      return record
    }
    sources = try list("sources", FileRecord.init(json:))
    checkpointFileCount = try integer("checkpointFiles", 1...max(1, sources.count))
    let partCount = partCount
    tensors = try list("tensors") { value in
      guard let entry = value.array, entry.count == 2, let name = entry[0].string, let part = entry[1].integer,
        (0..<partCount).contains(part)
      else { return nil }
      return (name, part)
    }
    tensorsDigest = try text("tensorsDigest")
    expectedDigests = json["expectedDigests"] == .null ? nil : try list("expectedDigests", \.string)
    guard let record = json["record"]?.object else { throw damaged("record") }
    self.record = record
    file = (path, try SHA256Digest.hex(of: mapping))
  }

  private static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && !name.contains("/") && !name.utf8.contains(0)
  }

  /// The file of decisions, once its digest is right.
  ///
  /// - Throws: `Refusal` with rule `plan-recipe` for another file, or as reading it throws.
  package func recipePath() throws -> String? {
    guard let recipe, let file else { return nil }
    let path = file.path.parentPath.appendingPathComponent(recipe.name)
    guard try SHA256Digest.hex(of: MappedFile(path: path)) == recipe.sha256 else {
      throw refusal("plan-recipe", "is not the file that was written with the plan", file: path, remedy: "plan again")
    }
    return path
  }
}
