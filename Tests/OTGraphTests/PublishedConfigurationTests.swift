import OTFoundation
import OTGraph
import OTJSON
import OTTensor
import Testing

/// Configurations as the models' publishers wrote them, in the words of their day, with fewer layers.
@Suite("Families: published configurations") struct PublishedConfigurationTests {
  /// Tensors of a decoder with LLaMA's names, of the sizes that a configuration gives.
  private struct Decoder {
    var prefix = "model."
    var layers: Int
    var hidden, inner, heads, groups, headSize, vocabulary: Int
    var hasHead = false
    var isFused = false
    var norms = ["input_layernorm", "post_attention_layernorm"]
    /// Channels of norms of queries and keys.
    var inner2: (queries: Int, keys: Int)?

    var shapes: [String: [Int]] {
      var shapes = [prefix + "embed_tokens.weight": [vocabulary, hidden], prefix + "norm.weight": [hidden]]
      if hasHead { shapes["lm_head.weight"] = [vocabulary, hidden] }
      for index in 0..<layers {
        let layer = "\(prefix)layers.\(index)."
        for norm in norms { shapes["\(layer)\(norm).weight"] = [hidden] }
        let (queries, keys) = (heads * headSize, groups * headSize)
        shapes[layer + "self_attn.o_proj.weight"] = [hidden, queries]
        shapes[layer + "mlp.down_proj.weight"] = [hidden, inner]
        if isFused {
          shapes[layer + "self_attn.qkv_proj.weight"] = [queries + 2 * keys, hidden]
          shapes[layer + "mlp.gate_up_proj.weight"] = [2 * inner, hidden]
        } else {
          shapes[layer + "self_attn.q_proj.weight"] = [queries, hidden]
          for name in ["k", "v"] { shapes["\(layer)self_attn.\(name)_proj.weight"] = [keys, hidden] }
          for name in ["gate", "up"] { shapes["\(layer)mlp.\(name)_proj.weight"] = [inner, hidden] }
        }
        if let inner2 {
          shapes[layer + "self_attn.q_norm.weight"] = [inner2.queries]
          shapes[layer + "self_attn.k_norm.weight"] = [inner2.keys]
        }
      }
      return shapes
    }
  }

  private static let around = [
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
  ]

  private func model(_ configuration: String, _ decoder: Decoder, more: [String: [Int]] = [:]) throws -> FamilyModel {
    let shapes = decoder.shapes.merging(more) { $1 }
    return try Families.model(configuration: parsed(configuration), tensors: TensorCatalog(shapes: shapes))
  }

  private func attentions(_ model: FamilyModel) -> [Attention] {
    model.graph.nodes.compactMap { if case .attention(let attention) = $0.operation { attention } else { nil } }
  }

  private func rotary(_ attention: Attention) -> Rotary? {
    if case .rotary(let rotary) = attention.positions { rotary } else { nil }
  }

  private func scale(_ model: FamilyModel, _ node: String) -> Float? {
    if case .scale(let scale)? = model.graph[node]?.operation { scale.factor } else { nil }
  }

  @Test func gemma2B() throws {
    let model = try model(
      """
      {"architectures": ["GemmaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 2,
       "eos_token_id": 1, "head_dim": 256, "hidden_act": "gelu", "hidden_activation": null, "hidden_size": 2048,
       "initializer_range": 0.02, "intermediate_size": 16384, "max_position_embeddings": 8192, "model_type": "gemma",
       "num_attention_heads": 8, "num_hidden_layers": 2, "num_key_value_heads": 1, "pad_token_id": 0,
       "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 10000.0, "torch_dtype": "bfloat16",
       "transformers_version": "4.38.0.dev0", "use_cache": true, "vocab_size": 256000}
      """,
      Decoder(layers: 2, hidden: 2048, inner: 16384, heads: 8, groups: 1, headSize: 256, vocabulary: 256_000))
    #expect(model.warnings.isEmpty && model.graph.missing.isEmpty && model.graph.contextLength == 8192)
    #expect(model.graph["model.layers.0.mlp.act_fn"]?.operation == .activation(.geluTanh))
    #expect(scale(model, "model.scaled_embeddings") == Float(2048).squareRoot())
    #expect(attentions(model).allSatisfy { $0.scale == 0.0625 && $0.window == nil })
  }

