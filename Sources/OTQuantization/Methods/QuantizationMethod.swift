import OTGraph
import OTJSON
import OTObservation

/// A recipe that chooses transform, activation and weight quantization of each site.
///
/// A new method is one file that implements this, and a line in `Methods.all`.
package protocol QuantizationMethod: Sendable {
  /// The name on the command line (`--method`) and in the file's metadata.
  static var name: String { get }

  /// The method with what the user chose.
  ///
  /// - Throws: `Refusal` with rule `method-option`; options that it does not take are refused for it.
  init(_ options: inout MethodOptions) throws

  /// The observations that it needs of each site.
  var needs: Set<ObservationKind> { get }

  /// The quantization of weights where the user does not say.
  var weightDefaults: WeightDefaults { get }

  /// Activations that share a scale where the user does not say and the model finds it as it runs.
  var activationDefault: ActivationScales { get }

  /// True when it gives the activations of sites such scales, wherever it can.
  func gives(_ scales: ActivationScales) -> Bool

  /// Decides about one site.
  ///
  /// - Throws: `Refusal` when what the method needs to know of the site is missing.
  func plan(_ site: SiteContext) throws -> SitePlan

  /// The methods of which the one takes this one's place whose quantized model loses least on the samples, the
  /// first of equals; empty: this one decides by itself.
  var candidates: [any QuantizationMethod] { get }

  /// The rotations of the model's parameters before anything is observed or decided; nil: none.
  var rotation: OfflineRotation? { get }

  /// The file's record of the method beside its name.
  var record: JSONObject { get }
}

extension QuantizationMethod {
  /// Nothing.
  package var needs: Set<ObservationKind> { [] }
  /// Scales found when the model runs, per token or group as the request says.
  package func gives(_ scales: ActivationScales) -> Bool { !scales.isStatic }
  /// Asymmetric, each weight to the nearest value.
  package var weightDefaults: WeightDefaults { WeightDefaults() }
  /// All of a token.
  package var activationDefault: ActivationScales { .token }
  /// None.
  package var rotation: OfflineRotation? { nil }
  /// None.
  package var candidates: [any QuantizationMethod] { [] }
  /// Nothing.
  package var record: JSONObject { [:] }
}

/// The parts of the quantization of weights that a method chooses where the user does not.
package struct WeightDefaults: Sendable {
  /// True when quantized values are symmetric around 0.
  package let isSymmetric: Bool
  /// The rule that makes weights quantized values.
  package let rounding: any RoundingRule

  /// Asymmetric and to nearest, but for what is given.
  package init(isSymmetric: Bool = false, rounding: any RoundingRule = NearestRounding()) {
    (self.isSymmetric, self.rounding) = (isSymmetric, rounding)
  }
}
