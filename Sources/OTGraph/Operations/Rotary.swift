import OTJSON
import OTPlatform

/// Rotary position embedding (Su et al., arXiv:2104.09864): channels `i` and
/// `i + dimensions/2` of a head, or `2i` and `2i + 1`, turn by `position·frequency(i)`.
package struct Rotary: Sendable, Hashable {
  /// Base: unscaled `frequency(i) = theta^(−2i/dimensions)`.
  package let theta: Double
  /// Rotated channels of a head, from its first; even. 0 where the head size
  /// is unknown.
  package let dimensions: Int
  /// The change of frequencies for long contexts.
  package let scaling: Scaling
  /// True when the channels that turn together are neighbours, as in the paper and in GPT-J.
  package let isInterleaved: Bool
  /// The growth of queries with the position; nil: none.
  package let queryGrowth: QueryGrowth?

  /// Queries at position p are multiplied by `1 + rate·log(1 + ⌊p / length⌋)`: Llama 4 and Ministral 3.
  package struct QueryGrowth: Sendable, Hashable {
    /// The factor of the logarithm; positive.
    package let rate: Double
    /// Positions of a step; positive.
    package let length: Int

    /// A growth by steps of `length` positions.
    package init(rate: Double, length: Int) { (self.rate, self.length) = (rate, length) }

    /// The factor at a position.
    package func factor(at position: Int) -> Double { 1 + rate * log(Double(1 + position / length)) }
  }

  /// The rotation of keys: that of queries without the growth.
  package var ofKeys: Rotary {
    Rotary(theta: theta, dimensions: dimensions, scaling: scaling, isInterleaved: isInterleaved)
  }

  /// A change of the frequencies.
  package enum Scaling: Sendable, Hashable {
    case none
    /// All frequencies are divided by `factor`.
    case linear(factor: Double)
    /// Llama 3: wavelengths above `contextLength/low` are divided by `factor`,
    /// those below `contextLength/high` are kept, between them it is blended.
    case llama3(factor: Double, low: Double, high: Double, contextLength: Int)
    /// The frequency of pair `i` is divided by entry `i` of the list, and queries and keys are multiplied by
    /// `amplitude`: YaRN.
    case divided(by: [Double], amplitude: Double)
    /// The same with the list `short` for sequences of up to `contextLength` tokens and `long` for longer ones:
    /// LongRoPE (Ding et al., arXiv:2402.13753). All tokens of a sequence are rotated alike.
    case longrope(short: [Double], long: [Double], contextLength: Int, amplitude: Double)
  }

  /// A rotation of `dimensions` channels of each head.
  package init(
    theta: Double, dimensions: Int, scaling: Scaling = .none, isInterleaved: Bool = false,
    queryGrowth: QueryGrowth? = nil
  ) {
    self.queryGrowth = queryGrowth
    self.theta = theta
    self.dimensions = dimensions
    self.scaling = scaling
    self.isInterleaved = isInterleaved
  }

  /// Angle per position, in radians, of each of the `dimensions/2` pairs; in sequences of up to
  /// `longContext` tokens, where longer ones have others.
  ///
  /// Computed in double precision, with the formulas of the models' original
  /// implementations.
  package var frequencies: [Double] {
    (0..<dimensions / 2).map { pair in
      let plain = pow(theta, -2 * Double(pair) / Double(dimensions))
      switch scaling {
      case .none: return plain
      case .linear(let factor): return plain / factor
      case .llama3(let factor, let low, let high, let contextLength):
        let wavelength = 2 * Double.pi / plain
        let length = Double(contextLength)
        if wavelength < length / high { return plain }
        if wavelength > length / low { return plain / factor }
        let blend = (length / wavelength - low) / (high - low)
        return (1 - blend) * plain / factor + blend * plain
      case .divided(let divisors, _), .longrope(let divisors, _, _, _): return plain / divisors[pair]
      }
    }
  }

  /// The factor of the rotated channels.
  package var amplitude: Double {
    switch scaling {
    case .divided(_, let amplitude), .longrope(_, _, _, let amplitude): amplitude
    case .none, .linear, .llama3: 1
    }
  }

  /// The length of sequences beyond which the frequencies are others, and the rotation by these; nil: none is.
  package var longContext: (length: Int, rotary: Rotary)? {
    guard case .longrope(_, let long, let length, let amplitude) = scaling else { return nil }
    let scaling = Scaling.divided(by: long, amplitude: amplitude)
    let rotary = Rotary(
      theta: theta, dimensions: dimensions, scaling: scaling, isInterleaved: isInterleaved, queryGrowth: queryGrowth)
    return (length, rotary)
  }
}