  @Test func gemma2Of2B() throws {
    let model = try model(
      """
      {"architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
       "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 107],
       "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
       "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "initializer_range": 0.02,
       "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
       "num_hidden_layers": 3, "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256,
       "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "bfloat16",
       "transformers_version": "4.42.4", "use_cache": true, "vocab_size": 256000}
      """,
      Decoder(
        layers: 3, hidden: 2304, inner: 9216, heads: 8, groups: 4, headSize: 256, vocabulary: 256_000,
        norms: Self.around))
    #expect(model.warnings.isEmpty && model.graph.contextLength == 8192)
    #expect(attentions(model).map(\.window) == [4096, nil, 4096])
    #expect(attentions(model).allSatisfy { $0.softCap == 50 && $0.scale == 0.0625 })
    #expect(model.graph["capped_logits"]?.operation == .softCap(SoftCap(cap: 30)))
  }

  /// Of 4 billion weights: a part of a model of images, whose configuration leaves out what is usual.
  @Test(arguments: ["language_model.model.", "model.language_model."]) func gemma3Of4B(_ prefix: String) throws {
    let tower = ["vision_tower.vision_model.post_layernorm.weight": [1152]]
    let model = try model(
      """
      {"architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000,
       "eos_token_id": [1, 106], "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256,
       "model_type": "gemma3", "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
         "model_type": "gemma3_text", "num_hidden_layers": 7, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
         "sliding_window": 1024}, "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
       "vision_config": {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304,
         "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
         "vision_use_head": false}}
      """,
      Decoder(
        prefix: prefix, layers: 7, hidden: 2560, inner: 10240, heads: 8, groups: 4, headSize: 256, vocabulary: 262_208,
        norms: Self.around, inner2: (256, 256)), more: tower)
    #expect(model.graph.missing.isEmpty && model.graph.contextLength == 131_072)
    #expect(
      model.warnings.count == 2 && model.warnings[1].contains("'vision_tower.vision_model.post_layernorm.weight'"))
    #expect(attentions(model).map(\.window) == [1024, 1024, 1024, 1024, 1024, nil, 1024])
    #expect(attentions(model).allSatisfy { $0.softCap == nil && $0.headCount == 8 && $0.keyValueHeadCount == 4 })
    let rotaries = attentions(model).compactMap(rotary)
    #expect(rotaries[0] == Rotary(theta: 10000, dimensions: 256))
    #expect(rotaries[5] == Rotary(theta: 1_000_000, dimensions: 256, scaling: .linear(factor: 8)))
  }

  private func phi(_ members: String) -> String {
    """
    {"architectures": ["Phi3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
     "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config",
       "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}, "bos_token_id": 1, "embd_pdrop": 0.0,
     "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
     "intermediate_size": 8192, "model_type": "phi3", "num_hidden_layers": 1, "resid_pdrop": 0.0,
     "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "torch_dtype": "bfloat16", "transformers_version": "4.40.2",
     "use_cache": true, \(members)}
    """
  }

  @Test func phi3Mini() throws {
    let decoder = Decoder(
      layers: 1, hidden: 3072, inner: 8192, heads: 32, groups: 32, headSize: 96, vocabulary: 32064, hasHead: true,
      isFused: true)
    let text = phi(
      """
      "max_position_embeddings": 4096, "num_attention_heads": 32, "num_key_value_heads": 32,
      "original_max_position_embeddings": 4096, "pad_token_id": 32000, "rope_scaling": null, "sliding_window": 2047,
      "tie_word_embeddings": false, "vocab_size": 32064
      """)
    let model = try model(text, decoder)
    #expect(model.warnings.isEmpty && attentions(model)[0].window == 2047)
    // The same code out of another folder of the publisher; other code is refused.
    let elsewhere = text.replacing("\"modeling_phi3", with: "\"microsoft/Phi-3-mini-4k-instruct--modeling_phi3")
    _ = try self.model(elsewhere, decoder)
    let other = text.replacing("modeling_phi3.Phi3", with: "modeling_other.Phi3")
    #expect(try refusal { _ = try self.model(other, decoder) }.rule == "family-code")
  }

  @Test func phi4Mini() throws {
    let short = [Double](repeating: 1, count: 48)
    let long = (0..<48).map { 1 + Double($0) / 4 }
    let model = try model(
      phi(
        """
        "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": false, "mlp_bias": false,
        "max_position_embeddings": 131072, "num_attention_heads": 24, "num_key_value_heads": 8,
        "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75, "sliding_window": 262144,
        "rope_scaling": {"long_factor": \(long), "short_factor": \(short), "type": "longrope"},
        "tie_word_embeddings": true, "vocab_size": 200064
        """),
      Decoder(
        layers: 1, hidden: 3072, inner: 8192, heads: 24, groups: 8, headSize: 128, vocabulary: 200_064, isFused: true))
    #expect(model.warnings.isEmpty && model.graph.contextLength == 131_072)
    let attention = attentions(model)[0]
    #expect(attention.window == nil)
    let rotary = try #require(self.rotary(attention))
    #expect(rotary.dimensions == 96 && rotary.longContext?.length == 4096)
    // √(1 + ln 32 / ln 4096)
    #expect(abs(rotary.amplitude - 1.1902380714238083) < 1e-12)
  }

  @Test func granite3() throws {
    let model = try model(
      """
      {"architectures": ["GraniteForCausalLM"], "attention_bias": false, "attention_dropout": 0.1,
       "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0,
       "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
       "logits_scaling": 8.0, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "granite",
       "num_attention_heads": 32, "num_hidden_layers": 1, "num_key_value_heads": 8, "pad_token_id": 0,
       "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 5000000.0,
       "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.46.0.dev0",
       "use_cache": true, "vocab_size": 49155}
      """, Decoder(layers: 1, hidden: 2048, inner: 8192, heads: 32, groups: 8, headSize: 64, vocabulary: 49155))
    #expect(model.warnings.isEmpty)
    #expect(attentions(model)[0].scale == 0.015625)
    #expect(scale(model, "model.scaled_embeddings") == 12 && scale(model, "scaled_logits") == 0.125)
    #expect(scale(model, "model.layers.0.attention_scaled") == 0.22)
    #expect(scale(model, "model.layers.0.mlp_scaled") == 0.22)
    #expect(model.graph.outputs["logits"] == "scaled_logits")
  }

  @Test func olmo2Of7B() throws {
    let model = try model(
      """
      {"architectures": ["Olmo2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
       "eos_token_id": 100257, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
       "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "olmo2", "num_attention_heads": 32,
       "num_hidden_layers": 1, "num_key_value_heads": 32, "pad_token_id": 100277, "rms_norm_eps": 1e-06,
       "rope_scaling": null, "rope_theta": 500000, "tie_word_embeddings": false, "torch_dtype": "float32",
       "transformers_version": "4.47.0.dev0", "use_cache": true, "vocab_size": 100352}
      """,
      Decoder(
        layers: 1, hidden: 4096, inner: 11008, heads: 32, groups: 32, headSize: 128, vocabulary: 100_352, hasHead: true,
        norms: ["post_attention_layernorm", "post_feedforward_layernorm"], inner2: (4096, 4096)))
    #expect(model.warnings.isEmpty)
    #expect(model.graph["model.layers.0.self_attn.q_proj"]?.inputs == ["model.embed_tokens"])
    #expect(model.graph["model.layers.0.mlp.gate_proj"]?.inputs == ["model.layers.0.attention_sum"])
  }

  @Test func smolLM3() throws {
    let model = try model(
      """
      {"architectures": ["SmolLM3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
       "bos_token_id": null, "eos_token_id": 128012, "hidden_act": "silu", "hidden_size": 2048,
       "initializer_range": 0.02, "intermediate_size": 11008,
       "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention", "full_attention"],
       "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": false, "model_type": "smollm3",
       "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0, 1], "num_attention_heads": 16,
       "num_hidden_layers": 5, "num_key_value_heads": 4, "pad_token_id": 128004, "pretraining_tp": 2,
       "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 5000000.0, "sliding_window": null,
       "torch_dtype": "bfloat16", "transformers_version": "4.54.0.dev0", "use_cache": false,
       "use_sliding_window": false, "vocab_size": 128256}
      """, Decoder(layers: 5, hidden: 2048, inner: 11008, heads: 16, groups: 4, headSize: 128, vocabulary: 128_256))
    #expect(model.warnings.isEmpty)
    #expect(attentions(model).map { rotary($0)?.theta } == [5_000_000, 5_000_000, 5_000_000, nil, 5_000_000])
    #expect(attentions(model).allSatisfy { $0.window == nil })
  }
}
