import OTFoundation
import OTJSON

extension Tolerance {
  /// Reads `formats/tolerance.md`; members that are missing keep their default.
  ///
  /// - Throws: `Refusal` with rule `tolerance-unknown` or `tolerance-value`.
  package init(json: JSONValue, file: String) throws {
    self.init()
    let reader = ToleranceReader(file: file)
    try reader.forEach(of: json, in: nil, known: Tolerance.knownMembers) { key, value in
      switch key {
      case "maximumErrorInSteps": maximumErrorInSteps = try reader.number(value, key, 0...255)
      case "maximumRelativeError": maximumRelativeError = try reader.number(value, key, 0...1e6)
      case "maximumOutputErrorRatio": maximumOutputErrorRatio = try reader.number(value, key, 0...1e6)
      case "minimumSqnrDecibels": try reader.byBits(value, key, into: &minimumSQNRDecibels)
      case "layers": try readLayers(value, reader)
      default: try readModel(value, reader)
      }
    }
  }

  static let knownMembers = [
    "maximumErrorInSteps", "minimumSqnrDecibels", "maximumOutputErrorRatio", "maximumRelativeError", "layers", "model",
  ]

  private mutating func readLayers(_ json: JSONValue, _ reader: ToleranceReader) throws {
    let known = ["maximumRelativeError", "minimumCosine"]
    try reader.forEach(of: json, in: "layers", known: known) { key, value in
      switch key {
      case "maximumRelativeError": try reader.limit(value, "layers.\(key)", 0...1e6, into: &maximumLayerError)
      default: try reader.limit(value, "layers.\(key)", -1...1, into: &minimumLayerCosine)
      }
    }
  }

  private mutating func readModel(_ json: JSONValue, _ reader: ToleranceReader) throws {
    let known = ["maximumPerplexityRatio", "maximumMeanDivergence", "minimumTop1Agreement", "minimumCosine"]
    try reader.forEach(of: json, in: "model", known: known) { key, value in
      let name = "model.\(key)"
      switch key {
      case "maximumPerplexityRatio": try reader.limit(value, name, 0...1e6, into: &maximumPerplexityRatio)
      case "maximumMeanDivergence": try reader.limit(value, name, 0...1e6, into: &maximumMeanDivergence)
      case "minimumTop1Agreement": try reader.limit(value, name, 0...1, into: &minimumTop1Agreement)
      default: try reader.limit(value, name, -1...1, into: &minimumOutputCosine)
      }
    }
  }
}

/// Reads the members of a tolerance file, and refuses what it does not know.
private struct ToleranceReader {
  let file: String

  func forEach(
    of json: JSONValue, in parent: String?, known: [String], _ body: (String, JSONValue) throws -> Void
  ) throws {
    guard let object = json.object else {
      throw Refusal("tolerance-value", "\(parent.map { "'\($0)' " } ?? "")is not an object", file: file)
    }
    for (key, value) in object.members {
      guard known.contains(key) else {
        let name = parent.map { "\($0).\(key)" } ?? key
        throw Refusal(
          "tolerance-unknown", "'\(name)' is not a tolerance", file: file,
          remedy: "known\(parent.map { " in '\($0)'" } ?? ""): \(known.joined(separator: ", "))")
      }
      try body(key, value)
    }
  }

  func number(_ value: JSONValue, _ key: String, _ range: ClosedRange<Double>) throws -> Double {
    guard let number = value.double else { throw Refusal("tolerance-value", "'\(key)' is not a number", file: file) }
    guard range.contains(number) else {
      throw Refusal(
        "tolerance-value", "'\(key)' is \(number), not between \(range.lowerBound) and \(range.upperBound)", file: file)
    }
    return number
  }

  /// A number for all bits, or an object of numbers by bits.
  func byBits(_ value: JSONValue, _ key: String, into limits: inout [Int: Double]) throws {
    guard let object = value.object else {
      let least = try number(value, key, -1000...1000)
      for bits in 2...8 { limits[bits] = least }
      return
    }
    for (bits, value) in object.members {
      guard let bits = Int(bits), (2...8).contains(bits) else {
        throw Refusal("tolerance-value", "'\(bits)' is not a number of bits", file: file)
      }
      limits[bits] = try number(value, key, -1000...1000)
    }
  }

  /// A number for all schemes, or an object of numbers by scheme.
  func limit(
    _ value: JSONValue, _ key: String, _ range: ClosedRange<Double>, into limit: inout SchemeLimit
  ) throws {
    guard let object = value.object else {
      limit.all = try number(value, key, range)
      return
    }
    for (name, value) in object.members {
      guard let scheme = ModelScheme(name: name) else {
        throw Refusal(
          "tolerance-value", "'\(name)' in '\(key)' is not a scheme", file: file,
          remedy: "schemes are like w6a6-static, w8a8-dynamic and w6a16, with bits from 2 to 8, or 16 for floats")
      }
      limit.byScheme[scheme] = try number(value, key, range)
    }
  }
}
