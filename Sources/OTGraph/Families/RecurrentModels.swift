import OTFoundation

/// Models with layers that keep a state from token to token, in the place of attention or beside it. No operation of a
/// graph is such a layer: they are refused by their names.
enum RecurrentModels {
  /// What models are called, by `model_type`.
  static let names = [
    "bamba": "Bamba", "falcon_h1": "Falcon-H1", "falcon_mamba": "Falcon Mamba", "granite_hybrid": "Granite 4 hybrid",
    "hymba": "Hymba", "jamba": "Jamba", "kimi_linear": "Kimi Linear", "lfm2": "LFM2", "lfm2_moe": "LFM2",
    "lfm2_vl": "LFM2-VL", "mamba": "Mamba", "mamba2": "Mamba 2", "minimax": "MiniMax-Text-01",
    "minimax_m1": "MiniMax-M1", "minimax_text_01": "MiniMax-Text-01", "nemotron_h": "Nemotron-H",
    "olmo_hybrid": "OLMo hybrid", "plamo2": "PLaMo 2", "qwen3_5": "Qwen3.5", "qwen3_5_moe": "Qwen3.5",
    "qwen3_5_moe_text": "Qwen3.5", "qwen3_5_text": "Qwen3.5", "qwen3_next": "Qwen3-Next",
    "recurrent_gemma": "RecurrentGemma", "rwkv": "RWKV 4", "rwkv5": "RWKV 5", "rwkv6": "RWKV 6", "rwkv7": "RWKV 7",
    "xlstm": "xLSTM", "zamba": "Zamba", "zamba2": "Zamba 2",
  ]

  /// The refusal of a model of the type; nil for one that is not known to have such layers.
  static func refusal(_ type: String, file: String?) -> Refusal? {
    names[type].map { name in
      Refusal(
        "family-recurrent",
        "models of type '\(type)' (\(name)) have layers that keep a state from token to token, which are not run",
        file: file, remedy: Families.withoutGraph)
    }
  }
}
