import OTFoundation
import OTGraph
import OTJSON
import OTPlatform
import OTQuantization
import OTTensor

/// The rounding of one part's weights by what the network gives on text: it goes on from what the part before has left, and
/// leaves the same for the part after.
package struct PartRounding {
  /// What a part's file remembers of it.
  package struct Record: Sendable {
    /// The digests of the values that it went on from, and of those that it left; nil: there were none.
    let read: String?, written: String?
    /// Sites that no token reached.
    let unreached: [String]

    /// `{read, written, unreached}`.
    var json: JSONValue {
      var members: JSONObject = [:]
      members["read"] = read.map { .string($0) }
      members["written"] = written.map { .string($0) }
      if !unreached.isEmpty { members["unreached"] = .array(unreached.map { .string($0) }) }
      return .object(members)
    }
  }

  private let plan: ConversionPlan
  private let parted: PartedPlan
  private let part: Int
  /// The sites of each part, by their places among all.
  private let sites: [Range<Int>]

  /// - Parameter part: the part, from 0.
  /// - Throws: as `PartedPlan.check`.
  package init(_ plan: ConversionPlan, part: Int, of parted: PartedPlan) throws {
    try parted.check(plan)
    (self.plan, self.part, self.parted) = (plan, part, parted)
    sites = parted.sites(of: plan)
  }

  /// The part whose values this one goes on from; nil: it begins with the text.
  private var before: Int? { sites[part].isEmpty ? nil : sites[..<part].lastIndex { !$0.isEmpty } }

  /// Rounds the weights of the part, if it has some.
  ///
  /// - Parameters:
  ///   - waitSeconds: how long to wait for the part before.
  ///   - folder: has room for values, and a byte for each weight of the part.
  ///   - isWaiting: told once what is waited for.
  /// - Throws: `Refusal` with rule `part-waits` where the part before has left nothing, `plan-differs` for other samples than
  ///   those of the plan, or as rounding all weights throws.
  package func run(
    _ calibration: Calibration, samples: Calibration.Samples, waitSeconds: Int, in folder: String,
    isWaiting: (String) -> Void = { _ in }, progress: SequentialRounding.Progress? = nil
  ) throws -> (plan: ConversionPlan, record: Record) {
    guard samples.run.json == parted.roundingRun else {
      throw parted.refusal(
        "plan-differs", "the samples of text differ from those that it was planned with",
        remedy: "let every part see the same texts, or plan again")
    }
    var rounded = plan
    guard !sites[part].isEmpty else {
      rounded.roundingRun = samples.run
      return (rounded, Record(read: nil, written: nil, unreached: []))
    }
    var state = RoundingState()
    var read: String?
    if let before {
      let passed = try values(after: before, waitSeconds: waitSeconds, isWaiting)
      (state, read) = (passed.state, passed.sha256)
    }
    rounded = try calibration.rounding(
      plan, sites: sites[part], samples: samples, from: &state, in: folder, progress: progress)
    let hasNext = sites[(part + 1)...].contains { !$0.isEmpty }
    let written = hasNext ? try PassedValues.write(state, after: part, of: parted) : nil
    return (rounded, Record(read: read, written: written, unreached: rounded.rounded?.unreached ?? []))
  }

  private func values(after before: Int, waitSeconds: Int, _ isWaiting: (String) -> Void) throws -> PassedValues {
    let weights = plan.tensors.reduce(into: [String: (shape: Shape, scheme: QuantizationScheme)]()) { found, tensor in
      guard case .quantized(let scheme) = tensor.treatment, let use = tensor.use, use.role == .weight else { return }
      found[use.node] = (use.shape, scheme)
    }
    let end = ContinuousClock.now + .seconds(waitSeconds)
    var hasTold = false
    while true {
      if let passed = try PassedValues(after: before, of: parted, weights: weights) { return passed }
      guard ContinuousClock.now < end else { break }
      if !hasTold { isWaiting("part \(part + 1) waits for part \(before + 1)") }
      hasTold = true
      usleep(200_000)
    }
    throw Refusal(
      "part-waits", "part \(part + 1) goes on from the values that part \(before + 1) leaves, and they are not there",
      file: parted.valuesPath(ofPart: before),
      remedy: "make part \(before + 1) first: '\(parted.command(forPart: before))', or let this one --wait for it")
  }
}

extension ConversionPlan {
  /// The sites whose weights are rounded one after the other by what the network gives on text.
  var roundedSites: [Site] {
    guard let graph, recipe.sampledRounding != nil else { return [] }
    return SequentialRounding.sites(of: graph, weights: recipe.weights)
  }
}
