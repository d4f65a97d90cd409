import OTGraph
import OTTensor

/// The values of activations that share a scale, as a user asks for it: `token`,
/// `token:asymmetric`, `group:N`, `group:N:asymmetric`, `tensor`, `channel`.
package enum ActivationScales: Sendable, Hashable, CustomStringConvertible {
  /// All channels of a token: a scale found when the model runs.
  case token
  /// All channels of a token: a scale and a code of 0 found when the model runs, from the least to the greatest.
  case asymmetricToken
  /// So many consecutive channels of a token: a scale found when the model runs.
  case group(size: Int)
  /// So many consecutive channels of a token: a scale and a code of 0 found when the model runs, from the least to the
  /// greatest.
  case asymmetricGroup(size: Int)
  /// All channels of all tokens: one static scale.
  case tensor
  /// Each channel of all tokens: static scales, which are part of the weights.
  case channel

  /// The forms, for texts.
  package static var forms: String {
    "token, group:N with N \(ActivationQuantization.groupSizes.map(String.init).joined(separator: "|")), either with :asymmetric, tensor, channel"
  }

  /// The scales that `text` names; nil where it names none.
  package init?(_ text: String) {
    switch text {
    case "token": self = .token
    case "token:asymmetric": self = .asymmetricToken
    case "tensor": self = .tensor
    case "channel": self = .channel
    default:
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      let isAsymmetric = parts.count == 3 && parts[2] == "asymmetric"
      guard parts.count == 2 || isAsymmetric, parts[0] == "group", let size = Int(parts[1]),
        ActivationQuantization.groupSizes.contains(size)
      else { return nil }
      self = isAsymmetric ? .asymmetricGroup(size: size) : .group(size: size)
    }
  }

  /// As `init(_:)` reads it.
  package var description: String {
    switch self {
    case .token: "token"
    case .asymmetricToken: "token:asymmetric"
    case .group(let size): "group:\(size)"
    case .asymmetricGroup(let size): "group:\(size):asymmetric"
    case .tensor: "tensor"
    case .channel: "channel"
    }
  }

  /// Channels of a token that share a scale; nil: all of them, or those of all tokens.
  private var groupSize: Int? {
    switch self {
    case .group(let size), .asymmetricGroup(let size): size
    case .token, .asymmetricToken, .tensor, .channel: nil
    }
  }

  /// True when they are fixed before the model runs.
  package var isStatic: Bool { self == .tensor || self == .channel }

  /// The quantization of an activation whose scales are found when the model runs, per token where these are static.
  package func dynamic(bits: Int) -> ActivationQuantization {
    switch self {
    case .asymmetricToken: .asymmetric(bits: bits)
    case .group(let size): .dynamic(bits: bits, groupSize: size)
    case .asymmetricGroup(let size): .asymmetric(bits: bits, groupSize: size)
    case .token, .tensor, .channel: .dynamic(bits: bits)
    }
  }

  /// True when weights of `granularity` can be multiplied with them: a group of weights is one or more whole groups
  /// of activations.
  package func fits(_ granularity: QuantizationScheme.Granularity) -> Bool {
    guard let groupSize, case .perGroup(let size) = granularity else { return true }
    return size % groupSize == 0
  }
}
