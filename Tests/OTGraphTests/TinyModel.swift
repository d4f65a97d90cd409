import OTGraph
import OTJSON
import OTTensor
import Testing

/// The tensors and the configuration of a model of two layers and width 8, as `save_pretrained` writes
/// them; tests change either.
struct TinyModel {
  var configuration: [String: JSONValue]
  var shapes: [String: [Int]]
  var types: [String: ElementType] = [:]

  /// Two layers, four heads in two groups.
  static let llama: TinyModel = {
    var shapes = ["model.embed_tokens.weight": [20, 8], "model.norm.weight": [8], "lm_head.weight": [20, 8]]
    for index in 0..<2 {
      let layer = "model.layers.\(index)."
      for (name, rows) in [("q", 8), ("k", 4), ("v", 4), ("o", 8)] {
        shapes[layer + "self_attn.\(name)_proj.weight"] = [rows, 8]
      }
      shapes[layer + "mlp.gate_proj.weight"] = [16, 8]
      shapes[layer + "mlp.up_proj.weight"] = [16, 8]
      shapes[layer + "mlp.down_proj.weight"] = [8, 16]
      shapes[layer + "input_layernorm.weight"] = [8]
      shapes[layer + "post_attention_layernorm.weight"] = [8]
    }
    return TinyModel(
      configuration: [
        "model_type": .string("llama"), "architectures": .array([.string("LlamaForCausalLM")]),
        "vocab_size": .integer(20), "hidden_size": .integer(8), "intermediate_size": .integer(16),
        "num_hidden_layers": .integer(2), "num_attention_heads": .integer(4), "num_key_value_heads": .integer(2),
        "head_dim": .integer(2), "rms_norm_eps": .number(1e-6), "max_position_embeddings": .integer(64),
        "hidden_act": .string("silu"), "tie_word_embeddings": .bool(false), "attention_bias": .bool(false),
        "mlp_bias": .bool(false),
        "attention_dropout": .number(0), "initializer_range": .number(0.02), "use_cache": .bool(true),
        "pretraining_tp": .integer(1), "torch_dtype": .string("float32"), "bos_token_id": .integer(1),
        "transformers_version": .string("5.23.0"),
      ], shapes: shapes)
  }()

  static let bert: TinyModel = {
    var shapes = [
      "bert.embeddings.word_embeddings.weight": [20, 8], "bert.embeddings.position_embeddings.weight": [16, 8],
      "bert.embeddings.token_type_embeddings.weight": [2, 8], "cls.predictions.bias": [20],
      "cls.predictions.transform.dense.weight": [8, 8], "cls.predictions.transform.dense.bias": [8],
      "cls.predictions.transform.LayerNorm.weight": [8], "cls.predictions.transform.LayerNorm.bias": [8],
    ]
    var linears: [String: [Int]] = [:]
    for index in 0..<2 {
      let layer = "bert.encoder.layer.\(index)."
      for name in ["self.query", "self.key", "self.value", "output.dense"] {
        linears[layer + "attention." + name] = [8, 8]
      }
      linears[layer + "intermediate.dense"] = [16, 8]
      linears[layer + "output.dense"] = [8, 16]
    }
    for (name, shape) in linears {
      shapes[name + ".weight"] = shape
      shapes[name + ".bias"] = [shape[0]]
    }
    let norms = (0..<2).flatMap { index in ["attention.output", "output"].map { "encoder.layer.\(index).\($0)" } }
    for norm in norms + ["embeddings"] {
      shapes["bert.\(norm).LayerNorm.weight"] = [8]
      shapes["bert.\(norm).LayerNorm.bias"] = [8]
    }
    return TinyModel(
      configuration: [
        "model_type": .string("bert"), "architectures": .array([.string("BertForMaskedLM")]),
        "vocab_size": .integer(20), "hidden_size": .integer(8), "intermediate_size": .integer(16),
        "num_hidden_layers": .integer(2), "num_attention_heads": .integer(2), "type_vocab_size": .integer(2),
        "max_position_embeddings": .integer(16), "hidden_act": .string("gelu"), "layer_norm_eps": .number(1e-12),
        "position_embedding_type": .string("absolute"), "classifier_dropout": .null, "directionality": .string("bidi"),
        "pooler_num_attention_heads": .integer(12), "pooler_type": .string("first_token_transform"),
        "is_decoder": .bool(false), "pruned_heads": .object([:]), "chunk_size_feed_forward": .integer(0),
      ], shapes: shapes)
  }()

