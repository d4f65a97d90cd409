/// EXAONE 4 (arXiv:2507.11407): LLaMA's decoder with norms after attention and MLP instead of before, norms of heads, and
/// in the larger models windows in most layers and no positions in the others.
package enum EXAONE4Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "exaone4", modelTypes: ["exaone4"], architectures: ["Exaone4"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight",
    signature: OLMo2Family.facts.signature, layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    try builder.configuration.require(family: facts.name)
    var decoder = RotaryDecoder()
    decoder.norms = .after
    decoder.epsilon = 1e-5
    decoder.heads = (32, 32)
    decoder.contextLength = 2048
    decoder.between = RotaryDecoder.headNorms(builder)
    decoder.windows = { try $0.windows($0.exaoneTypes(count: $1), $0.window()) }
    decoder.positions = { configuration, count, headSize in
      let rotary = try configuration.rotary(headSize: headSize)
      let isHybrid = try configuration.window() != nil
      return try configuration.exaoneTypes(count: count).map { isHybrid && $0 == .full ? .none : .rotary(rotary) }
    }
    try decoder.build(&builder)
  }
}

extension Configuration {
  /// `layer_types`, or every so many layers a full one; a pattern of letters comes with the former.
  fileprivate func exaoneTypes(count: Int) throws -> [LayerType] {
    let pattern = value("sliding_window_pattern")
    if let types = try layerTypes(count: count) { return types }
    let isHybrid = try window() != nil
    guard isHybrid, pattern?.string == nil else { throw refusal("'layer_types' is missing") }
    let interval = try size("sliding_window_pattern") ?? 4
    return (0..<count).map { ($0 + 1) % interval == 0 ? .full : .sliding }
  }
}
