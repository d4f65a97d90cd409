import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTRuntime
import OTVerify

/// The parts of a verification: the one that is made, or those that are put together.
struct VerificationParts {
  /// What both models give on text.
  struct Observed {
    let run: RunObservations
    /// By the tensor's name in the file.
    let outputErrors: [String: OutputComparison.Errors]
  }

  /// What all parts together have found; nil where nothing is put together.
  private(set) var merged: (weights: WeightVerification, observed: Observed?)?
  private let identity: String
  private let options: VerifyOptions
  private let inputs: [FileIdentity]

  private static let kind = PartFile.Kind("verification", rule: "verify-part", command: "verify")

  /// Reads the parts that are to be put together, or checks that the part can be written.
  ///
  /// - Parameters:
  ///   - sequences: the tokens that the models are run on; nil: they are not run.
  ///   - inputs: files that must not be replaced.
  /// - Throws: as `PartFile`, or `Refusal` with rule `verify-part` or a rule `output-…`.
  init(
    _ options: VerifyOptions, _ file: PackedModel, _ source: SourceModel, sequences: [TokenSequence]?,
    inputs: [FileIdentity]
  ) throws {
    (self.options, self.inputs) = (options, inputs)
    let limits = try options.tolerance.map {
      try Tolerance(named: $0) == nil ? FileRecord(of: MappedFile(path: $0)).sha256 : $0
    }
    identity = try SHA256Digest.hex(
      of: Array(
        JSONValue.object([
          "file": .integer(file.container.file.byteCount), "metadata": file.container.metadata,
          "sources": .array(source.checkpoint.files.map { .integer($0.mapped.byteCount) }),
          "tolerance": limits.map { .string($0) } ?? .null, "level": .string(options.level.rawValue),
          "tokens": try sequences.map { .string(try $0.identity(of: [])) } ?? .null,
        ]).text().utf8))
    if let path { try AtomicFile.check([path], force: options.replacesOutput, inputs: inputs) }
    guard !options.merged.isEmpty else { return }
    let parts = try PartFile.inOrder(
      options.merged.map { try PartFile(path: $0, of: [Self.kind]) }, identity: identity)
    merged = (try WeightVerification(parts), sequences == nil ? nil : try Self.observed(parts))
  }

  private static func observed(_ parts: [PartFile]) throws -> Observed {
    guard let run = RunObservations.merged(try parts.map { try $0.value("run", RunObservations.init) }) else {
      throw parts[0].damaged("what it saw of the models is not of the same nodes as in the other parts")
    }
    var all: [String: OutputComparison.Errors] = [:]
    for part in parts {
      for (name, value) in try part.value("outputErrors", \.object).members {
        guard let errors = OutputComparison.Errors(value), all.updateValue(errors, forKey: name) == nil else {
          throw part.damaged("its errors of '\(Refusal.printable(name))' are damaged, or another part's, too")
        }
      }
    }
    return Observed(run: run, outputErrors: all)
  }

  private var path: String? {
    options.share.flatMap { share in options.part.map { "\($0).part-\(share.number)" } }
  }

  /// Writes the part, where there is one to write.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  func write(_ weights: WeightVerification, _ observed: Observed?) throws {
    guard let path, let share = options.share else { return }
    var content = weights.content
    if let observed {
      content["run"] = observed.run.json
      content["outputErrors"] = .object(
        observed.outputErrors.sorted { $0.key < $1.key }.reduce(into: JSONObject()) { $0[$1.key] = $1.value.json })
    }
    try PartFile(Self.kind, identity: identity, share: share, content: content)
      .write(to: path, force: options.replacesOutput, inputs: inputs)
  }
}
