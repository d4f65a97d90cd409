import OTJSON

/// How far outputs are from another model's, as every report in JSON has it: `klMean`, `kl99thPercentile`, `klMaximum` and
/// `top1Agreement` of scores, `cosine` of other outputs by their name.
package struct DistancesJSON {
  /// Of scores.
  package var divergence: ModelFinding.Divergence?
  /// Of other outputs.
  package var similarities: [ModelFinding.Similarity]

  /// Distances to write.
  package init(divergence: ModelFinding.Divergence?, similarities: [ModelFinding.Similarity]) {
    (self.divergence, self.similarities) = (divergence, similarities)
  }

  /// The distances among an object's members; nil where a cosine is not whole.
  package init?(_ json: JSONValue) {
    if let mean = json["klMean"]?.measured, let percentile = json["kl99thPercentile"]?.measured,
      let maximum = json["klMaximum"]?.measured, let agreement = json["top1Agreement"]?.measured
    {
      divergence = .init(mean: mean, percentile99: percentile, maximum: maximum, top1Agreement: agreement)
    }
    similarities = []
    for (output, figures) in json["cosine"]?.object?.members ?? [] {
      guard let mean = figures["mean"]?.measured, let minimum = figures["minimum"]?.measured else { return nil }
      similarities.append(.init(output: output, mean: mean, minimum: minimum))
    }
  }

  /// Adds them to an object's members.
  package func add(to members: inout JSONObject) {
    if let divergence {
      members["klMean"] = .finite(divergence.mean)
      members["kl99thPercentile"] = .finite(divergence.percentile99)
      members["klMaximum"] = .finite(divergence.maximum)
      members["top1Agreement"] = .finite(divergence.top1Agreement)
    }
    guard !similarities.isEmpty else { return }
    members["cosine"] = .object(
      similarities.reduce(into: JSONObject()) {
        $0[$1.output] = .object(["mean": .finite($1.mean), "minimum": .finite($1.minimum)])
      })
  }
}
