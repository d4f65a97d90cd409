import OTJSON
import OTTensor

/// How far a packed file may be from its source.
public struct Tolerance: Sendable, Hashable {
  /// Largest |w − ŵ| in steps of the weight's scale, but for codes at the ends
  /// of their range. Half a step, and the rounding of float32 in up to 255 steps.
  public var maximumErrorInSteps = 0.5001
  /// Least signal to quantization noise of a tensor in decibels, by bits.
  ///
  /// By default 6·bits − 18: a uniform quantizer gains 6 dB per bit, and a
  /// matrix of normal weights has about 10 dB more than this.
  public var minimumSQNRDecibels: [Int: Double] = Dictionary(
    uniqueKeysWithValues: (2...8).map { ($0, Double(6 * $0 - 18)) })
  /// Largest |p − p̂| of a float parameter (norms and biases), relative to the
  /// largest of its tensor.
  public var maximumRelativeError = 1e-5

  /// The defaults.
  public init() {}

  /// Reads `{"maximumErrorInSteps": 0.5, "minimumSqnrDecibels": 30 or {"6": 25},
  /// "maximumRelativeError": 1e-5}`; members that are missing keep their default.
  ///
  /// - Throws: `Refusal` with rule `tolerance-unknown` or `tolerance-value`, or as JSON does.
  public init(json: JSONValue, file: String) throws {
    self.init()
    func number(_ value: JSONValue, _ key: String) throws -> Double {
      guard let number = value.double else {
        throw Refusal("tolerance-value", "'\(key)' is no number", file: file)
      }
      return number
    }
    guard let object = json.object else { throw Refusal("tolerance-value", "is not an object", file: file) }
    for (key, value) in object.members {
      switch key {
      case "maximumErrorInSteps": maximumErrorInSteps = try number(value, key)
      case "maximumRelativeError": maximumRelativeError = try number(value, key)
      case "minimumSqnrDecibels":
        guard let byBits = value.object else {
          let least = try number(value, key)
          for bits in 2...8 { minimumSQNRDecibels[bits] = least }
          continue
        }
        for (bits, value) in byBits.members {
          guard let bits = Int(bits), (2...8).contains(bits) else {
            throw Refusal("tolerance-value", "'\(bits)' are no bits of a weight", file: file)
          }
          minimumSQNRDecibels[bits] = try number(value, key)
        }
      default:
        throw Refusal(
          "tolerance-unknown", "'\(key)' is no tolerance", file: file,
          remedy: "known: maximumErrorInSteps, minimumSqnrDecibels, maximumRelativeError")
      }
    }
  }
}
