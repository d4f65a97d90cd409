/// A family of models, which writes a checkpoint as a graph; one file each.
package protocol ModelFamily: Sendable {
  /// The facts of its checkpoints beside the graph.
  static var facts: FamilyFacts { get }

  /// Adds the model's nodes and outputs to `builder`.
  ///
  /// Without a configuration, sizes come from the tensors' shapes, and what these do not tell is
  /// added to `builder.missing`. A family states which members of config.json it understands by
  /// reading them: any other that can change arithmetic is refused afterwards (`ArithmeticMembers`),
  /// and so is any tensor of the body that no node uses (`TensorAccount`).
  ///
  /// - Throws: `Refusal`: `family-configuration` for a configuration that cannot be understood or is not
  ///   supported, `family-tensors` for a tensor whose shape tells a size and that is absent.
  static func build(_ builder: inout GraphBuilder) throws
}

extension ModelFamily {
  /// The name for `--family` and `Graph.family`.
  package static var name: String { facts.name }
}

/// Facts of a family's checkpoints beside their graph: names, prefixes, signature.
package struct FamilyFacts: Sendable {
  /// The name for `--family` and `Graph.family`.
  package let name: String
  /// Values of `model_type` in config.json.
  package let modelTypes: [String]
  /// The names of its `architectures`, without what they end in: `Llama` of `LlamaForCausalLM`.
  let architectures: [String]
  /// Prefixes of the names of its tensors, the usual first; tools leave the prefix out or add it.
  let prefixes: [String]
  /// A tensor that every checkpoint has, behind the prefix.
  let anchor: String
  /// Tensors behind the prefix that tell the family where there is no configuration.
  let signature: [String]
  /// The part of a name between the prefix and the index of a layer.
  let layers: String
  /// Beginnings, behind the prefix, of what takes part in the arithmetic beside the layers.
  let body: [String]
  /// Code of their own that published checkpoints name (`auto_map`: `module.Class`) and that computes the same.
  var publishedCode: [String] = []
}
