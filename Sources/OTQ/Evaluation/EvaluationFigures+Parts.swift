import OTFoundation
import OTJSON
import OTRuntime

// What one of several parts of an evaluation has measured: the loss and the divergence of every token, so that all parts
// together give the figures of one machine, bit for bit.
extension EvaluationFigures {
  /// Parts of windows.
  package static let partKind = PartFile.Kind("evaluation", rule: "evaluation-part", command: "eval")

  /// What the part's file holds.
  package var content: JSONObject {
    var members: JSONObject = ["model": .string(model)]
    members["reference"] = reference.map { .string($0) }
    members["isCausal"] = .bool(isCausal)
    members["scores"] = scores.map { .string($0) }
    members["scoreCount"] = scoreCount.map { .integer($0) }
    func list(_ values: [Double]) -> JSONValue { .array(values.map { .number($0) }) }
    let rest: JSONObject = [
      "losses": list(likelihood.losses), "referenceLosses": list(referenceLikelihood.losses),
      "divergences": list(comparison.divergences), "agreementCount": .integer(comparison.agreementCount),
      "labels": .array(labels.map { .integer($0) }), "chosenLabels": .array(chosenLabels.map { .integer($0) }),
      "windowCount": .integer(windowCount), "tokenCount": .integer(tokenCount), "seconds": .number(seconds),
    ]
    for (key, value) in rest.members { members[key] = value }
    return members
  }

  /// Reads a part.
  ///
  /// - Throws: `Refusal` with rule `evaluation-part`.
  init(_ part: PartFile) throws {
    self.init(
      model: try part.value("model", \.string), reference: part.content["reference"]?.string,
      isCausal: try part.value("isCausal", \.bool), scores: part.content["scores"]?.string,
      scoreCount: part.content["scoreCount"]?.integer)
    likelihood = TokenLikelihood(losses: try part.list("losses", \.double))
    referenceLikelihood = TokenLikelihood(losses: try part.list("referenceLosses", \.double))
    comparison = DistributionComparison(
      divergences: try part.list("divergences", \.double),
      agreementCount: try part.value("agreementCount", \.integer))
    labels = try part.list("labels", \.integer)
    chosenLabels = try part.list("chosenLabels", \.integer)
    windowCount = try part.value("windowCount", \.integer)
    tokenCount = try part.value("tokenCount", \.integer)
    seconds = try part.value("seconds", \.double)
    let referenceCount = referenceLikelihood.losses.count
    guard referenceCount == 0 || referenceCount == likelihood.losses.count, labels.count == chosenLabels.count
    else { throw part.damaged("its lists differ in length") }
  }

  /// What one machine would have measured; its speed is that of all together.
  ///
  /// - Throws: as `PartFile.inOrder`, or `Refusal` with rule `evaluation-part`.
  package static func merged(_ parts: [PartFile]) throws -> EvaluationFigures {
    let all = try PartFile.inOrder(parts).map(EvaluationFigures.init)
    return all.dropFirst().reduce(into: all[0]) { whole, next in
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
  }
}
