import OTFoundation
import OTJSON

/// A checkpoint read as a model.
package struct FamilyModel: Sendable {
  /// The graph of its operations.
  package let graph: Graph
  /// Warnings about parts of the checkpoint that are not in the graph, a line each.
  package let warnings: [String]

  /// A model.
  package init(graph: Graph, warnings: [String]) { (self.graph, self.warnings) = (graph, warnings) }
}

/// The families that are known.
package enum Families {
  /// Every family.
  package static let all: [any ModelFamily.Type] = [
    OPTFamily.self, BLOOMFamily.self, LLaMAFamily.self, BERTFamily.self, GPT2Family.self, Qwen3Family.self,
    GemmaFamily.self, Gemma2Family.self, Gemma3Family.self, Phi3Family.self, OLMo2Family.self, GraniteFamily.self,
    SmolLM3Family.self, RoBERTaFamily.self, DistilBERTFamily.self, ELECTRAFamily.self, ModernBERTFamily.self,
    MPNetFamily.self, NomicBERTFamily.self, GPTNeoXFamily.self, FalconFamily.self, GPTJFamily.self, PhiFamily.self,
    StarCoder2Family.self, GPTBigCodeFamily.self, StableLMFamily.self, CohereFamily.self, Cohere2Family.self,
    OLMoFamily.self, NemotronFamily.self, GLMFamily.self, EXAONE4Family.self, Ministral3Family.self,
    GraniteHybridFamily.self, MPTFamily.self,
    MixtralFamily.self, Qwen3MoEFamily.self, Qwen2MoEFamily.self,
    GPTOSSFamily.self, DeepSeekV2Family.self, DeepSeekV3Family.self,
  ]

  /// The graph of a checkpoint, without the warnings; as `model` gives it.
  package static func graph(
    configuration: JSONValue?, tensors: TensorCatalog, override: String? = nil, configurationFile: String? = nil
  ) throws -> Graph {
    try model(
      configuration: configuration, tensors: tensors, override: override, configurationFile: configurationFile
    ).graph
  }

  /// The model of a checkpoint: of the family of the configuration's `model_type`, else of the family
  /// called `override`, else of the one that knows the tensors' names.
  ///
  /// - Parameters:
  ///   - configuration: the content of config.json.
  ///   - override: a family for a configuration without `model_type`, or for none; never another than is stated.
  ///   - configurationFile: the path of config.json, for refusals.
  /// - Throws: `Refusal` with a rule `family-…` or `graph-…`: a checkpoint is read whole and right, or not at all.
  package static func model(
    configuration: JSONValue?, tensors: TensorCatalog, override: String? = nil, configurationFile: String? = nil
  ) throws -> FamilyModel {
    let whole = try Configuration(configuration, file: configurationFile ?? tensors.file)
    if let refusal = QuantizedSource.refusal(whole, tensors) { throw refusal }
    try TensorAccount.checkAdapters(tensors)
    try OtherLayouts.check(tensors)
    let configuration = try TextPart.configuration(in: whole) ?? whole
    let family = try family(configuration, tensors, override: override)
    let facts = family.facts
    try configuration.checkArchitectures(of: facts)
    let names = try FamilyNames(
      of: facts, in: tensors, isTied: configuration.flag("tie_word_embeddings") ?? !configuration.isPresent)
    var builder = GraphBuilder(names.tensors, configuration: configuration, prefix: names.prefix)
    try family.build(&builder)
    try builder.checkTensors()
    let graph = try Graph(
      family: facts.name, nodes: builder.nodes, outputs: builder.outputs, vocabularySize: builder.vocabularySize,
      contextLength: builder.contextLength, missing: builder.missing, file: tensors.file)
    try configuration.checkMembers(family: facts.name)
    let account = try TensorAccount(of: names, facts: facts, graph: graph, builder: builder)
    var warnings = names.warnings + account.warnings
    if whole.isPresent && whole.value("architectures") == nil {
      warnings.append(
        "config.json names no architecture: that the model is a '\(facts.name)' is told by its type alone")
    }
    if graph.isCausal && !Graph.scoreOutputs.contains(where: { graph.outputs[$0] != nil }) {
      warnings.append("the checkpoint has no output head: the model gives hidden states and no logits")
    }
    return FamilyModel(graph: try names.restored(graph), warnings: warnings)
  }

  /// A name without what tools leave out or add before it: the prefixes of the families, and `module.` of
  /// models that were trained on several devices.
  static func withoutOptionalPrefixes(_ name: String) -> Substring {
    var rest = name[...]
    while let prefix = optionalPrefixes.first(where: rest.hasPrefix) { rest.removeFirst(prefix.count) }
    return rest
  }

  private static let optionalPrefixes = ["module."] + all.flatMap { $0.facts.prefixes }.filter { !$0.isEmpty }

  private static func family(
    _ configuration: Configuration, _ tensors: TensorCatalog, override: String?
  ) throws -> any ModelFamily.Type {
    let type = try configuration.text("model_type")
    let stated = all.first { $0.facts.modelTypes.contains(type ?? "") }
    if let override {
      // A model type ("mistral") is as good as the family's name.
      let wanted = override.lowercased()
      guard let family = all.first(where: { $0.name == wanted || $0.facts.modelTypes.contains(wanted) }) else {
        throw unknown("there is no family '\(override)'", file: nil, remedy: "name a known family; \(withoutGraph)")
      }
      if let type, stated?.name != family.name {
        throw Refusal(
          "family-differs",
          "config.json says that the model is of type '\(type)', which is not of the family '\(family.name)'",
          file: configuration.file, remedy: "leave out --family; \(withoutGraph)")
      }
      return family
    }
    if let type {
      if let stated { return stated }
      if let refusal = RecurrentModels.refusal(type, file: configuration.file) { throw refusal }
      throw unknown("models of type '\(type)' are not known", file: configuration.file, remedy: withoutGraph)
    }
    // The family whose prefix the names have, before others behind a wrapper; of families of which one has all of
    // the other's names and more, the one with more.
    let recognized = all.compactMap { family in
      FamilyNames.recognition(of: family.facts, in: tensors).map { (family: family, rank: $0) }
    }
    guard let family = recognized.max(by: { $0.rank < $1.rank })?.family else {
      throw unknown(
        "the names of the tensors are of no known family", file: tensors.file,
        remedy: "put the model's config.json beside the checkpoint, or name the family with --family; \(withoutGraph)")
    }
    return family
  }

  private static func unknown(_ message: String, file: String?, remedy: String) -> Refusal {
    let known = all.map { $0.name }.joined(separator: ", ")
    return Refusal("family-unknown", "\(message); known families: \(known)", file: file, remedy: remedy)
  }

  /// The remedy that any model has whose tensors can be read.
  static let withoutGraph = "--weights-only packs the matrices of any model, without a graph to run"
}
