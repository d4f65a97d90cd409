import OTFoundation
import OTJSON

extension Configuration {
  /// The rotation of queries and keys: `rope_scaling` where it is there, as in transformers, else
  /// `rope_parameters`, else `rope_theta` alone.
  ///
  /// - Throws: `Refusal` (`family-configuration`) for what is not supported, and where versions of
  ///   transformers would read it otherwise.
  func rotary(headSize: Int) throws -> Rotary {
    let older = try rotaryObject("rope_scaling")
    let newer = try rotaryObject("rope_parameters")
    guard try number("partial_rotary_factor") ?? 1 == 1 else { throw partialRotation }
    let rotary = try rotary(older ?? newer, headSize: headSize)
    if older != nil, let newer {
      let other = try self.rotary(newer, headSize: headSize)
      guard rotary.theta == other.theta, other.scaling == .none || other.scaling == rotary.scaling else {
        throw refusal("'rope_scaling' and 'rope_parameters' contradict each other")
      }
    }
    return rotary
  }

  private var partialRotation: Refusal {
    refusal("'partial_rotary_factor' is not supported: versions of transformers read it otherwise")
  }

  private func rotaryObject(_ key: String) throws -> JSONValue? {
    guard let parameters = value(key) else { return nil }
    guard let object = parameters.object else { throw refusal("'\(key)' is not an object") }
    return object.count == 0 ? nil : parameters
  }

  private func rotary(_ parameters: JSONValue?, headSize: Int) throws -> Rotary {
    let known = [
      "rope_theta", "rope_type", "type", "factor", "low_freq_factor", "high_freq_factor",
      "original_max_position_embeddings", "partial_rotary_factor", "mrope_section",
    ]
    let theta = try parameters.flatMap { try number("rope_theta", in: $0) } ?? number("rope_theta") ?? 10000
    let fraction = try parameters.flatMap { try number("partial_rotary_factor", in: $0) } ?? 1
    guard fraction == 1 else { throw partialRotation }
    let scaling = try parameters.map(scaling) ?? .none
    if let other = parameters?.object?.members.first(where: { !known.contains($0.key) && $0.value != .null }) {
      let what = other.value.object == nil ? "'\(other.key)'" : "other parameters for '\(other.key)'"
      throw refusal("rotary positions with \(what) are not supported")
    }
    return Rotary(theta: theta, dimensions: headSize, scaling: scaling)
  }

  private func scaling(_ parameters: JSONValue) throws -> Rotary.Scaling {
    func required(_ key: String) throws -> Double {
      guard let number = try number(key, in: parameters) else {
        throw refusal("the rotary scaling lacks '\(key)'")
      }
      return number
    }
    // Nested by layer type, both are absent.
    switch parameters["rope_type"]?.string ?? parameters["type"]?.string ?? "default" {
    case "default", "mrope": return .none
    case "linear": return .linear(factor: try required("factor"))
    case "llama3":
      let key = "original_max_position_embeddings"
      guard let length = Int(exactly: try required(key)) else { throw refusal("'\(key)' is not an integer") }
      guard try number(key) ?? Double(length) == Double(length) else {
        throw refusal("'\(key)' is there twice, with two values")
      }
      return .llama3(
        factor: try required("factor"), low: try required("low_freq_factor"),
        high: try required("high_freq_factor"), contextLength: length)
    case let kind: throw refusal("rotary positions of type '\(kind)' are not supported")
    }
  }

  /// The member of a configuration that limits attention to the last tokens.
  enum SlidingWindow {
    /// `sliding_window`, unless it is null.
    case always
    /// `sliding_window`, where `use_sliding_window` is true.
    case whereUsed
    /// `sliding_window`, where it is there.
    case whereStated
  }

  /// The most tokens for which positions are known and no sliding window hides any.
  ///
  /// - Throws: `Refusal` (`family-configuration`) for layers with another kind of attention.
  func contextLength(_ sliding: SlidingWindow, layerCount: Int) throws -> Int? {
    let limit = try size("max_position_embeddings")
    let types = try layerTypes(count: layerCount)
    let firstSliding = try number("max_window_layers", allowsZero: true) ?? 28
    // Null is no window; where the member is absent, both families' own default is 4096.
    let isUnlimited = contains("sliding_window") && value("sliding_window") == nil
    let stated = try size("sliding_window")
    let isUsed = try flag("use_sliding_window")
    let slides: Bool
    switch sliding {
    case .always: slides = !isUnlimited
    case .whereStated: slides = stated != nil && isUsed != false
    case .whereUsed:
      slides =
        isUsed == true && !isUnlimited && (types?.contains("sliding_attention") ?? (firstSliding < Double(layerCount)))
    }
    if types?.contains("sliding_attention") == true && !slides {
      throw refusal("'layer_types' has sliding attention without a window")
    }
    guard slides else { return limit }
    let window = stated ?? 4096
    return min(limit ?? window, window)
  }

  private func layerTypes(count: Int) throws -> [String]? {
    guard let types = value("layer_types") else { return nil }
    guard let names = types.array?.compactMap(\.string), names.count == types.array?.count else {
      throw refusal("'layer_types' is not a list of strings")
    }
    if let other = names.first(where: { $0 != "full_attention" && $0 != "sliding_attention" }) {
      throw refusal("layers of type '\(other)' are not supported")
    }
    return names
  }
}
