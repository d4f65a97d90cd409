import OTGraph
import OTJSON
import OTObservation

/// QuaRot (arXiv 2404.00456), its rotations before conversion: R₁ of the residual stream, R₂ of each head's values, both
/// in the parameters. Its online transforms are `Hadamard`.
///
/// Gains go into the linears behind norms, so that a norm's value rotates with the stream; a LayerNorm's mean is
/// taken from what is added to the stream instead. The stream is rotated where it begins and rotated back behind the
/// last norm, by a linear of floats each, so that tables and the head, which may be one, stay as they are.
/// R₁ and R₂ are Hadamard matrices with random signs, for sizes that are no powers of 2 times a random rotation.
/// Activations have one scale per token, or one static range.
package struct QuaRot: QuantizationMethod {
  /// Its name.
  package static let name = "quarot"

  /// The rotations.
  package let rotation: OfflineRotation?
  /// The quantizer of activations.
  package let form: ActivationForm

  /// Takes `residual` and `heads`, true unless given, `seed`, 0, and `activations`, token.
  package init(_ options: inout MethodOptions) throws {
    let residual = try options.flag("residual", default: true)
    let heads = try options.flag("heads", default: true)
    let seed = try options.integer("seed", in: 0...Int(Int32.max), default: 0)
    rotation = OfflineRotation(residual: residual, heads: heads, seed: UInt64(seed))
    form = try options.choice("activations", default: .token)
  }

  /// Ranges of the channels where activations are static.
  package var needs: Set<ObservationKind> { form == .token ? [] : [.ranges] }

  /// Symmetric.
  package var weightDefaults: WeightDefaults { WeightDefaults(isSymmetric: true) }

  /// `{rotation}`; `activations` where they are static.
  package var record: JSONObject {
    var record: JSONObject = [:]
    record["rotation"] = rotation?.json
    if form != .token { record["activations"] = .string(form.rawValue) }
    return record
  }

  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func plan(_ site: SiteContext) throws -> SitePlan { try site.plan(form, range: site.range()) }
}
