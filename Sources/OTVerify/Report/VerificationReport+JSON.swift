import OTGraph
import OTJSON
import OTObservation

extension VerificationReport {
  /// All figures. Numbers that JSON cannot hold (infinities, NaN) are null.
  package var json: JSONValue {
    var members: JSONObject = [
      "file": .string(path), "level": .string(level), "passed": .bool(hasPassed),
      "faults": .array(faults.map { .string($0) }),
      "notes": .array(weights.notes.map { .string($0) }),
      "tensors": .array(weights.findings.map(\.json)),
    ]
    if !tasks.isEmpty { members["tasks"] = .array(tasks.map(\.json)) }
    guard let run else { return .object(members) }
    members["scheme"] = .string(run.scheme.name)
    if let text {
      members["text"] = .object([
        "source": .string(text.source), "sequenceCount": .integer(text.sequenceCount),
        "tokenCount": .integer(text.tokenCount),
      ])
    }
    members["layers"] = .array(run.layers.map(\.json))
    members["sites"] = .array(run.sites.map(\.json))
    members["model"] = run.model?.json
    return .object(members)
  }
}

extension JSONValue {
  fileprivate static func list(_ values: [Float]) -> JSONValue { .array(values.map { .finite(Double($0)) }) }
}

extension TensorFinding {
  fileprivate var json: JSONValue {
    var entry: JSONObject = [
      "name": .string(name), "storage": .string(storage), "maximumError": .finite(maximumError),
      "faults": .array(faults.map { .string($0) }),
    ]
    if let sqnrDecibels { entry["sqnrDecibels"] = .finite(sqnrDecibels) }
    if let outputErrors { entry["outputErrorRatio"] = .finite(outputErrors.ratio) }
    return .object(entry)
  }
}

extension LayerFinding {
  fileprivate var json: JSONValue {
    var entry: JSONObject = [
      "name": .string(name), "kind": .string(kind.rawValue), "scheme": .string(scheme),
      "block": place.block.map { .integer($0) } ?? .null, "relativeError": .finite(error.relativeError),
      "meanSquaredError": .finite(error.meanSquaredError), "cosine": .finite(error.cosine),
      "sqnrDecibels": .finite(error.sqnrDecibels),
    ]
    if let weightBits { entry["weightBits"] = .integer(weightBits) }
    if let activationBits { entry["activationBits"] = .integer(activationBits) }
    if let worst = error.worstChannel {
      entry["worstChannel"] = .object([
        "index": .integer(worst.index), "relativeError": .finite(worst.relativeError),
      ])
    }
    entry["faults"] = .array(faults.map { .string($0) })
    return .object(entry)
  }
}

extension TaskFinding {
  fileprivate var json: JSONValue {
    var entry: JSONObject = [
      "task": .string(task), "data": .string(data), "itemCount": .integer(itemCount),
      "figures": .object(
        figures.reduce(into: JSONObject()) { members, figure in
          var values: JSONObject = ["packed": .finite(figure.packed), "source": .finite(figure.source)]
          values["standardError"] = figure.standardError.map(JSONValue.finite)
          members[figure.name] = .object(values)
        }),
    ]
    if let flips {
      entry["gained"] = .integer(flips.gained)
      entry["lost"] = .integer(flips.lost)
      entry["changed"] = .integer(flips.changed)
      entry["mcNemarP"] = .finite(flips.p)
    }
    return .object(entry)
  }
}

extension SiteFinding {
  fileprivate var json: JSONValue {
    func ranges(_ ranges: ChannelRanges) -> JSONValue {
      .object(["minima": .list(ranges.minima), "maxima": .list(ranges.maxima)])
    }
    var entry: JSONObject = [
      "producer": .string(site.producer), "consumers": .array(site.consumers.map { .string($0) }),
      "quantization": .string(quantization.storageDescription), "outlierRatio": .finite(sourceRanges.outlierRatio),
      "source": ranges(sourceRanges),
    ]
    if let rotation { entry["rotationBlock"] = .integer(rotation.blockSize) }
    if !trials.isEmpty {
      entry["trials"] = .object(trials.reduce(into: JSONObject()) { $0[$1.method] = .finite($1.error) })
      entry["chosen"] = chosenMethod.map { .string($0) } ?? .null
    }
    if let errors {
      var members: JSONObject = [
        "activation": .finite(errors.activation), "weight": .finite(errors.weight), "output": .finite(errors.output),
      ]
      members["untransformedOutput"] = errors.untransformedOutput.map(JSONValue.finite)
      entry["errors"] = .object(members)
    }
    if transform.shift != nil { entry["symmetrized"] = ranges(shiftedRanges) }
    entry["packed"] = ranges(packedRanges)
    if case .static = quantization { entry["clippedCount"] = .integer(clippedCount) }
    entry["valueCount"] = .integer(valueCount)
    return .object(entry)
  }
}

extension ModelFinding {
  fileprivate var json: JSONValue {
    var entry: JSONObject = [:]
    if let perplexity {
      entry["perplexity"] = .finite(perplexity.packed)
      entry["referencePerplexity"] = .finite(perplexity.source)
      entry["perplexityRatio"] = .finite(perplexity.ratio)
      entry["perplexityRatioStandardError"] = .finite(perplexity.standardError)
      entry["predictedTokenCount"] = .integer(perplexity.tokenCount)
    }
    DistancesJSON(divergence: divergence, similarities: similarities).add(to: &entry)
    entry["faults"] = .array(
      faults.map { .object(["figure": .string($0.figure), "message": .string($0.message)]) })
    return .object(entry)
  }
}
