import OTFoundation
import OTJSON
import OTPlatform

extension Configuration {
  /// The members of rotary positions, read as transformers 5 does.
  struct RotaryMembers {
    /// θ where no member says it.
    var usualTheta = 10000.0
    /// True when only a part of each head may be rotated (`partial_rotary_factor`); versions of transformers
    /// read the member otherwise for most models.
    var canBePartial = false
    /// The rotated part of each head where no member says it.
    var usualFraction = 1.0
    /// Members outside of the parameters that say θ, and the part; where there are several, they agree.
    var thetaMembers = ["rope_theta"]
    var fractionMembers = ["partial_rotary_factor"]
    /// True when neighbouring channels turn together.
    var isInterleaved = false
    /// Members of the parameters that the family reads itself.
    var otherMembers: [String] = []
    /// The length before the change of frequencies where no member says it; nil: `max_position_embeddings`.
    var usualOriginalLength: Int?
    /// Older names of rope types.
    var synonyms: [String: String] = [:]
  }

  /// The rotation of queries and keys: `rope_scaling` where it is there, as in transformers, else
  /// `rope_parameters`, else `rope_theta` alone.
  ///
  /// - Throws: `Refusal` (`family-configuration`) for what is not supported, and where versions of
  ///   transformers would read it otherwise.
  func rotary(headSize: Int, _ members: RotaryMembers = RotaryMembers()) throws -> Rotary {
    let older = try rotaryObject("rope_scaling")
    let newer = try rotaryObject("rope_parameters")
    let theta = try sameNumber(members.thetaMembers) ?? members.usualTheta
    let rotary = try rotary(older ?? newer, headSize: headSize, usualTheta: theta, members)
    if older != nil, let newer {
      let other = try self.rotary(newer, headSize: headSize, usualTheta: theta, members)
      guard rotary.theta == other.theta, rotary.dimensions == other.dimensions,
        other.scaling == .none || other.scaling == rotary.scaling
      else { throw refusal("'rope_scaling' and 'rope_parameters' contradict each other") }
    }
    return rotary
  }

  /// The number that these members state.
  private func sameNumber(_ keys: [String]) throws -> Double? {
    let stated = try keys.compactMap { key in try number(key).map { (key, $0) } }
    if let first = stated.first, let other = stated.first(where: { $0.1 != first.1 }) {
      throw refusal("'\(first.0)' and '\(other.0)' contradict each other")
    }
    return stated.first?.1
  }

  /// The object under `key`, unless it is absent, null or empty.
  func rotaryObject(_ key: String) throws -> JSONValue? {
    guard let parameters = value(key) else { return nil }
    guard let object = parameters.object else { throw refusal("'\(key)' is not an object") }
    return object.count == 0 ? nil : parameters
  }

  /// The rotation that one object of parameters describes; nil: a plain one.
  func rotary(
    _ parameters: JSONValue?, headSize: Int, usualTheta: Double, _ members: RotaryMembers = RotaryMembers()
  ) throws -> Rotary {
    let known = [
      "rope_theta", "rope_type", "type", "factor", "low_freq_factor", "high_freq_factor",
      "original_max_position_embeddings", "partial_rotary_factor", "mrope_section", "attention_factor", "beta_fast",
      "beta_slow", "mscale", "mscale_all_dim", "truncate", "short_factor", "long_factor",
    ]
    let theta = try parameters.flatMap { try number("rope_theta", in: $0) } ?? usualTheta
    let outside = try sameNumber(members.fractionMembers)
    let inside = try parameters.flatMap { try number("partial_rotary_factor", in: $0) }
    let fraction = inside ?? outside ?? members.usualFraction
    guard fraction == 1 || members.canBePartial, outside ?? fraction == fraction, fraction <= 1 else {
      throw refusal("'partial_rotary_factor' is not supported: versions of transformers read it otherwise")
    }
    let dimensions = Int(Double(headSize) * fraction)
    guard dimensions % 2 == 0 else { throw refusal("an odd number of channels cannot be rotated") }
    let scaling =
      try parameters.map { try self.scaling($0, theta: theta, dimensions: dimensions, members) } ?? Rotary.Scaling.none
    if let other = parameters?.object?.members.first(where: {
      !known.contains($0.key) && !members.otherMembers.contains($0.key) && $0.value != .null
    }) {
      let what = other.value.object == nil ? "'\(other.key)'" : "other parameters for '\(other.key)'"
      throw refusal("rotary positions with \(what) are not supported")
    }
    return Rotary(
      theta: theta, dimensions: dimensions, scaling: scaling, isInterleaved: members.isInterleaved)
  }

