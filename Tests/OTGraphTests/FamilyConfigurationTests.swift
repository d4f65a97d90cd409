import OTFoundation
import OTGraph
import OTJSON
import OTTensor
import Testing

/// A member of config.json that can change the model is understood, or the checkpoint is refused.
@Suite("Families: members of config.json") struct FamilyConfigurationTests {
  private func expectRefusal(
    _ rule: String, _ tiny: TinyModel, naming name: String = "", family: String? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let error = try refusal({ _ = try tiny.model(family: family) }, sourceLocation: sourceLocation)
    #expect(error.rule == rule, "\(error)", sourceLocation: sourceLocation)
    #expect(name.isEmpty || error.description.contains(name), "\(error)", sourceLocation: sourceLocation)
    #expect(error.remedy?.isEmpty == false, "\(error)", sourceLocation: sourceLocation)
  }

  // MARK: Members

  /// Granite, Gemma, SmolLM3, Cohere, StableLM, Falcon, MiniCPM and others, called a llama.
  @Test(arguments: [
    ("embedding_multiplier", "12.0"), ("attention_multiplier", "0.0078125"), ("residual_multiplier", "0.22"),
    ("logits_scaling", "8.0"), ("attn_logit_softcapping", "50.0"), ("final_logit_softcapping", "30.0"),
    ("query_pre_attn_scalar", "256"), ("hidden_activation", #""gelu_pytorch_tanh""#), ("no_rope_layers", "[1, 0]"),
    ("no_rope_layer_interval", "4"), ("use_qk_norm", "true"), ("use_parallel_residual", "true"),
    ("layer_norm_eps", "1e-5"), ("attention_chunk_size", "8192"), ("scale_emb", "12"), ("scale_depth", "1.4"),
    ("clip_qkv", "8.0"), ("num_experts_per_tok", "2"), ("rope_pct", "0.25"), ("kv_lora_rank", "512"),
    ("sliding_window_pattern", "6"), ("use_bidirectional_attention", "true"), ("is_causal", "false"),
    ("is_encoder_decoder", "true"), ("add_cross_attention", "true"), ("text_config", #"{"a": 1}"#),
    ("use_alibi", "true"), ("position_embedding_type", #""relative_key""#), ("qkv_bias", "true"),
    ("llama_4_scaling", #"{"beta": 0.1}"#), ("attention_sink_size", "4"), ("pruned_heads", #"{"0": [1]}"#),
  ])
  func membersThatChangeTheModelAreRefused(_ name: String, _ value: String) throws {
    let member = try #require(try parsed("[\(value)]").array?.first)
    try expectRefusal("family-member", TinyModel.llama.with([name: member]), naming: "'\(name)'")
    for no in [JSONValue.null, .object([:]), .array([])] {
      #expect(try TinyModel.llama.with([name: no]).model().warnings.isEmpty)
    }
  }

  @Test(arguments: [
    ("_name_or_path", #""x""#), ("pad_token_id", "0"), ("use_cache", "true"), ("attention_dropout", "0.1"),
    ("_attn_implementation", #""eager""#), ("output_attentions", "true"), ("torch_dtype", #""float16""#),
    ("unsloth_fixed", "true"), ("id2label", #"{"0": "x"}"#), ("rope_interleaved", "false"), ("use_mrope", "false"),
    ("is_llama_config", "true"), ("task_specific_params", #"{"a": 1}"#), ("num_nextn_predict_layers", "0"),
    ("use_flash_attn", "true"), ("conversation_template", #""x""#), ("temperature", "0.7"), ("pretraining_tp", "2"),
    ("tokenizer_class", #""T""#), ("transformers.js_config", #"{"a": 1}"#), ("max_window_layers", "28"),
    ("auto_map", #"{"AutoTokenizer": "x.Y"}"#), ("use_sliding_window", "false"), ("layer_types", "null"),
  ])
  func harmlessMembersAreNot(_ name: String, _ value: String) throws {
    let member = try #require(try parsed("[\(value)]").array?.first)
    for tiny in TinyModel.all { #expect(try tiny.with([name: member]).model().warnings.isEmpty) }
  }

  // MARK: Which model it is

  @Test(arguments: [
    ("Qwen3ForCausalLM", TinyModel.llama), ("LlamaBiModel", .llama), ("LlamaEncoderModel", .llama),
    ("HeliumForCausalLM", .llama), ("Ernie4_5ForCausalLM", .llama), ("Qwen2MoeForCausalLM", .llama),
    ("RobertaModel", .bert), ("XLMRobertaForMaskedLM", .bert), ("CamembertModel", .bert),
    ("BertGenerationEncoder", .bert),
  ])
  func otherArchitecturesAreRefused(_ name: String, _ tiny: TinyModel) throws {
    try expectRefusal("family-architecture", tiny.with(["architectures": .array([.string(name)])]), naming: "'\(name)'")
  }

  @Test func headsOfAnyKindAreNoOtherArchitecture() throws {
    for name in ["LlamaModel", "LLaMAForCausalLM", "MistralForRewards", "Qwen2ForRewardModel"] {
      _ = try TinyModel.llama.with(["architectures": .array([.string(name)])]).model()
    }
    // A head that is named is there.
    let answers = TinyModel.llama.with(["architectures": .array([.string("MistralForQuestionAnswering")])])
    try expectRefusal("family-tensors", answers, naming: "'qa_outputs.weight'")
  }

  @Test func codeOfItsOwnIsRefused() throws {
    let code: [String: JSONValue] = ["auto_map": .object(["AutoModelForCausalLM": .string("modeling_x.X")])]
    try expectRefusal("family-code", TinyModel.llama.with(code), naming: "auto_map")
  }

  @Test func aStatedTypeIsNeverOverridden() throws {
    for type in ["qwen3", "gemma2", "helium"] {
      let tiny = TinyModel.llama.with(["model_type": .string(type)])
      try expectRefusal("family-differs", tiny, naming: "'\(type)'", family: "llama")
      let error = try refusal { _ = try tiny.model() }
      #expect(error.rule == "family-unknown" || error.rule == "family-tensors" || error.rule == "family-architecture")
      #expect(error.remedy?.contains("--family") != true, "\(error)")
    }
    try expectRefusal("family-differs", TinyModel.bert, family: "llama")
    #expect(try TinyModel.llama.with(["model_type": .string("mistral")]).model(family: "llama").graph.family == "llama")
    // For a configuration that says none.
    #expect(try TinyModel.llama.with(without: ["model_type"]).model(family: "mistral").graph.family == "llama")
  }

  @Test(arguments: [
    ("gptq", #"{"quant_method": "gptq", "bits": 4}"#, "q_proj.qweight", "GPTQ, 4 bits"),
    ("awq", #"{"quant_method": "awq", "w_bit": 4}"#, "q_proj.qweight", "AWQ, 4 bits"),
    ("bitsandbytes", #"{"quant_method": "bitsandbytes", "load_in_8bit": true}"#, "q_proj.SCB", "bitsandbytes, 8 bits"),
    ("nf4", "null", "q_proj.weight.quant_state.bitsandbytes__nf4", "nf4"),
    ("fp8", #"{"quant_method": "fp8"}"#, "q_proj.weight_scale_inv", "FP8"),
    ("packed", "null", "q_proj.weight_packed", "compressed-tensors"), ("gidx", "null", "q_proj.g_idx", "GPTQ"),
  ])
  func quantizedWeightsAreNamed(_ name: String, _ stated: String, _ tensor: String, _ scheme: String) throws {
    let configuration = try #require(try parsed("[\(stated)]").array?.first)
    var tiny = TinyModel.llama.with(
      ["quantization_config": configuration], ["model.layers.0.self_attn." + tensor: [8, 1]],
      without: ["model.layers.0.self_attn.q_proj.weight"])
    tiny.types["model.layers.0.self_attn." + tensor] = .u8
    try expectRefusal("family-quantized", tiny, naming: scheme)
  }

  /// Schemes that are not read, by what config.json says, and where it says nothing by the tensors.
  @Test(arguments: [
    ("aqlm", "q_proj.codebooks", "AQLM"), ("hqq", "q_proj.W_q", "HQQ"), ("quip", "q_proj.Qidxs", "QuIP#"),
    ("vptq", "q_proj.centroids.weight", "VPTQ"), ("modelopt", "q_proj.weight_scale_2", "ModelOpt"),
    ("eetq", "q_proj.weight", "EETQ"), ("quark", "q_proj.weight", "Quark"), ("torchao", "q_proj.weight", "torchao"),
    ("spqr", "q_proj.weight", "SpQR"), ("bitnet", "q_proj.weight", "BitNet"), ("higgs", "q_proj.weight", "HIGGS"),
    ("something-new", "q_proj.weight", "something-new"),
  ])
  func otherSchemesAreNamed(_ method: String, _ tensor: String, _ name: String) throws {
    var tiny = TinyModel.llama.with(
      ["quantization_config": .object(["quant_method": .string(method)])],
      ["model.layers.0.self_attn." + tensor: [8, 1]], without: ["model.layers.0.self_attn.q_proj.weight"])
    tiny.types["model.layers.0.self_attn." + tensor] = .u8
    try expectRefusal("family-quantized", tiny, naming: "already quantized: \(name)")
    guard tensor != "q_proj.weight" else { return }
    try expectRefusal("family-quantized", tiny.with(without: ["quantization_config"]), naming: name)
  }

  /// The makers' own names of tensors, with a configuration and without.
  @Test func theLayoutOfTheMakersIsNamed() throws {
    var tiny = TinyModel.llama
    tiny.shapes = ["tok_embeddings.weight": [20, 8], "norm.weight": [8], "output.weight": [20, 8]]
    for name in ["attention.wq", "attention.wk", "attention.wv", "attention.wo", "feed_forward.w1"] {
      tiny.shapes["layers.0.\(name).weight"] = [8, 8]
    }
    try expectRefusal("family-layout", tiny, naming: "Meta and Mistral")
    tiny.configuration = [:]
    try expectRefusal("family-layout", tiny, naming: "Meta and Mistral")
  }

  /// A configuration that was not mended after the weights were made float again; its remedy helps.
  @Test func aStaleQuantizationIsNamed() throws {
    let tiny = TinyModel.llama.with(["quantization_config": .object(["quant_method": .string("gptq")])])
    try expectRefusal("family-quantized", tiny, naming: "remove 'quantization_config' from config.json")
    _ = try tiny.with(without: ["quantization_config"]).model()
  }

  // MARK: Positions and windows

  private func rotary(_ tiny: TinyModel) throws -> Rotary {
    let node = try #require(try tiny.model().graph["model.layers.0.self_attn"])
    guard case .attention(let attention) = node.operation, case .rotary(let rotary) = attention.positions else {
      throw Refusal("test", "no rotation")
    }
    return rotary
  }

  private func object(_ text: String) throws -> JSONValue { try parsed(text) }

  @Test func ropeScalingWinsOverRopeParameters() throws {
    let plain = try object(#"{"rope_type": "default", "rope_theta": 500.0}"#)
    let linear = try object(#"{"rope_type": "linear", "factor": 2.0}"#)
    let both = TinyModel.llama.with(["rope_parameters": plain, "rope_scaling": linear, "rope_theta": .integer(500)])
    #expect(try rotary(both) == Rotary(theta: 500, dimensions: 2, scaling: .linear(factor: 2)))
    // Without it, transformers 5 takes its default for the θ that an older one does not know either.
    try expectRefusal("family-configuration", both.with(without: ["rope_theta"]), naming: "contradict")
    let other = try object(#"{"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0}"#)
    try expectRefusal("family-configuration", both.with(["rope_parameters": other]), naming: "contradict")
    let yarn = try object(#"{"rope_type": "yarn", "factor": 2.0, "rope_theta": 500.0}"#)
    #expect(try rotary(both.with(["rope_scaling": yarn])).amplitude > 1)
    let unknown = try object(#"{"rope_type": "spiral", "factor": 2.0}"#)
    try expectRefusal(
      "family-configuration", both.with(["rope_scaling": unknown]), naming: "'spiral' are not supported")
  }

  @Test(arguments: [
    (#"{"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}"#, "'full_attention'"),
    (#"{"rope_type": "default", "partial_rotary_factor": 0.5}"#, "partial_rotary_factor"),
    (#"{"rope_type": "longrope", "short_factor": [1.0]}"#, "'long_factor'"),
    (#"{"rope_type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [2.0]}"#, "'short_factor'"),
    (#"{"rope_type": "yarn", "factor": 2.0, "truncate": 1}"#, "truncate"), (#"{"rope_type": "dynamic"}"#, "'factor'"),
    (#"{"rope_type": "linear"}"#, "lacks 'factor'"), (#"{"rope_theta": 1e4, "llama_4_scaling_beta": 0.1}"#, "beta"),
  ])
  func otherRotationsAreRefused(_ parameters: String, _ name: String) throws {
    let tiny = TinyModel.llama.with(["rope_parameters": try object(parameters)])
    try expectRefusal("family-configuration", tiny, naming: name)
  }

  @Test func partialRotationIsRefused() throws {
    try expectRefusal("family-configuration", TinyModel.llama.with(["partial_rotary_factor": .number(0.5)]))
    #expect(try rotary(TinyModel.llama.with(["partial_rotary_factor": .integer(1)])).dimensions == 2)
  }

  @Test func layersOfOtherKindsAreRefused() throws {
    func typed(_ types: [String], _ window: JSONValue) -> TinyModel {
      TinyModel.llama.with(["layer_types": .array(types.map { .string($0) }), "sliding_window": window])
    }
    #expect(try typed(["full_attention", "full_attention"], .null).model().graph.contextLength == 64)
    try expectRefusal("family-configuration", typed(["full_attention"], .null), naming: "1 entries for 2 layers")
    // A llama has no window: within it, what others make of it is the same.
    #expect(try typed(["full_attention", "sliding_attention"], .integer(16)).model().graph.contextLength == 16)
    try expectRefusal("family-configuration", typed(["full_attention", "sliding_attention"], .null), naming: "window")
    try expectRefusal(
      "family-configuration", typed(["full_attention", "linear_attention"], .null), naming: "'linear_attention'")
  }

  @Test func qwenSlidesOnlyWhereItSaysSo() throws {
    let biases = (0..<2).flatMap { index in
      [("q", 8), ("k", 4), ("v", 4)].map { ("model.layers.\(index).self_attn.\($0.0)_proj.bias", [$0.1]) }
    }
    let qwen = TinyModel.llama.with(
      ["model_type": .string("qwen2"), "sliding_window": .integer(16), "max_window_layers": .integer(1)],
      Dictionary(uniqueKeysWithValues: biases))
    let used: [String: JSONValue] = ["use_sliding_window": .bool(true)]
    #expect(try windows(qwen) == [nil, nil])
    #expect(try windows(qwen.with(used)) == [nil, 16])
    #expect(try windows(qwen.with(used).with(["max_window_layers": .integer(0)])) == [16, 16])
    #expect(try windows(qwen.with(used).with(["max_window_layers": .integer(2)])) == [nil, nil])
    // All that there can be is no window.
    #expect(try windows(qwen.with(used).with(["sliding_window": .integer(64)])) == [nil, nil])
    let types: [String: JSONValue] = ["layer_types": .array([.string("sliding_attention"), .string("full_attention")])]
    #expect(try windows(qwen.with(used).with(types)) == [16, nil])
    try expectRefusal("family-configuration", qwen.with(types), naming: "window")
    for tiny in [qwen, qwen.with(used), qwen.with(used).with(types)] {
      #expect(try tiny.model().graph.contextLength == 64)
    }
  }

  /// The windows of both layers.
  private func windows(_ tiny: TinyModel) throws -> [Int?] {
    let graph = try tiny.model().graph
    return graph.nodes.compactMap { node in
      guard case .attention(let attention) = node.operation else { return nil }
      return .some(attention.window)
    }
  }

  /// All layers of a Mistral slide; where configurations say otherwise, loaders differ, and the window is the limit.
  @Test func mistralSlides() throws {
    let mistral = TinyModel.llama.with(["model_type": .string("mistral")])
    #expect(try windows(mistral) == [nil, nil])
    let short = mistral.with(["sliding_window": .integer(16)])
    #expect(try windows(short) == [16, 16])
    #expect(try short.model().graph.contextLength == 64)
    #expect(try windows(short.with(["sliding_window": .null])) == [nil, nil])
    let mixed = short.with([
      "layer_types": .array([.string("sliding_attention"), .string("full_attention")])
    ])
    #expect(try mixed.model().graph.contextLength == 16)
  }

  // MARK: Biases and heads

  @Test func biasesThatTheConfigurationDeniesAreIgnored() throws {
    let names = ["self_attn.q_proj.bias", "self_attn.o_proj.bias", "mlp.down_proj.bias"].map { "model.layers.0." + $0 }
    let biases = Dictionary(
      uniqueKeysWithValues: (names + ["lm_head.bias"]).map { ($0, [$0.hasPrefix("lm") ? 20 : 8]) })
    let model = try TinyModel.llama.with([:], biases).model()
    #expect(model.warnings.count == 1 && model.warnings[0].contains("'lm_head.bias'"))
    #expect(!model.graph.parameterUses.contains { $0.role == .bias })
    // Where it asks for them, it gets them; that of the head it never asks for.
    let all = ["q", "k", "v", "o"].flatMap { part in
      (0..<2).map { ("model.layers.\($0).self_attn.\(part)_proj.bias", [part == "k" || part == "v" ? 4 : 8]) }
    }
    let asked = try TinyModel.llama.with(["attention_bias": .bool(true)], Dictionary(uniqueKeysWithValues: all)).model()
    #expect(asked.graph.parameterUses.filter { $0.role == .bias }.count == 8 && asked.warnings.isEmpty)
  }

  /// A Qwen2 that is called a llama or a mistral, whose configuration says nothing of biases.
  @Test(arguments: ["llama", "mistral"]) func biasesThatNobodyStatesAreRefused(_ type: String) throws {
    let biases = ["q_proj", "mlp"].map { $0 == "mlp" ? "mlp.down_proj.bias" : "self_attn.q_proj.bias" }
    for name in biases {
      let tiny = TinyModel.llama.with(
        ["model_type": .string(type), "sliding_window": .null], ["model.layers.0." + name: [8]],
        without: ["attention_bias", "mlp_bias"])
      try expectRefusal("family-unused", tiny, naming: "'model.layers.0.\(name)'")
    }
  }

  /// Helium, RoBERTa and others have the tensors and members of a llama or a bert.
  @Test func aTypeThatNoArchitectureConfirmsIsTold() throws {
    let warnings = try TinyModel.llama.with(without: ["architectures"]).model().warnings
    #expect(warnings.count == 1 && warnings[0].contains("names no architecture"))
  }

  @Test func anUntiedHeadMustBeThere() throws {
    let untied: [String: JSONValue] = ["tie_word_embeddings": .bool(false)]
    for tiny in [TinyModel.opt, .bloom] {
      try expectRefusal("family-tensors", tiny.with(untied), naming: "'lm_head.weight' is missing")
      let head = try tiny.with(untied, ["lm_head.weight": [20, 8]]).model().graph
      #expect(head.parameterUses(of: "lm_head").map(\.tensor) == ["lm_head.weight"])
    }
    try expectRefusal(
      "family-tensors", TinyModel.bert.with(untied), naming: "'cls.predictions.decoder.weight' is missing")
  }

  @Test func theDecodersOwnBiasIsAdded() throws {
    let own = ["cls.predictions.decoder.weight": [20, 8], "cls.predictions.decoder.bias": [20]]
    let graph = try TinyModel.bert.with(["tie_word_embeddings": .bool(false)], own).model().graph
    let uses = graph.parameterUses(of: "cls.predictions.decoder").map(\.tensor)
    #expect(uses == ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"])
  }

  @Test func theFileAtFaultIsNamed() throws {
    let error = try refusal { _ = try TinyModel.llama.with(["rms_norm_eps": .string("x")]).model() }
    #expect(error.file == "config.json")
    #expect(
      try refusal { _ = try TinyModel.llama.with(without: ["model.norm.weight"]).model() }.file == "model.safetensors")
  }
}
