import Foundation
import OTJSON

/// Rotary position embedding (Su et al., arXiv:2104.09864): channels `i` and
/// `i + dimensions/2` of a head turn by `position·frequency(i)`.
package struct Rotary: Sendable, Hashable {
  /// Base: unscaled `frequency(i) = theta^(−2i/dimensions)`.
  package let theta: Double
  /// Rotated channels of a head, from its first; even. 0 where the head size
  /// is unknown.
  package let dimensions: Int
  /// The change of frequencies for long contexts.
  package let scaling: Scaling

  /// A change of the frequencies.
  package enum Scaling: Sendable, Hashable {
    case none
    /// All frequencies are divided by `factor`.
    case linear(factor: Double)
    /// Llama 3: wavelengths above `contextLength/low` are divided by `factor`,
    /// those below `contextLength/high` are kept, between them it is blended.
    case llama3(factor: Double, low: Double, high: Double, contextLength: Int)
  }

  /// A rotation of `dimensions` channels of each head.
  package init(theta: Double, dimensions: Int, scaling: Scaling = .none) {
    self.theta = theta
    self.dimensions = dimensions
    self.scaling = scaling
  }

  /// Angle per position, in radians, of each of the `dimensions/2` pairs.
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
      }
    }
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
    }
    try OperationFault.require(
      factors.allSatisfy { $0.isFinite && $0 > 0 }, "the rotation's numbers are unusable")
  }

  var json: JSONValue {
    var object: JSONObject = [
      "kind": .string("rotary"), "theta": .number(theta), "dimensions": .integer(dimensions),
    ]
    switch scaling {
    case .none: break
    case .linear(let factor):
      object["scaling"] = .object(["kind": .string("linear"), "factor": .number(factor)])
    case .llama3(let factor, let low, let high, let contextLength):
      object["scaling"] = .object([
        "kind": .string("llama3"), "factor": .number(factor), "lowFrequencyFactor": .number(low),
        "highFrequencyFactor": .number(high), "originalContextLength": .integer(contextLength),
      ])
    }
    return .object(object)
  }

  init(reader: GraphReader) throws {
    self.init(
      theta: try reader.number("theta"), dimensions: try reader.integer("dimensions"),
      scaling: try Scaling(reader: reader))
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
    case let kind: throw scaling.refusal("'\(kind)' is not known")
    }
  }
}
