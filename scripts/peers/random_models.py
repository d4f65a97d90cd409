"""Tiny random checkpoints in the layout of Hugging Face, made with numpy alone.

Their matrices have 256 or 512 columns, which all blocks of llama.cpp and all groups of MLX divide. A few channels are
larger than the others, as in trained models.
"""
import json
import pathlib
import shutil

import numpy
from safetensors.numpy import save_file

HIDDEN, INNER, LAYERS = 256, 512, 2
SHARED = {
    "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "vocab_size": 2048, "max_position_embeddings": 256, "dtype": "float16", "initializer_range": 0.02,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}
DECODER = {**SHARED, "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu",
           "tie_word_embeddings": False, "rope_theta": 10000.0, "attention_bias": False}
GEMMA = {**DECODER, "tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh",
         "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 16}
FAMILIES = {
    "llama": ("LlamaForCausalLM", {**DECODER, "mlp_bias": False}),
    "mistral": ("MistralForCausalLM", {**DECODER, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", {**DECODER, "use_sliding_window": False}),
    "qwen3": ("Qwen3ForCausalLM", {**DECODER, "use_sliding_window": False, "tie_word_embeddings": True}),
    "gemma": ("GemmaForCausalLM", {key: value for key, value in GEMMA.items() if key != "sliding_window"}),
    "gemma2": ("Gemma2ForCausalLM", {**GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
                                     "query_pre_attn_scalar": 64,
                                     "layer_types": ["sliding_attention", "full_attention"]}),
    "gemma3_text": ("Gemma3ForCausalLM", {**GEMMA, "rope_local_base_freq": 10000.0, "rope_theta": 1000000.0,
                                          "query_pre_attn_scalar": 64,
                                          "layer_types": ["sliding_attention", "full_attention"]}),
    "phi3": ("Phi3ForCausalLM", {**DECODER, "sliding_window": None, "original_max_position_embeddings": 256}),
    "granite": ("GraniteForCausalLM", {**DECODER, "mlp_bias": False, "embedding_multiplier": 6.0,
                                       "residual_multiplier": 0.4, "attention_multiplier": 0.1, "logits_scaling": 4.0}),
    "olmo2": ("Olmo2ForCausalLM", DECODER),
    "smollm3": ("SmolLM3ForCausalLM", {**DECODER, "no_rope_layers": [1, 0], "no_rope_layer_interval": 2,
                                       "use_sliding_window": False, "tie_word_embeddings": True}),
    "bert": ("BertModel", {**SHARED, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2}),
}


def decoder_shapes(family, config):
    """Names and shapes of a decoder's tensors."""
    queries, keys = config["num_attention_heads"] * config["head_dim"], config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (config["vocab_size"], HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        if family == "phi3":
            yield prefix + "self_attn.qkv_proj.weight", (queries + 2 * keys, HIDDEN)
            yield prefix + "mlp.gate_up_proj.weight", (2 * INNER, HIDDEN)
        else:
            for part, rows in (("q", queries), ("k", keys), ("v", keys)):
                yield f"{prefix}self_attn.{part}_proj.weight", (rows, HIDDEN)
                if family == "qwen2":
                    yield f"{prefix}self_attn.{part}_proj.bias", (rows,)
            for part in ("gate", "up"):
                yield f"{prefix}mlp.{part}_proj.weight", (INNER, HIDDEN)
        yield prefix + "self_attn.o_proj.weight", (HIDDEN, queries)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, INNER)
        if family in ("qwen3", "gemma3_text"):
            yield prefix + "self_attn.q_norm.weight", (config["head_dim"],)
            yield prefix + "self_attn.k_norm.weight", (config["head_dim"],)
        if family == "olmo2":
            yield prefix + "self_attn.q_norm.weight", (queries,)
            yield prefix + "self_attn.k_norm.weight", (keys,)
        norms = ["input_layernorm", "post_attention_layernorm"]
        if family == "olmo2":
            norms = ["post_attention_layernorm", "post_feedforward_layernorm"]
        if family in ("gemma2", "gemma3_text"):
            norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for norm in norms:
            yield f"{prefix}{norm}.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], HIDDEN)


def bert_shapes(config):
    """Names and shapes of BERT's tensors."""
    def affine(name, *shape):
        yield name + ".weight", shape
        yield name + ".bias", shape[:1]
    yield "embeddings.word_embeddings.weight", (config["vocab_size"], HIDDEN)
    yield "embeddings.position_embeddings.weight", (config["max_position_embeddings"], HIDDEN)
    yield "embeddings.token_type_embeddings.weight", (2, HIDDEN)
    yield from affine("embeddings.LayerNorm", HIDDEN)
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            yield from affine(f"{prefix}attention.self.{part}", HIDDEN, HIDDEN)
        yield from affine(prefix + "attention.output.dense", HIDDEN, HIDDEN)
        yield from affine(prefix + "attention.output.LayerNorm", HIDDEN)
        yield from affine(prefix + "intermediate.dense", INNER, HIDDEN)
        yield from affine(prefix + "output.dense", HIDDEN, INNER)
        yield from affine(prefix + "output.LayerNorm", HIDDEN)
    yield from affine("pooler.dense", HIDDEN, HIDDEN)


def write(family, folder, tokenizer, **members):
    """Writes a checkpoint into a new folder, with the tokenizer of another folder and a row for each of its tokens.

    members: of config.json, in place of the usual; None: left out.
    """
    architecture, config = FAMILIES[family]
    config = {name: value for name, value in {**config, **members}.items() if value is not None or name not in members}
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (pathlib.Path(tokenizer) / name).exists():
            shutil.copyfile(pathlib.Path(tokenizer) / name, folder / name)
    tokens = json.loads((folder / "tokenizer.json").read_text())
    ids = [*tokens["model"]["vocab"].values(), *(token["id"] for token in tokens["added_tokens"])]
    config = {**config, "vocab_size": max(ids) + 1}
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": family, **config}))
    generator = numpy.random.default_rng(sum(family.encode()))
    tensors = {}
    for name, shape in bert_shapes(config) if family == "bert" else decoder_shapes(family, config):
        noise = generator.standard_normal(shape, dtype=numpy.float32)
        if len(shape) == 2:
            # Tables that are heads, too, are such.
            values = noise * (0.5 if "embed" in name and not config.get("tie_word_embeddings") else shape[1] ** -0.5)
        else:
            is_gain = name.endswith("weight")
            # Gemma's gains are stored less 1.
            values = noise * 0.2 + (is_gain and not family.startswith("gemma"))
            if is_gain and shape == (HIDDEN,) and "post_" not in name.replace("post_attention_layernorm", ""):
                values[::61] *= 8
        tensors[name] = numpy.ascontiguousarray(values.astype(numpy.float16))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
