import OTGraph
import OTTensor

/// The values of activations that share a scale, as a user asks for it: `token`, `group:N`, `tensor`, `channel`.
package enum ActivationScales: Sendable, Hashable, CustomStringConvertible {
  /// All channels of a token: a scale found when the model runs.
  case token
  /// So many consecutive channels of a token: a scale found when the model runs.
  case group(size: Int)
  /// All channels of all tokens: one static scale.
  case tensor
  /// Each channel of all tokens: static scales, which are part of the weights.
  case channel

  /// The forms, for texts.
  package static var forms: String {
    "token, group:N with N \(ActivationQuantization.groupSizes.map(String.init).joined(separator: "|")), tensor, channel"
  }

  /// The scales that `text` names; nil where it names none.
  package init?(_ text: String) {
    switch text {
    case "token": self = .token
    case "tensor": self = .tensor
    case "channel": self = .channel
    default:
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      guard parts.count == 2, parts[0] == "group", let size = Int(parts[1]),
        ActivationQuantization.groupSizes.contains(size)
      else { return nil }
      self = .group(size: size)
    }
  }

  /// As `init(_:)` reads it.
  package var description: String {
    switch self {
    case .token: "token"
    case .group(let size): "group:\(size)"
    case .tensor: "tensor"
    case .channel: "channel"
    }
  }

  /// True when they are fixed before the model runs.
  package var isStatic: Bool { self == .tensor || self == .channel }

  /// Channels of a group; nil where there are no groups.
  package var groupSize: Int? {
    if case .group(let size) = self { return size }
    return nil
  }

  /// True when weights of `granularity` can be multiplied with them: a group of weights is one or more whole groups
  /// of activations.
  package func fits(_ granularity: QuantizationScheme.Granularity) -> Bool {
    guard let groupSize, case .perGroup(let size) = granularity else { return true }
    return size % groupSize == 0
  }
}
