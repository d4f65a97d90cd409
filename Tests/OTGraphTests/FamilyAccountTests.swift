import OTFoundation
import OTGraph
import OTJSON
import Testing

/// Every tensor of a checkpoint is used, or known to have no part, or named, or the checkpoint is refused.
@Suite("Families: tensors that no node uses") struct FamilyAccountTests {
  private let layer = "model.layers.1."

  @Test func theTinyModelsAreWhole() throws {
    for tiny in TinyModel.all {
      let model = try tiny.model()
      #expect(model.warnings.isEmpty && model.graph.missing.isEmpty)
      #expect(model.graph.unusedTensors(in: try tiny.catalog()).isEmpty)
    }
  }

  /// What other families have in a layer beside LLaMA's tensors, with a configuration that says `llama`.
  @Test(arguments: [
    // Qwen3; Gemma 2 and 3; Hunyuan; OLMo 2; StableLM; a mixture of experts; multi-query fusion.
    ["self_attn.q_norm.weight", "self_attn.k_norm.weight"],
    ["pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"],
    ["self_attn.query_layernorm.weight", "self_attn.key_layernorm.weight"],
    ["input_layernorm.bias"], ["mlp.experts.0.w1.weight"], ["self_attn.rotary.scale"],
  ])
  func tensorsOfOtherModelsAreRefused(_ others: [String]) throws {
    let added = Dictionary(uniqueKeysWithValues: others.map { (layer + $0, [2]) })
    let error = try refusal { _ = try TinyModel.llama.with([:], added).model() }
    #expect(error.rule == "family-unused")
    for name in added.keys { #expect(error.message.contains("'\(name)'"), "\(error)") }
    #expect(error.remedy?.contains("--weights-only") == true)
  }

  @Test func manyLeftOversAreCounted() throws {
    let added = (0..<7).map { ("\(layer)self_attn.q_norm\($0).weight", [2]) }
    let error = try refusal {
      _ = try TinyModel.llama.with([:], Dictionary(uniqueKeysWithValues: added)).model()
    }
    #expect(error.message.contains("7 tensors") && error.message.hasSuffix("and 4 more"), "\(error)")
  }

  /// Norms and embeddings of the model itself.
  @Test(arguments: [
    (TinyModel.llama, "model.norm.bias"), (.llama, "model.embedding_norm.weight"), (.llama, "ln_extra.weight"),
    (.bert, "bert.embeddings.task_type_embeddings.weight"), (.bert, "bert.encoder.embedding_hidden_mapping_in.weight"),
    (.bloom, "transformer.ln_f.gain"), (.opt, "model.decoder.embed_layer_norm.weight"),
  ])
  func leftOversOutsideTheLayersAreRefused(_ tiny: TinyModel, _ name: String) throws {
    let error = try refusal { _ = try tiny.with([:], [name: [8]]).model() }
    #expect(error.rule == "family-unused" && error.message.contains("'\(name)'"))
  }

  @Test(arguments: [
    "rotary_emb.inv_freq", "layers.0.self_attn.rotary_emb.inv_freq", "layers.1.self_attn.masked_bias",
    "layers.1.self_attn.rotary_emb.cos_cached", "embeddings.position_ids",
  ])
  func buffersHaveNoPart(_ name: String) throws {
    let model = try TinyModel.llama.with([:], ["model." + name: [4]]).model()
    #expect(model.warnings.isEmpty)
  }

  /// A mask of four dimensions is a buffer, a vector of that name a parameter.
  @Test func masksAreBuffers() throws {
    let name = layer + "attention.bias"
    #expect(try TinyModel.llama.with([:], [name: [1, 1, 64, 64]]).model().warnings.isEmpty)
    #expect(try refusal { _ = try TinyModel.llama.with([:], [name: [8]]).model() }.rule == "family-unused")
    // Integers cannot be parameters.
    var counter = TinyModel.llama.with([:], [layer + "steps": [1]])
    counter.types[layer + "steps"] = .i64
    #expect(try counter.model().warnings.isEmpty)
  }

  @Test func headsThatAreNotRunAreNamed() throws {
    func model(_ architecture: String, _ labels: JSONValue = .null) throws -> FamilyModel {
      try TinyModel.llama.with(
        ["architectures": .array([.string(architecture)]), "id2label": labels], ["score.weight": [3, 8]],
        without: ["lm_head.weight"]
      ).model()
    }
    let unnamed = try model("LlamaModel")
    #expect(unnamed.graph.outputs == ["hidden": "model.norm"])
    #expect(unnamed.warnings.count == 2)
    #expect(unnamed.warnings[0].contains("'score.weight'") && unnamed.warnings[1].contains("no logits"))
    let classifier = try model(
      "LlamaForSequenceClassification", .object(["0": .string("a"), "1": .string("b"), "2": .string("c")]))
    #expect(classifier.graph.outputs == ["hidden": "model.norm", "class_logits": "score"])
    #expect(classifier.warnings.isEmpty)
    // Two labels, where the configuration says nothing.
    #expect(try refusal { _ = try model("LlamaForSequenceClassification") }.rule == "family-configuration")

    let heads = (0..<5).map { ("medusa_head.\($0).0.linear.weight", [8, 8]) }
    let medusa = try TinyModel.llama.with([:], Dictionary(uniqueKeysWithValues: heads)).model()
    #expect(medusa.warnings.count == 1 && medusa.warnings[0].hasSuffix("'medusa_head.2.0.linear.weight' and 2 more"))
    #expect(medusa.graph.outputs["logits"] != nil)
  }

  @Test func layersBeyondTheConfigurationAreNamed() throws {
    let model = try TinyModel.llama.addingLayer(2, under: "model.layers.").model()
    #expect(model.warnings.count == 1)
    #expect(model.warnings[0].contains("2 layers") && model.warnings[0].contains("'model.layers.2."))
    #expect(model.graph["model.layers.2.mlp_sum"] == nil)
  }

  @Test func adaptersAreRefused() throws {
    let lora = ["A", "B"].map { (layer + "self_attn.q_proj.lora_\($0).weight", [8, 8]) }
    let beside = try refusal {
      _ = try TinyModel.llama.with([:], Dictionary(uniqueKeysWithValues: lora)).model()
    }
    #expect(
      beside.rule == "family-adapter" && beside.message.contains("beside") && beside.remedy?.contains("merge") == true)
    var alone = TinyModel.llama
    alone.shapes = Dictionary(uniqueKeysWithValues: lora)
    let adapter = try refusal { _ = try alone.model() }
    #expect(adapter.rule == "family-adapter" && adapter.message.contains("no model"))
  }

