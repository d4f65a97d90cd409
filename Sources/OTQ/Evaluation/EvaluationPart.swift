import OTFoundation
import OTJSON
import OTRuntime

/// What one of several parts of an evaluation has measured: a file of JSON with the loss and the divergence of every token,
/// so that all parts together give the figures of one machine, bit for bit.
package struct EvaluationPart {
  private static let formatName = "otq-evaluation-part"
  private static let formatVersion = 1

  private let figures: EvaluationFigures
  /// What decides about the figures: windows, and sizes of the models.
  private let identity: String
  private let share: WorkShare
  private let path: String

  /// A part of an evaluation.
  ///
  /// - Parameter identity: equal for all parts of one evaluation alone.
  package init(_ figures: EvaluationFigures, identity: String, _ share: WorkShare) {
    (self.figures, self.identity, self.share, path) = (figures, identity, share, "")
  }

  // MARK: The file

  /// Writes the part; the file appears whole or not at all.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  package func write(to path: String, force: Bool, inputs: [FileIdentity]) throws {
    var members: JSONObject = [
      "format": .string(Self.formatName), "version": .integer(Self.formatVersion),
      "producer": .string("otq \(programVersion)"), "part": .integer(share.number), "parts": .integer(share.count),
      "identity": .string(identity), "model": .string(figures.model),
    ]
    members["reference"] = figures.reference.map { .string($0) }
    members["isCausal"] = .bool(figures.isCausal)
    members["scores"] = figures.scores.map { .string($0) }
    members["scoreCount"] = figures.scoreCount.map { .integer($0) }
    func list(_ values: [Double]) -> JSONValue { .array(values.map { .number($0) }) }
    let rest: JSONObject = [
      "losses": list(figures.likelihood.losses), "referenceLosses": list(figures.referenceLikelihood.losses),
      "divergences": list(figures.comparison.divergences),
      "agreementCount": .integer(figures.comparison.agreementCount),
      "labels": .array(figures.labels.map { .integer($0) }),
      "chosenLabels": .array(figures.chosenLabels.map { .integer($0) }),
      "windowCount": .integer(figures.windowCount), "tokenCount": .integer(figures.tokenCount),
      "seconds": .number(figures.seconds),
    ]
    for (key, value) in rest.members { members[key] = value }
    let file = try AtomicFile(path: path, force: force, inputs: inputs)
    try file.append(Array(JSONValue.object(members).text().utf8))
    try file.commit()
  }

  /// Reads and checks a part.
  ///
  /// - Throws: `Refusal` with rule `evaluation-part`, or as reading JSON throws.
  package init(path: String) throws {
    let json = try JSONValue.parse(
      contentsOf: MappedFile(path: path), limits: JSONLimits(byteCount: 1 << 30, depth: 8))
    func damaged(_ message: String) -> Refusal {
      Refusal("evaluation-part", message, file: path, remedy: "make it again with 'eval --part N --of M'")
    }
    guard json["format"]?.string == Self.formatName, json["version"]?.integer == Self.formatVersion,
      json["producer"]?.string == "otq \(programVersion)"
    else { throw damaged("is not a part of an evaluation by this program") }
    func value<Value>(_ key: String, _ read: (JSONValue) -> Value?) throws -> Value {
      guard let value = json[key].flatMap(read) else { throw damaged("its member '\(key)' is missing or invalid") }
      return value
    }
    func list<Element>(_ key: String, _ read: (JSONValue) -> Element?) throws -> [Element] {
      try value(key) { value in
        guard let array = value.array else { return nil }
        let elements = array.compactMap(read)
        return elements.count == array.count ? elements : nil
      }
    }
    guard let share = WorkShare(try value("part", \.integer), of: try value("parts", \.integer)) else {
      throw damaged("is no part of so many")
    }
    self.share = share
    identity = try value("identity", \.string)
    self.path = path
    var figures = EvaluationFigures(
      model: try value("model", \.string), reference: json["reference"]?.string,
      isCausal: try value("isCausal", \.bool),
      scores: json["scores"]?.string, scoreCount: json["scoreCount"]?.integer)
    figures.likelihood = TokenLikelihood(losses: try list("losses", \.double))
    figures.referenceLikelihood = TokenLikelihood(losses: try list("referenceLosses", \.double))
    figures.comparison = DistributionComparison(
      divergences: try list("divergences", \.double), agreementCount: try value("agreementCount", \.integer))
    figures.labels = try list("labels", \.integer)
    figures.chosenLabels = try list("chosenLabels", \.integer)
    figures.windowCount = try value("windowCount", \.integer)
    figures.tokenCount = try value("tokenCount", \.integer)
    figures.seconds = try value("seconds", \.double)
    let referenceCount = figures.referenceLikelihood.losses.count
    guard referenceCount == 0 || referenceCount == figures.likelihood.losses.count,
      figures.labels.count == figures.chosenLabels.count
    else { throw damaged("its lists differ in length") }
    self.figures = figures
  }

  // MARK: Merging

  /// What one machine would have measured; its speed is that of all together.
  ///
  /// - Throws: `Refusal` with rule `merge-part-missing`, `merge-part`, or `merge-other-plan` where they are not of one
  ///   evaluation.
  package static func merged(_ parts: [EvaluationPart]) throws -> EvaluationFigures {
    let parts = parts.sorted { $0.share.number < $1.share.number }
    guard let first = parts.first else { throw Refusal("merge-part-missing", "there are no parts to put together") }
    for part in parts where part.identity != first.identity || part.share.count != first.share.count {
      throw Refusal(
        "merge-other-plan", "is a part of another evaluation than \(first.path)", file: part.path,
        remedy: "make all parts of one model, with one text and the same options")
    }
    try WorkShare.checkAll(parts.map(\.share), file: first.path)
    var whole = first.figures
    for part in parts.dropFirst() {
      let next = part.figures
      whole.likelihood = TokenLikelihood(losses: whole.likelihood.losses + next.likelihood.losses)
      whole.referenceLikelihood = TokenLikelihood(
        losses: whole.referenceLikelihood.losses + next.referenceLikelihood.losses)
      whole.comparison = DistributionComparison(
        divergences: whole.comparison.divergences + next.comparison.divergences,
        agreementCount: whole.comparison.agreementCount + next.comparison.agreementCount)
      whole.labels += next.labels
      whole.chosenLabels += next.chosenLabels
      whole.windowCount += next.windowCount
      whole.tokenCount += next.tokenCount
      whole.seconds += next.seconds
    }
    return whole
  }
}
