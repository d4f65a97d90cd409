import OTGraph
import OTJSON

/// Which layers of a decoder see a window of tokens, in the order of the layers.
struct SlidingLayers {
  /// True for those with a window.
  let slides: [Bool]

  /// As config.json says, else as the attentions do.
  init(_ attentions: [Attention], _ configuration: JSONObject) {
    let types = configuration["layer_types"]?.array?.compactMap(\.string)
    slides = types?.map { $0 == "sliding_attention" } ?? attentions.map { $0.window != nil }
  }

  /// p, where every p-th layer sees all tokens and others a window; nil: none.
  var period: Int? {
    (1...slides.count + 1).first { period in
      slides.enumerated().allSatisfy { $1 == (($0 + 1) % period != 0) }
    }
  }
}