  /// Every tool puts its own word before all names, or leaves the usual one out.
  @Test(arguments: ["module.", "_orig_mod.", "module._orig_mod.", "state_dict.", "model.language_model."])
  func namesAreFoundBehindAWrapper(_ wrapper: String) throws {
    let isInside = wrapper == "model.language_model."
    func renamed(_ name: String) -> String {
      guard isInside else { return wrapper + name }
      return name.hasPrefix("model.") ? wrapper + name.dropFirst(6) : name
    }
    for tiny in isInside ? [TinyModel.llama] : TinyModel.all {
      let plain = try tiny.model()
      let model = try tiny.model(renamed: renamed)
      #expect(model.warnings == ["the names of the tensors are read without '\(wrapper)'"])
      let catalog = try tiny.catalog(renamed: renamed)
      #expect(model.graph.unusedTensors(in: catalog).isEmpty)
      #expect(model.graph.nodes.count == plain.graph.nodes.count)
      #expect(model.graph.parameterUses.map(\.shape) == plain.graph.parameterUses.map(\.shape))
      // What is written has the checkpoint's own names.
      #expect(Set(model.graph.parameterUses.map(\.outputName)) == Set(catalog.names))
      #expect(try Families.graph(configuration: nil, tensors: catalog).family == plain.graph.family)
    }
  }

  /// Wrappers of single modules leave their word anywhere within names.
  @Test(arguments: ["_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod."])
  func namesAreFoundThroughWrappersOfModules(_ part: String) throws {
    for tiny in TinyModel.all {
      let plain = try tiny.model()
      for outer in ["", "module."] {
        func renamed(_ name: String) -> String {
          let parts = name.split(separator: ".").map(String.init)
          guard let index = parts.firstIndex(where: { Int($0) != nil }) else { return outer + name }
          return outer
            + (parts[...index] + [part.dropLast() + "." + parts[(index + 1)...].joined(separator: ".")])
            .joined(separator: ".")
        }
        let model = try tiny.model(renamed: renamed)
        #expect(model.warnings.contains("the names of the tensors are read without '\(part)'"))
        #expect(model.graph.parameterUses.map(\.shape) == plain.graph.parameterUses.map(\.shape))
        #expect(Set(model.graph.parameterUses.map(\.outputName)) == Set(try tiny.catalog(renamed: renamed).names))
      }
    }
  }

  /// Of two tied tensors a file may keep either.
  @Test func theHeadStandsForATiedEmbedding() throws {
    var tiny = TinyModel.llama.with(["tie_word_embeddings": .bool(true)], [:])
    tiny.shapes["model.embed_tokens.weight"] = nil
    for wrapper in ["", "module."] {
      let model = try tiny.model { wrapper + $0 }
      #expect(model.graph.outputs["logits"] != nil)
      let tables = model.graph.parameterUses.filter { $0.role == .table }.map(\.outputName)
      #expect(tables == [wrapper + "lm_head.weight"])
      #expect(model.warnings.contains { $0.contains("'\(wrapper)lm_head.weight' alone") }, "\(model.warnings)")
      #expect(model.graph.unusedTensors(in: try tiny.catalog { wrapper + $0 }).isEmpty)
    }
    // Two that are not tied are two.
    tiny.configuration["tie_word_embeddings"] = .bool(false)
    #expect(try refusal { _ = try tiny.model() }.message.contains("embed_tokens"))
  }

  /// Without `architectures` the type alone is little to go by: what other families have is refused, until
  /// the architecture is stated.
  @Test(arguments: [
    (TinyModel.bert, "pad_token_id", JSONValue.integer(1)), (.llama, "hidden_act", .string("gelu_pytorch_tanh")),
    (.llama, "use_bias", .bool(false)),
  ])
  func signsOfOtherFamiliesWithoutAnArchitecture(_ tiny: TinyModel, _ key: String, _ value: JSONValue) throws {
    var other = tiny.with([key: value], [:])
    let stated = other.configuration.removeValue(forKey: "architectures")
    let error = try refusal { _ = try other.model() }
    #expect(error.rule == "family-architecture" && error.remedy?.contains("\"architectures\": [\"") == true)
    other.configuration["architectures"] = stated
    if key != "use_bias" { #expect(try other.model().graph.missing.isEmpty) }
    other = tiny
    other.configuration["architectures"] = nil
    #expect(try other.model().warnings.count == 1)
  }

  @Test func twoModelsInOneCheckpointAreRefused() throws {
    let tiny = TinyModel.llama
    var both = tiny
    both.shapes = [:]
    for (name, shape) in tiny.shapes {
      both.shapes["teacher." + name] = shape
      both.shapes["student." + name] = shape
    }
    let error = try refusal { _ = try both.model() }
    #expect(error.message.contains("'student.'") && error.message.contains("'teacher.'"))
  }
}
