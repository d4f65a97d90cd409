import OTContainer
import OTExport
import OTFoundation
import OTJSON
import OTQuantization
import OTTensor

/// The work that goes into a conversion, where the user names no method.
public enum Effort: String, Sendable, CaseIterable {
  /// Nothing is run on text, and weights are rounded to nearest: seconds.
  case fast
  /// The package's recipe, `best`.
  case standard
  /// A choice for each site among all that may help it, by trial, and then the recipe's rounding.
  case thorough
}

/// The options of a conversion.
package struct ConversionOptions: Sendable {
  /// Bits of the weights of blocks, 2 … 8.
  package var bits = 8
  /// Bits of activations, 16 for float; nil: as many as the weights they meet.
  package var activationBits: Int?
  /// The scales of activations; nil: as the method says, one per token where they are found when the model runs.
  package var activations: ActivationScales?
  /// True when quantized values are symmetric around 0; nil: in blocks as the method says, else they are not.
  package var isSymmetric: Bool?
  /// The rule that makes weights of blocks quantized values; nil: as the method says.
  package var rounding: (any RoundingRule)?
  /// The weights that share a scale.
  package var granularity = QuantizationScheme.Granularity.perChannel
  /// Bits of embeddings, the output head and other linears outside the blocks:
  /// 8 (quantized per row), or 16 (float16).
  package var embeddingBits = 8
  /// Linears and embeddings that stay as they are, with their fused groups.
  package var exclude: [NamePattern] = []
  /// Bits for linears and embeddings by name, the last match counting, for
  /// whole fused groups.
  package var bitsFor: [(pattern: NamePattern, bits: Int)] = []
  /// The most that the file may take, if its linears' bits are chosen by what they cost.
  package var budget: BitBudget?
  /// A family's name, instead of what the configuration says.
  package var family: String?
  /// The methods that decide about sites, one after the other; empty: as statistics allow.
  package var methods: [any QuantizationMethod] = []
  /// The work that goes into a model where the user chose no method.
  package var effort = Effort.standard
  /// The folder for weights that are rotated before anything else is decided.
  package var scratchFolder = SystemFolder.temporary
  /// True when methods that the user did not choose put no rotation into the graph: formats of floats have no
  /// place for one.
  package var avoidsRotation = false
  /// True when a model is calibrated where nothing is known of it.
  package var isCalibrated = true
  /// True when activations stay float; then models of unknown families can be packed too.
  package var isWeightsOnly = false
  /// True when OutlierTune shifts channels by their midpoints, where calibration has measured these.
  package var isSymmetrized = true
  /// The form of the file's bytes.
  package var compression = Compression.standard
  /// Threads to use; the output does not depend on it.
  package var threadCount = 1

  /// The defaults: 8 bits, asymmetric, per channel, zstd.
  package init() {}

  /// These, as an export to a format of other tools takes them: nothing is rotated unless a method does so, and values
  /// are symmetric where the format prefers them and neither the user nor a kept recipe says.
  package func exporting(to format: any ModelWriter.Type) -> ConversionOptions {
    var options = self
    options.avoidsRotation = true
    if isSymmetric == nil, format.traits.prefersSymmetric, !methods.contains(where: { $0 is KeptRecipe }) {
      options.isSymmetric = true
    }
    return options
  }

  /// The options that shape the file, for its metadata. Threads do not.
  var json: JSONValue {
    var members: JSONObject = [
      "bits": .integer(bits), "embeddingBits": .integer(embeddingBits),
      "weightsOnly": .bool(isWeightsOnly),
    ]
    if let isSymmetric { members["symmetric"] = .bool(isSymmetric) }
    if let activationBits { members["activationBits"] = .integer(activationBits) }
    if let activations { members["activations"] = .string(activations.description) }
    switch granularity {
    case .perTensor: members["granularity"] = .string("tensor")
    case .perChannel: members["granularity"] = .string("channel")
    case .perGroup(let size): members["groupSize"] = .integer(size)
    }
    if !exclude.isEmpty { members["exclude"] = .array(exclude.map { .string($0.text) }) }
    if !bitsFor.isEmpty {
      members["bitsFor"] = .array(bitsFor.map { .array([.string($0.pattern.text), .integer($0.bits)]) })
    }
    if let budget { members["budget"] = .string(budget.text) }
    if let family { members["family"] = .string(family) }
    switch compression {
    case .zstd(let level): members["zstdLevel"] = .integer(level)
    case .none: members["compression"] = .string("none")
    }
    return .object(members)
  }

  /// The scheme of weights of `bits` bits; nil for bits that no scheme has.
  package func scheme(bits: Int, _ defaults: WeightDefaults = WeightDefaults()) -> QuantizationScheme? {
    QuantizationScheme(bits: bits, isSymmetric: isSymmetric ?? defaults.isSymmetric, granularity: granularity)
  }

  /// The user's bits for a fused group of names; nil to leave it as it is.
  func bits(forGroup names: [String], otherwise standard: Int) -> Int? {
    if exclude.contains(where: { pattern in names.contains(where: pattern.matches) }) { return nil }
    return bitsFor.last { rule in names.contains(where: rule.pattern.matches) }?.bits ?? standard
  }
}
