import OTGraph
import OTObservation

/// The result for the output of one node on sample text: the
/// packed model's, which reads its own inputs, against the source's.
package struct LayerFinding: Sendable {
  /// The node that gives the value.
  package enum Kind: String, Sendable, Hashable, CaseIterable {
    case linear, norm, attention, activation, embedding, other

    /// True when tolerances hold for nodes of this kind: see `LayerFinding.isJudged`.
    var isJudged: Bool { self == .linear || self == .norm }
  }

  /// The node's name.
  package let name: String
  /// The kind of the node.
  package let kind: Kind
  /// The schemes of its weight and its input: `int6 asym channel, static int6`.
  package let scheme: String
  /// The distance of the packed model from the source, in the source's units. The
  /// error is that of the whole model up to here, not of this node alone.
  package let error: OutputError
  /// The faults, in words; empty when there is none.
  package let faults: [String]
  /// Bits of a linear's weights; nil where they are floats, or it is none.
  package var weightBits: Int?
  /// Bits of what it reads; nil where that stays in floating point.
  package var activationBits: Int?
  /// The producer of the site that it reads, in the packed file's graph; nil where it reads none.
  package var site: String?

  /// Puts the figures together.
  package init(name: String, kind: Kind, scheme: String, error: OutputError, faults: [String]) {
    (self.name, self.kind, self.scheme, self.error, self.faults) = (name, kind, scheme, error, faults)
  }

  /// True when tolerances hold for it: for linears and norms. Values between them,
  /// such as the average that attention takes, can be all cancellation; their
  /// errors are judged at the linear that reads them.
  package var isJudged: Bool { kind.isJudged }
  /// The node's place in the model.
  package var place: LayerPlace { LayerPlace(name: name) }
}

/// The block that a node is in, and what it is there, by its name.
package struct LayerPlace: Sendable, Hashable {
  /// The number in `model.layers.12.mlp.up_proj`; nil outside the blocks.
  package let block: Int?
  /// The name behind the number, or the whole name where there is none.
  package let label: String

  /// The place of the node called `name`: the first component that is a number
  /// is the block's.
  package init(name: String) {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard let index = parts.firstIndex(where: { !$0.isEmpty && $0.allSatisfy(\.isASCIIDigit) }),
      let block = Int(parts[index]), index + 1 < parts.count
    else {
      self.block = nil
      label = name
      return
    }
    self.block = block
    label = parts[(index + 1)...].joined(separator: ".")
  }
}

extension Character {
  fileprivate var isASCIIDigit: Bool { isASCII && isNumber }
}

extension LayerFinding.Kind {
  /// The kind of a node whose operation is of this kind.
  package init(_ kind: Operation.Kind) {
    switch kind {
    case .linear: self = .linear
    case .norm: self = .norm
    case .attention: self = .attention
    case .activation, .gate: self = .activation
    case .embedding: self = .embedding
    case .input, .slice, .scale, .sum, .firstToken, .routing, .edge: self = .other
    }
  }
}

/// What quantization does at one site alone, on the source's own values: ‖v − v̂‖² / ‖v‖² of values v.
package struct SiteErrors: Sendable, Hashable {
  /// Of the activation, as it is quantized.
  package let activation: Double
  /// Of the weights that read it.
  package let weight: Double
  /// Of the outputs of these linears.
  package let output: Double
  /// The same where the channels stay as they are, with a scale per token and weights to nearest; nil: not tried.
  package let untransformedOutput: Double?

  /// Errors.
  package init(activation: Double, weight: Double, output: Double, untransformedOutput: Double?) {
    (self.activation, self.weight, self.output) = (activation, weight, output)
    self.untransformedOutput = untransformedOutput
  }
}

/// The result for a site's activations on sample text.
package struct SiteFinding: Sendable {
  /// The site, in the packed file's graph.
  package let site: Site
  /// Its quantization.
  package let quantization: ActivationQuantization
  /// The transform that migration put on it.
  package let transform: ChannelTransform
  /// The rotation behind that transform; nil: none.
  package var rotation: Rotation?
  /// The node of the source that gives the site's value.
  package var root = ""
  /// The methods that were tried for the site, as the file tells, with Σ(y − ŷ)² / Σy² of its linears' outputs;
  /// NaN where the file has no number.
  package var trials: [(method: String, error: Double)] = []
  /// What quantization does there alone; nil where it was not looked at.
  package var errors: SiteErrors?
  /// Ranges of the channels in the source.
  package let sourceRanges: ChannelRanges
  /// Values in the source.
  package let sourceHistogram: ValueHistogram
  /// Ranges in the packed model, whose values are (x − z) ⊘ s: with a static
  /// scheme in steps of the integers. Of a rotated site those before the rotation.
  package let packedRanges: ChannelRanges
  /// Values in the packed model, as they are quantized.
  package let packedHistogram: ValueHistogram
  /// With a static scheme, values that round to an integer beyond the range.
  package let clippedCount: Int
  /// Values seen.
  package let valueCount: Int

  /// Puts the figures together.
  package init(
    site: Site, quantization: ActivationQuantization, transform: ChannelTransform, sourceRanges: ChannelRanges,
    sourceHistogram: ValueHistogram, packedRanges: ChannelRanges, packedHistogram: ValueHistogram, clippedCount: Int,
    valueCount: Int
  ) {
    (self.site, self.quantization, self.transform) = (site, quantization, transform)
    (self.sourceRanges, self.sourceHistogram) = (sourceRanges, sourceHistogram)
    (self.packedRanges, self.packedHistogram) = (packedRanges, packedHistogram)
    (self.clippedCount, self.valueCount) = (clippedCount, valueCount)
  }

  /// Ranges after symmetrization and before scaling: (x − z), in the source's units.
  package var shiftedRanges: ChannelRanges {
    transform.scale.map(packedRanges.scaled) ?? packedRanges
  }

  /// The method of those that were tried whose error is the least.
  package var chosenMethod: String? { trials.filter { $0.error.isFinite }.min { $0.error < $1.error }?.method }
}