  private func scaling(
    _ parameters: JSONValue, theta: Double, dimensions: Int, _ members: RotaryMembers
  ) throws -> Rotary.Scaling {
    func required(_ key: String) throws -> Double {
      guard let number = try number(key, in: parameters) else {
        throw refusal("the rotary scaling lacks '\(key)'")
      }
      return number
    }
    // Nested by layer type, both are absent.
    let kind = parameters["rope_type"]?.string ?? parameters["type"]?.string ?? "default"
    switch members.synonyms[kind] ?? kind {
    case "default", "mrope": return .none
    case "linear": return .linear(factor: try required("factor"))
    case "llama3":
      let length = try originalLength(parameters, members, isRequired: true)
      return .llama3(
        factor: try required("factor"), low: try required("low_freq_factor"),
        high: try required("high_freq_factor"), contextLength: length)
    case "dynamic":
      // Within the trained length, which is the limit of this graph, it changes nothing; beyond, each length
      // has its own θ, so that keys which were rotated before would be wrong.
      _ = try required("factor")
      guard try size("max_position_embeddings") != nil else {
        throw refusal("dynamic rotary positions need 'max_position_embeddings'")
      }
      return .none
    case "yarn": return try yarn(parameters, members, theta: theta, dimensions: dimensions)
    case "longrope": return try longrope(parameters, members, dimensions: dimensions)
    case let kind: throw refusal("rotary positions of type '\(kind)' are not supported")
    }
  }

  /// The length before the change of frequencies: as in transformers the configuration's own, else that of the
  /// parameters, else `max_position_embeddings`.
  private func originalLength(
    _ parameters: JSONValue, _ members: RotaryMembers, isRequired: Bool = false
  ) throws -> Int {
    let key = "original_max_position_embeddings"
    let inside = try number(key, in: parameters)
    let outside = try number(key) ?? members.usualOriginalLength.map { Double($0) }
    let whole = isRequired ? nil : try number("max_position_embeddings")
    guard let length = inside ?? outside ?? whole else {
      throw refusal("the rotary scaling lacks '\(key)'")
    }
    guard outside ?? length == length else { throw refusal("'\(key)' is there twice, with two values") }
    guard let count = Int(exactly: length) else { throw refusal("'\(key)' is not an integer") }
    return count
  }

  /// `factor`, or the ratio of the lengths.
  private func stretch(_ parameters: JSONValue, _ original: Double) throws -> Double {
    let ratio = try number("max_position_embeddings").map { $0 / original }
    guard let factor = try number("factor", in: parameters) ?? ratio else {
      throw refusal("the rotary scaling lacks 'factor'")
    }
    return factor
  }

  /// LongRoPE (Ding et al., arXiv:2402.13753): frequencies are divided by one list or the other.
  private func longrope(
    _ parameters: JSONValue, _ members: RotaryMembers, dimensions: Int
  ) throws -> Rotary.Scaling {
    let original = try originalLength(parameters, members)
    let factor = try stretch(parameters, Double(original))
    func list(_ key: String) throws -> [Double] {
      let numbers = parameters[key]?.array?.compactMap(\.double) ?? []
      guard numbers.count == dimensions / 2, numbers.count == parameters[key]?.array?.count,
        numbers.allSatisfy({ $0.isFinite && $0 > 0 })
      else { throw refusal("'\(key)' is no list of \(dimensions / 2) positive numbers") }
      return numbers
    }
    let (short, long) = (try list("short_factor"), try list("long_factor"))
    let usual = factor <= 1 ? 1 : (1 + log(factor) / log(Double(original))).squareRoot()
    let amplitude = try number("attention_factor", in: parameters) ?? usual
    if let limit = try size("max_position_embeddings"), limit <= original {
      return .divided(by: short, amplitude: amplitude)
    }
    return .longrope(short: short, long: long, contextLength: original, amplitude: amplitude)
  }

  /// YaRN (Peng et al., arXiv:2309.00071): frequencies whose waves turn often within the original length are
  /// kept, those that hardly turn are divided by `factor`, between them it is blended (equations 17 to 23).
  private func yarn(
    _ parameters: JSONValue, _ members: RotaryMembers, theta: Double, dimensions: Int
  ) throws -> Rotary.Scaling {
    let original = Double(try originalLength(parameters, members))
    let factor = try stretch(parameters, original)
    func magnitude(_ weight: Double) -> Double { factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1 }
    var amplitude = magnitude(1)
    if let stated = try number("attention_factor", in: parameters) {
      amplitude = stated
    } else if let mscale = try number("mscale", in: parameters, allowsZero: true),
      let all = try number("mscale_all_dim", in: parameters, allowsZero: true), mscale > 0, all > 0
    {
      amplitude = magnitude(mscale) / magnitude(all)
    }
    var truncates = true
    if let stated = parameters["truncate"], stated != .null {
      guard let flag = stated.bool else { throw refusal("'truncate' is neither true nor false") }
      truncates = flag
    }
    guard theta > 1 else { throw refusal("'rope_theta' is not above 1") }
    func pair(_ turns: Double) -> Double {
      Double(dimensions) * log(original / (turns * 2 * .pi)) / (2 * log(theta))
    }
    var low = pair(try number("beta_fast", in: parameters) ?? 32)
    var high = pair(try number("beta_slow", in: parameters) ?? 1)
    if truncates { (low, high) = (low.rounded(.down), high.rounded(.up)) }
    (low, high) = (max(low, 0), min(high, Double(dimensions - 1)))
    if low == high { high += 0.001 }
    let divisors = (0..<dimensions / 2).map { index in
      let ramp = min(max((Double(index) - low) / (high - low), 0), 1)
      return 1 / (ramp / factor + (1 - ramp))
    }
    return .divided(by: divisors, amplitude: amplitude)
  }
}
