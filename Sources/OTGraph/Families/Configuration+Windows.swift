import OTFoundation
import OTJSON

/// What the layers of a model see of the tokens before them.
struct LayerWindows {
  /// Of each layer the most tokens that a token sees; nil: all.
  var windows: [Int?]
  /// The most tokens of a sequence, where longer ones are read in more than one way.
  var contextLimit: Int?

  /// Every layer sees all tokens.
  init(none count: Int) { self.init(all: nil, count: count) }

  /// Every layer sees `window` tokens; nil: all.
  init(all window: Int?, count: Int) { windows = [Int?](repeating: window, count: count) }

  /// Layers that slide see `window` tokens.
  init(_ types: [Configuration.LayerType], window: Int?) {
    windows = types.map { $0 == .sliding ? window : nil }
  }
}

extension Configuration {
  /// A layer's attention; raw values are those of `layer_types`.
  enum LayerType: String {
    case full = "full_attention"
    case sliding = "sliding_attention"
  }

  /// The member `layer_types`.
  ///
  /// - Throws: `Refusal` (`family-configuration`) for layers with another kind of attention.
  func layerTypes(count: Int) throws -> [LayerType]? {
    guard let types = value("layer_types") else { return nil }
    guard let names = types.array?.compactMap(\.string), names.count == types.array?.count else {
      throw refusal("'layer_types' is not a list of strings")
    }
    let known = try names.map { name in
      guard let type = LayerType(rawValue: name) else { throw refusal("layers of type '\(name)' are not supported") }
      return type
    }
    guard known.count == count else { throw refusal("'layer_types' has \(known.count) entries for \(count) layers") }
    return known
  }

  /// The member `sliding_window`: null is no window, and where it is absent, it is `usual`.
  func window(usual: Int? = 4096) throws -> Int? {
    guard contains("sliding_window") else { return usual }
    return try size("sliding_window")
  }

  /// Layers of `types` with a window of `window` tokens.
  ///
  /// - Throws: `Refusal` (`family-configuration`) where a layer slides and there is no window.
  func windows(_ types: [LayerType], _ window: Int?) throws -> LayerWindows {
    guard window != nil || !types.contains(.sliding) else {
      throw refusal("'layer_types' has sliding attention without a window")
    }
    return LayerWindows(types, window: window)
  }

  /// Windows of Qwen2 and Qwen3: those of layers from `max_window_layers` on, where `use_sliding_window` is true.
  func qwenWindows(count: Int) throws -> LayerWindows {
    let isUsed = try flag("use_sliding_window") ?? false
    let stated = try window()
    let first = try number("max_window_layers", allowsZero: true) ?? 28
    let types = try layerTypes(count: count)
    let window = isUsed ? stated : nil
    return try windows(types ?? (0..<count).map { window != nil && Double($0) >= first ? .sliding : .full }, window)
  }
}