extension Rotary {
  /// Throws what is wrong with a rotation of heads of `headSize` channels.
  func validate(headSize: Int) throws {
    try OperationFault.require(
      (2...max(headSize, 2)).contains(dimensions) && dimensions % 2 == 0,
      "\(dimensions) channels of \(headSize) cannot be rotated")
    var factors = [theta]
    switch scaling {
    case .none: break
    case .linear(let factor): factors.append(factor)
    case .llama3(let factor, let low, let high, let contextLength):
      factors += [factor, low, high, high - low, Double(contextLength)]
    case .divided(let divisors, let amplitude):
      try check(divisors)
      factors += divisors + [amplitude]
    case .longrope(let short, let long, let contextLength, let amplitude):
      try check(short)
      try check(long)
      factors += short + long + [Double(contextLength), amplitude]
    }
    if let queryGrowth {
      try OperationFault.require(dimensions == headSize, "queries that grow are not rotated whole")
      factors += [queryGrowth.rate, Double(queryGrowth.length)]
    }
    try OperationFault.require(
      factors.allSatisfy { $0.isFinite && $0 > 0 }, "the rotation's numbers are unusable")
  }

  private func check(_ divisors: [Double]) throws {
    try OperationFault.require(
      divisors.count == dimensions / 2, "\(divisors.count) divisors are not those of \(dimensions) channels")
  }

  /// The kind where there are pairs of neighbours or a growth: readers that do not know these refuse it.
  static let newerKind = "rotary_extended"

  var json: JSONValue {
    func list(_ numbers: [Double]) -> JSONValue { .array(numbers.map { .number($0) }) }
    var object: JSONObject = [
      "kind": .string(isInterleaved || queryGrowth != nil ? Rotary.newerKind : "rotary"), "theta": .number(theta),
      "dimensions": .integer(dimensions),
    ]
    if isInterleaved { object["isInterleaved"] = .bool(true) }
    if let queryGrowth {
      object["queryGrowth"] = .object([
        "rate": .number(queryGrowth.rate), "length": .integer(queryGrowth.length),
      ])
    }
    switch scaling {
    case .none: break
    case .linear(let factor):
      object["scaling"] = .object(["kind": .string("linear"), "factor": .number(factor)])
    case .llama3(let factor, let low, let high, let contextLength):
      object["scaling"] = .object([
        "kind": .string("llama3"), "factor": .number(factor), "lowFrequencyFactor": .number(low),
        "highFrequencyFactor": .number(high), "originalContextLength": .integer(contextLength),
      ])
    case .divided(let divisors, let amplitude):
      object["scaling"] = .object([
        "kind": .string("divided"), "divisors": list(divisors), "amplitude": .number(amplitude),
      ])
    case .longrope(let short, let long, let contextLength, let amplitude):
      object["scaling"] = .object([
        "kind": .string("longrope"), "shortDivisors": list(short), "longDivisors": list(long),
        "originalContextLength": .integer(contextLength), "amplitude": .number(amplitude),
      ])
    }
    return .object(object)
  }

  init(reader: GraphReader) throws {
    let isNewer = try reader.string("kind") == Rotary.newerKind
    try self.init(
      theta: try reader.number("theta"), dimensions: try reader.integer("dimensions"),
      scaling: try Scaling(reader: reader),
      isInterleaved: try isNewer && reader.has("isInterleaved") && reader.flag("isInterleaved"),
      queryGrowth: isNewer && reader.has("queryGrowth") ? QueryGrowth(reader: reader.child("queryGrowth")) : nil)
  }
}

extension Rotary.QueryGrowth {
  fileprivate init(reader: GraphReader) throws {
    let length = try reader.integer("length")
    guard length > 0 else { throw reader.refusal("queries grow by steps of \(length) tokens") }
    self.init(rate: try reader.number("rate"), length: length)
  }
}

extension Rotary.Scaling {
  fileprivate init(reader: GraphReader) throws {
    guard reader.has("scaling") else {
      self = .none
      return
    }
    let scaling = try reader.child("scaling")
    switch try scaling.string("kind") {
    case "linear": self = .linear(factor: try scaling.number("factor"))
    case "llama3":
      self = .llama3(
        factor: try scaling.number("factor"), low: try scaling.number("lowFrequencyFactor"),
        high: try scaling.number("highFrequencyFactor"), contextLength: try scaling.integer("originalContextLength"))
    case "divided":
      self = .divided(by: try scaling.numbers("divisors"), amplitude: try scaling.number("amplitude"))
    case "longrope":
      self = .longrope(
        short: try scaling.numbers("shortDivisors"), long: try scaling.numbers("longDivisors"),
        contextLength: try scaling.integer("originalContextLength"), amplitude: try scaling.number("amplitude"))
    case let kind: throw scaling.refusal("'\(kind)' is not known")
    }
  }
}
