import Foundation

/// Softmax attention over heads, in groups that share keys and values.
///
/// Queries are `[tokens, headCount·headSize]`, keys and values
/// `[tokens, keyValueHeadCount·headSize]`; head `h` reads key/value head
/// `h / (headCount / keyValueHeadCount)`. Where the head count is unknown (see
/// `Graph.missing`), the three counts and the scale are 0.
package struct Attention: Sendable, Hashable {
  /// Query heads.
  package let headCount: Int
  /// Key/value heads; divides `headCount`.
  package let keyValueHeadCount: Int
  /// Channels of one head.
  package let headSize: Int
  /// Factor of the products of queries and keys, usually `1/√headSize`.
  package let scale: Float
  /// Whether a token sees no later one.
  package let isCausal: Bool
  /// How positions enter.
  package let positions: Positions

  /// How an attention knows where its tokens are.
  package enum Positions: Sendable, Hashable {
    /// Not at all: positions are part of the embeddings.
    case none
    /// Queries and keys are rotated.
    case rotary(Rotary)
    /// A bias of `slope(head)·(key position)` on the products, with the slopes
    /// of Press et al., "Train Short, Test Long" (arXiv:2108.12409), as BLOOM
    /// computes them for head counts that are no power of 2.
    case alibi
  }

  /// Attention with known heads and, unless given, the scale `1/√headSize`.
  package init(
    headCount: Int, keyValueHeadCount: Int, headSize: Int, scale: Float? = nil,
    isCausal: Bool, positions: Positions
  ) {
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
    self.scale = scale ?? (headSize > 0 ? 1 / Float(headSize).squareRoot() : 0)
    self.isCausal = isCausal
    self.positions = positions
  }

  /// Whether the head count is known.
  package var hasKnownHeads: Bool { headCount > 0 }
}

/// Rotary position embedding (Su et al., arXiv:2104.09864): channels `i` and
/// `i + dimensions/2` of a head turn by `position·frequency(i)`.
package struct Rotary: Sendable, Hashable {
  /// Base: unscaled `frequency(i) = theta^(−2i/dimensions)`.
  package let theta: Double
  /// Rotated channels of a head, from its first; even. 0 where the head size
  /// is unknown.
  package let dimensions: Int
  /// How frequencies are changed for long contexts.
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
