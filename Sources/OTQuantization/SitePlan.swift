import OTGraph
import OTTensor

/// The quantization of the weights of a site's linears.
package struct WeightPlan: Sendable {
  /// Bits, range and granularity; nil: the weights stay float.
  package var scheme: QuantizationScheme?
  /// The rule that makes weights quantized values.
  package var rounding: any RoundingRule

  /// A plan.
  package init(scheme: QuantizationScheme?, rounding: any RoundingRule = NearestRounding()) {
    self.scheme = scheme
    self.rounding = rounding
  }
}

/// The user's request for one site.
package struct SiteRequest: Sendable {
  /// Bits of activations, 2 … 8, or 16: they stay float.
  package let activationBits: Int
  /// Activations that share a scale, where a method leaves it to the request.
  package let activationScales: ActivationScales
  /// The weights, unless a method knows better.
  package let weight: WeightPlan

  /// Activations with the scales that are asked for; float where they have 16 bits.
  package var dynamicActivation: ActivationQuantization {
    activationBits == 16 ? .float : activationScales.dynamic(bits: activationBits)
  }

  /// A request.
  package init(activationBits: Int, activationScales: ActivationScales = .token, weight: WeightPlan) {
    self.activationBits = activationBits
    self.activationScales = activationScales
    self.weight = weight
  }
}

/// The decisions of a method about one site.
package struct SitePlan: Sendable {
  /// Shift z, scale s and rotation: the site's value becomes (x − z) ⊘ s, rotated.
  package var transform: SiteTransform
  /// The quantization of the transformed activation at run time.
  package var activation: ActivationQuantization
  /// The quantization of the weights that read it.
  package var weight: WeightPlan
  /// The plans that were tried before this one was chosen; empty where none were.
  package var trials: [Trial] = []

  /// A plan that was tried.
  package struct Trial: Sendable, Hashable {
    /// The method that made it, as `--method` takes it.
    package let name: String
    /// Σ(y − ŷ)² / Σy² of the outputs of the site's linears.
    package let error: Double

    /// A trial.
    package init(name: String, error: Double) { (self.name, self.error) = (name, error) }
  }

  /// A plan; without a transform the value stays as it is.
  package init(
    transform: SiteTransform = .identity, activation: ActivationQuantization, weight: WeightPlan
  ) {
    self.transform = transform
    self.activation = activation
    self.weight = weight
  }
}
