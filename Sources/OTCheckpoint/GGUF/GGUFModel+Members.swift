import OTFoundation
import OTJSON

/// Members of config.json that follow of several keys, or of the tensors.
extension GGUFModel {
  /// True where the model has a tensor whose name ends so.
  func has(_ end: String) -> Bool { tensors.contains { $0.name.hasSuffix(end) } }

  /// A refusal of what a key says.
  func refusal(ofKey name: String, _ what: String) -> Refusal {
    files[0].refusal(
      "gguf-key", "'\(architectureName).\(name)' \(what)", remedy: "convert the checkpoint that it was made from")
  }

  /// Biases are there where their tensors are.
  func setBiases(_ members: inout JSONObject) {
    members["attention_bias"] = .bool(has("self_attn.q_proj.bias"))
    members["mlp_bias"] = .bool(has("mlp.down_proj.bias"))
  }

  /// The factor of attention's products, which llama.cpp knows by the size of the model.
  ///
  /// - Throws: `Refusal` with rule `gguf-key`.
  func setScale(_ members: inout JSONObject, layersOfLargest: Int) throws {
    guard let heads = try size("attention.head_count"), let hidden = try size("embedding_length"),
      let layers = try size("block_count")
    else { return }
    let headSize = try size("attention.key_length") ?? hidden / heads
    members["query_pre_attn_scalar"] = .integer(layers == layersOfLargest ? hidden / heads : headSize)
  }

  /// Which of Falcon's architectures it is.
  func setFalcon(_ members: inout JSONObject) {
    let heads = key("attention.head_count")?.integer
    let groups = key("attention.head_count_kv")?.integer ?? heads
    let normCount = has("ln_attn.weight") ? 2 : 1
    let isNew = normCount == 2 || (groups != heads && groups != 1)
    members["multi_query"] = .bool(!isNew && groups == 1)
    members["new_decoder_architecture"] = .bool(isNew)
    members["num_ln_in_parallel_attn"] = isNew ? .integer(normCount) : .null
    members["bias"] = .bool(has("dense.bias"))
    if groups == nil { members["num_kv_heads"] = nil }
  }

  /// MPT's object of attention.
  ///
  /// - Throws: `Refusal` with rule `gguf-key`.
  func setMPT(_ members: inout JSONObject) throws {
    if let inner = try size("feed_forward_length"), let hidden = try size("embedding_length"), inner != 4 * hidden {
      throw refusal(ofKey: "feed_forward_length", "is not 4 times the embedding's")
    }
    if let groups = try size("attention.head_count_kv"), try groups != size("attention.head_count") {
      throw refusal(ofKey: "attention.head_count_kv", "differs from the number of heads")
    }
    let largest = key("attention.max_alibi_bias")?.number ?? 0
    var attention: JSONObject = ["alibi": .bool(largest > 0), "alibi_bias_max": .number(largest)]
    if let bound = key("attention.clamp_kqv")?.number { attention["clip_qkv"] = .number(bound) }
    members["attn_config"] = .object(attention)
  }

  /// The sizes of multi-head latent attention, and which of the two DeepSeeks it is.
  ///
  /// - Throws: `Refusal` with rule `gguf-key`.
  func setLatentAttention(_ members: inout JSONObject) throws {
    guard let rotary = try size("rope.dimension_count"),
      let keys = try size("attention.key_length_mla") ?? size("attention.key_length"),
      let values = try size("attention.value_length_mla") ?? size("attention.value_length"), keys > rotary
    else { throw refusal(ofKey: "attention.key_length", "or another length of heads is missing") }
    members["head_dim"] = nil
    members["num_key_value_heads"] = nil
    members["qk_rope_head_dim"] = .integer(rotary)
    members["qk_nope_head_dim"] = .integer(keys - rotary)
    members["v_head_dim"] = .integer(values)
    members["q_lora_rank"] = try size("attention.q_lora_rank").map { .integer($0) } ?? .null
    members["attention_bias"] = .bool(has("kv_a_proj_with_mqa.bias"))
    if members["n_shared_experts"]?.integer ?? 0 == 0 { members["n_shared_experts"] = .null }
    for (member, usual) in [
      ("routed_scaling_factor", JSONValue.number(1)), ("norm_topk_prob", .bool(false)),
      ("first_k_dense_replace", .integer(0)),
    ] where members[member] == nil { members[member] = usual }
    // As llama.cpp does where nothing says so: all experts are one group.
    let hasGroups = members["n_group"] != nil && members["topk_group"] != nil
    switch key("expert_gating_func")?.integer ?? 1 {
    case 1:
      members["model_type"] = .string("deepseek_v2")
      members["architectures"] = .array([.string("DeepseekV2ForCausalLM")])
      members["topk_method"] = .string(hasGroups ? "group_limited_greedy" : "greedy")
    case 2:
      if !hasGroups { (members["n_group"], members["topk_group"]) = (.integer(1), .integer(1)) }
    case let function: throw refusal(ofKey: "expert_gating_func", "is \(function), which is not known")
    }
  }
}