  static let bloom: TinyModel = {
    var shapes = ["transformer.word_embeddings.weight": [20, 8]]
    var linears: [String: [Int]] = [:]
    for index in 0..<2 {
      let layer = "transformer.h.\(index)."
      linears[layer + "self_attention.query_key_value"] = [24, 8]
      linears[layer + "self_attention.dense"] = [8, 8]
      linears[layer + "mlp.dense_h_to_4h"] = [32, 8]
      linears[layer + "mlp.dense_4h_to_h"] = [8, 32]
    }
    for (name, shape) in linears {
      shapes[name + ".weight"] = shape
      shapes[name + ".bias"] = [shape[0]]
    }
    let norms = (0..<2).flatMap { ["h.\($0).input_layernorm", "h.\($0).post_attention_layernorm"] }
    for norm in norms + ["word_embeddings_layernorm", "ln_f"] {
      shapes["transformer.\(norm).weight"] = [8]
      shapes["transformer.\(norm).bias"] = [8]
    }
    return TinyModel(
      configuration: [
        "model_type": .string("bloom"), "architectures": .array([.string("BloomForCausalLM")]),
        "vocab_size": .integer(20), "hidden_size": .integer(8), "n_layer": .integer(2), "n_head": .integer(2),
        "layer_norm_epsilon": .number(1e-5), "apply_residual_connection_post_layernorm": .bool(false),
        "masked_softmax_fusion": .bool(true), "skip_bias_add": .bool(true), "skip_bias_add_qkv": .bool(false),
        "attention_softmax_in_fp32": .bool(true), "bias_dropout_fusion": .bool(true), "offset_alibi": .integer(100),
        "hidden_dropout": .number(0), "attention_dropout": .number(0), "seq_length": .integer(2048),
        "slow_but_exact": .bool(false), "n_inner": .null, "unk_token_id": .integer(0),
      ], shapes: shapes)
  }()

  static let opt: TinyModel = {
    let decoder = "model.decoder."
    var shapes = [
      decoder + "embed_tokens.weight": [20, 8], decoder + "embed_positions.weight": [18, 8],
      decoder + "final_layer_norm.weight": [8], decoder + "final_layer_norm.bias": [8],
    ]
    for index in 0..<2 {
      let layer = "\(decoder)layers.\(index)."
      for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        shapes["\(layer)self_attn.\(name).weight"] = [8, 8]
        shapes["\(layer)self_attn.\(name).bias"] = [8]
      }
      for name in ["self_attn_layer_norm", "final_layer_norm"] {
        shapes["\(layer)\(name).weight"] = [8]
        shapes["\(layer)\(name).bias"] = [8]
      }
      (shapes[layer + "fc1.weight"], shapes[layer + "fc1.bias"]) = ([32, 8], [32])
      (shapes[layer + "fc2.weight"], shapes[layer + "fc2.bias"]) = ([8, 32], [8])
    }
    return TinyModel(
      configuration: [
        "model_type": .string("opt"), "architectures": .array([.string("OPTForCausalLM")]),
        "vocab_size": .integer(20), "hidden_size": .integer(8), "word_embed_proj_dim": .integer(8),
        "ffn_dim": .integer(32), "num_hidden_layers": .integer(2), "num_attention_heads": .integer(2),
        "max_position_embeddings": .integer(16), "activation_function": .string("relu"),
        "do_layer_norm_before": .bool(true), "activation_dropout": .number(0), "layerdrop": .number(0),
        "prefix": .string("</s>"), "_remove_final_layer_norm": .bool(false), "init_std": .number(0.02),
      ], shapes: shapes)
  }()

  static let qwen3: TinyModel = {
    let norms = (0..<2).flatMap { ["\($0).self_attn.q_norm", "\($0).self_attn.k_norm"] }
    return llama.with(
      ["model_type": .string("qwen3"), "architectures": .array([.string("Qwen3ForCausalLM")])],
      Dictionary(uniqueKeysWithValues: norms.map { ("model.layers.\($0).weight", [2]) }))
  }()

  static let all = [llama, bert, bloom, opt, qwen3]

  /// The same with members of config.json changed, and tensors added.
  func with(_ members: [String: JSONValue] = [:], _ tensors: [String: [Int]] = [:], without: [String] = []) -> TinyModel
  {
    var result = self
    result.configuration.merge(members) { $1 }
    result.shapes.merge(tensors) { $1 }
    for name in without {
      result.configuration[name] = nil
      result.shapes[name] = nil
    }
    return result
  }

  /// The same with every tensor of the first layer once more in the layer called `index`.
  func addingLayer(_ index: Int, under prefix: String) -> TinyModel {
    let first = shapes.filter { $0.key.hasPrefix(prefix + "0.") }
    let copies = first.map { ("\(prefix)\(index).\($0.key.dropFirst(prefix.count + 2))", $0.value) }
    return with([:], Dictionary(uniqueKeysWithValues: copies))
  }

  func catalog(renamed rename: (String) -> String = { $0 }) throws -> TensorCatalog {
    var entries: [String: TensorCatalog.Entry] = [:]
    for (name, dimensions) in shapes {
      entries[rename(name)] = .init(shape: try #require(Shape(dimensions)), elementType: types[name] ?? .f32)
    }
    return TensorCatalog(entries, file: "model.safetensors")
  }

  var json: JSONValue {
    var object = JSONObject()
    for (key, value) in configuration.sorted(by: { $0.key < $1.key }) { object[key] = value }
    return .object(object)
  }

  func model(family: String? = nil, renamed rename: (String) -> String = { $0 }) throws -> FamilyModel {
    try Families.model(
      configuration: json, tensors: catalog(renamed: rename), override: family, configurationFile: "config.json")
  }
}
