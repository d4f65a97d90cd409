import OTJSON

/// The text model of Gemma 3 (arXiv:2503.19786): Gemma 2 with norms over heads instead of a cap of the scores, windows
/// in five layers of six, and another rotation in these.
package enum Gemma3Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "gemma3", modelTypes: ["gemma3_text"], architectures: ["Gemma3", "Gemma3Text"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: Gemma2Family.facts.signature + ["layers.0.self_attn.q_norm.weight"], layers: "layers.",
    body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    let configuration = builder.configuration
    var decoder = try RotaryDecoder.gemma2(configuration)
    // Published configurations leave out what is usual.
    decoder.heads = (8, 4)
    decoder.contextLength = 131_072
    // `attn_logit_softcapping` is stated by configurations and ignored by transformers: a number is refused.
    decoder.logitCap = try configuration.cap("final_logit_softcapping", usual: nil)
    decoder.between = RotaryDecoder.headNorms(builder, offset: 1)
    decoder.windows = { try $0.windows($0.gemma3Types(count: $1), $0.window()) }
    decoder.positions = { configuration, count, headSize in
      let full = Attention.Positions.rotary(try configuration.gemma3Rotary(.full, headSize: headSize))
      let sliding = Attention.Positions.rotary(try configuration.gemma3Rotary(.sliding, headSize: headSize))
      return try configuration.gemma3Types(count: count).map { $0 == .full ? full : sliding }
    }
    try decoder.build(&builder)
  }
}

extension Configuration {
  fileprivate func gemma3Types(count: Int) throws -> [LayerType] {
    let pattern = try size("sliding_window_pattern") ?? 6
    // What transformers writes beside `layer_types`.
    _ = value("_sliding_window_pattern")
    return try layerTypes(count: count) ?? (0..<count).map { ($0 + 1) % pattern == 0 ? .full : .sliding }
  }

  /// The rotation of layers of one type: of `rope_parameters`, by type, or of the older members, whose
  /// `rope_scaling` is that of full attention alone.
  fileprivate func gemma3Rotary(_ type: LayerType, headSize: Int) throws -> Rotary {
    let key = type == .full ? "rope_theta" : "rope_local_base_freq"
    let theta = try number(key) ?? (type == .full ? 1_000_000 : 10_000)
    let older = try rotaryObject("rope_scaling")
    guard let newer = try rotaryObject("rope_parameters") else {
      return try rotary(type == .full ? older : nil, headSize: headSize, usualTheta: theta)
    }
    guard older == nil else { throw refusal("'rope_scaling' and 'rope_parameters' are both there") }
    let known = [LayerType.full.rawValue, LayerType.sliding.rawValue]
    guard newer.object?.keys.allSatisfy(known.contains) == true else {
      throw refusal("'rope_parameters' is not by type of layer")
    }
    return try rotary(newer[type.rawValue].flatMap { $0 == .null ? nil : $0 }, headSize: headSize, usualTheta: theta)
  }
}
