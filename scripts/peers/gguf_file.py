"""A LLaMA checkpoint of Hugging Face as a GGUF file that llama.cpp reads."""
import glob
import json

import gguf
import numpy
from safetensors import safe_open

# Parts of a layer by their names in Hugging Face and in llama.cpp.
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def write_gguf(folder, path):
    """The tensors of a LLaMA as float16, norms as float32, under llama.cpp's names; no vocabulary."""
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config.get("rope_theta", 10000.0))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(1)
    writer.add_tokenizer_model("no_vocab")
    for file in sorted(glob.glob(f"{folder}/*.safetensors")):
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():
                value = tensors.get_tensor(name)
                part = name.removeprefix("model.").removesuffix(".weight")
                if part.startswith("layers."):
                    _, layer, part = part.split(".", 2)
                    # llama.cpp rotates neighbouring channels, Hugging Face halves of a head.
                    count = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}.get(part)
                    if count:
                        shape = (count, 2, value.shape[0] // count // 2, value.shape[1])
                        value = value.reshape(shape).swapaxes(1, 2).reshape(value.shape)
                    part = f"blk.{layer}.{NAMES[part]}"
                else:
                    part = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[part]
                kind = numpy.float32 if value.ndim == 1 else numpy.float16
                writer.add_tensor(part + ".weight", numpy.ascontiguousarray(value.astype(kind)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
