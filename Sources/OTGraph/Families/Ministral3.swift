import OTJSON

/// Ministral 3 (Mistral AI, 2025): Mistral with YaRN, whose queries grow with the position.
package enum Ministral3Family: ModelFamily {
  /// Names, prefixes and signature of its checkpoints.
  package static let facts = FamilyFacts(
    name: "ministral3", modelTypes: ["ministral3"], architectures: ["Ministral3"], prefixes: ["model.", ""],
    anchor: "embed_tokens.weight", signature: LLaMAFamily.facts.signature, layers: "layers.", body: ["norm"])

  /// Adds the model's nodes and outputs.
  package static func build(_ builder: inout GraphBuilder) throws {
    try builder.configuration.require(family: facts.name)
    var decoder = RotaryDecoder(inputBias: .unstated, outputBias: .unstated, mlpBias: .unstated)
    decoder.epsilon = 1e-5
    decoder.heads = (32, 8)
    decoder.headSize = 128
    decoder.contextLength = 262_144
    decoder.windows = { LayerWindows(all: try $0.window(usual: nil), count: $1) }
    decoder.positions = { configuration, count, headSize in
      [Attention.Positions](repeating: .rotary(try configuration.growingRotary(headSize: headSize)), count: count)
    }
    try decoder.build(&builder)
  }
}

extension Configuration {
  fileprivate func growingRotary(headSize: Int) throws -> Rotary {
    guard let parameters = try rotaryObject("rope_scaling") ?? rotaryObject("rope_parameters") else {
      throw refusal("'rope_parameters' is missing")
    }
    let members = RotaryMembers(
      otherMembers: ["llama_4_scaling_beta", "max_position_embeddings"])
    let rotary = try rotary(headSize: headSize, members)
    guard let rate = try number("llama_4_scaling_beta", in: parameters, allowsZero: true),
      let length = try number("original_max_position_embeddings", in: parameters), let length = Int(exactly: length)
    else { throw refusal("'rope_parameters' lacks 'llama_4_scaling_beta' or 'original_max_position_embeddings'") }
    guard rate > 0 else { return rotary }
    return Rotary(
      theta: rotary.theta, dimensions: rotary.dimensions, scaling: rotary.scaling,
      queryGrowth: Rotary.QueryGrowth(rate: rate, length: length))
  }
}
