import OTGraph

/// A method's decision about one site.
package struct SiteDecision: Sendable, Hashable {
  /// Shift z and scale s: the site's value becomes (x − z) ⊘ s.
  package let transform: ChannelTransform
  /// The quantization of the transformed activation when the model runs.
  package let activation: ActivationQuantization

  /// A decision; without a transform the value stays as it is.
  package init(transform: ChannelTransform = .identity, activation: ActivationQuantization) {
    self.transform = transform
    self.activation = activation
  }
}

/// A recipe that chooses shift, scale and activation scheme for each site.
///
/// A new method is one file that implements this.
package protocol QuantizationMethod: Sendable {
  /// Its name in the file's metadata.
  static var name: String { get }

  /// Decides about a site of `graph` whose activations take `bits` bits.
  ///
  /// - Throws: `Refusal` when what the method needs to know of the site is missing.
  func decision(for site: Site, in graph: Graph, bits: Int) throws -> SiteDecision
}
