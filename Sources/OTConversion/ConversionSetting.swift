import OTQuantization
import OTTensor

/// Bits and scales of a conversion, whatever its method: `w6a8`, `w4a8/g64`, `w6a6/group:64`, `w8a8/weights:tensor`,
/// `5.0bpwa8`, `w4a8@gptq,passes=10`.
///
///     BITS[/SCALES…][@ROUNDING]
///
/// BITS is `wNaM`, N 2 to 8 and M 2 to 8 or 16, or a budget in bits per weight in the place of `wN`. SCALES are those
/// of activations as `--activations` takes them, `gN` (N weights of a row share a scale), `weights:tensor` (all of a
/// matrix do), `weights:symmetric` or `weights:asymmetric`. ROUNDING is what `--rounding` takes.
package struct ConversionSetting: Sendable, Hashable, CustomStringConvertible {
  /// As it was written.
  package let description: String
  /// Bits of weights; with a budget those of linears that it does not choose.
  package private(set) var bits = 8
  /// Bits of activations; 16: float.
  package private(set) var activationBits = 8
  /// The most bits per weight on disk, if bits are chosen by what they cost.
  package private(set) var budget: BitBudget?
  /// Activations that share a scale; nil: as the method says.
  package private(set) var activations: ActivationScales?
  /// The weights that share a scale.
  package private(set) var granularity = QuantizationScheme.Granularity.perChannel
  /// True when quantized weights are symmetric around 0; nil: as the method says.
  package private(set) var isSymmetric: Bool?
  /// The rounding of weights, as `--rounding` takes it; nil: the method's.
  package private(set) var rounding: String?

  /// The setting that `text` names; nil where it names none.
  package init?(_ text: String) {
    description = text
    let ways = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let parts = ways[0].split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard setBits(parts[0]), parts.dropFirst().allSatisfy({ setScales($0) }) else { return nil }
    guard activations?.fits(granularity) != false, activationBits < 16 || activations == nil else { return nil }
    if ways.count == 2 {
      guard (try? Roundings.rule(ways[1])) != nil else { return nil }
      rounding = ways[1]
    }
  }

  /// `w6a8` or `5.0bpwa8`; false where it is neither.
  private mutating func setBits(_ text: String) -> Bool {
    guard let mark = text.lastIndex(of: "a"), let activationBits = Int(text[text.index(after: mark)...]),
      (2...8).contains(activationBits) || activationBits == 16
    else { return false }
    self.activationBits = activationBits
    let weights = text[..<mark]
    if weights.hasPrefix("w"), let bits = Int(weights.dropFirst()), (2...8).contains(bits) {
      self.bits = bits
      return true
    }
    guard case .bitsPerWeight? = BitBudget(String(weights)) else { return false }
    budget = BitBudget(String(weights))
    return true
  }

  /// What one part between slashes says; false where it says nothing, or a second time the same kind of thing.
  private mutating func setScales(_ text: String) -> Bool {
    switch text {
    case "weights:symmetric", "weights:asymmetric":
      guard isSymmetric == nil else { return false }
      isSymmetric = text == "weights:symmetric"
    case "weights:tensor":
      guard granularity == .perChannel else { return false }
      granularity = .perTensor
    case _ where text.hasPrefix("g") && Int(text.dropFirst()) != nil:
      guard granularity == .perChannel, let size = Int(text.dropFirst()), QuantizationScheme.isValidGroupSize(size)
      else { return false }
      granularity = .perGroup(size: size)
    default:
      guard activations == nil, let scales = ActivationScales(text) else { return false }
      activations = scales
    }
    return true
  }

  /// Puts the setting into the options of a conversion.
  ///
  /// - Throws: as `Roundings.rule`.
  package func apply(to options: inout ConversionOptions) throws {
    options.bits = bits
    options.activationBits = activationBits
    options.activations = activations
    options.granularity = granularity
    options.isSymmetric = isSymmetric
    options.rounding = try rounding.map(Roundings.rule)
    options.budget = budget
  }

  /// The options of `convert` that say the same.
  package var arguments: [String] {
    var arguments = budget.map { ["--budget", $0.text] } ?? ["--bits", "\(bits)"]
    arguments += ["--activation-bits", "\(activationBits)"]
    if let activations { arguments += ["--activations", activations.description] }
    if let isSymmetric { arguments += ["--weight-scheme", isSymmetric ? "symmetric" : "asymmetric"] }
    switch granularity {
    case .perChannel: break
    case .perTensor: arguments.append("--per-tensor")
    case .perGroup(let size): arguments += ["--group-size", "\(size)"]
    }
    if let rounding { arguments += ["--rounding", rounding] }
    return arguments
  }

  /// The names in a list with commas; a part with `=` is an option of the name before it:
  /// `osplus,grid=paper,best` are `osplus,grid=paper` and `best`.
  package static func list(_ text: String) -> [String] {
    var names: [String] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false).map(String.init) {
      if part.contains("="), let last = names.last {
        names[names.count - 1] = last + "," + part
      } else {
        names.append(part)
      }
    }
    return names
  }
}
