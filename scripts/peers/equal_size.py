"""Accuracy of both sides' files at about equal sizes."""
import json
import math

import gguf
import numpy
from accuracy import accuracy
from gguf_file import write_gguf
from programs import run
from safetensors.numpy import load_file, save_file

# llama.cpp's kinds, and what otconvert makes of about their size or less.
KINDS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M")
OURS = {
    "W8A8": ("--bits", "8"),
    "W6A8": ("--bits", "6"),
    "W5A8, groups of 64": ("--bits", "5", "--group-size", "64"),
    "W4A8, groups of 64": ("--bits", "4", "--group-size", "64"),
}
# Weights of a block that llama.cpp gives one scale to.
BLOCK = 256


def padded(folder, target):
    """The same LLaMA with rows of multiples of 256: channels and heads of zeros beside its own.

    A norm's mean is over more channels then, which its gain and its epsilon make up for.
    """
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    width, middle = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size, shared = width // heads, heads // kv_heads
    new_kv = next(count for count in range(kv_heads, 64 * kv_heads) if count * shared * size % BLOCK == 0)
    new_width = new_kv * shared * size
    new_middle = math.ceil(middle / BLOCK) * BLOCK
    share = width / new_width
    kv = new_kv * size
    shapes = {
        "q_proj": (new_width, new_width), "k_proj": (kv, new_width), "v_proj": (kv, new_width),
        "o_proj": (new_width, new_width), "gate_proj": (new_middle, new_width), "up_proj": (new_middle, new_width),
        "down_proj": (new_width, new_middle),
    }
    tensors = {}
    for name, value in load_file(f"{folder}/model.safetensors").items():
        part = name.removesuffix(".weight").rsplit(".", 1)[-1]
        if value.ndim == 1:
            value = (value.astype(numpy.float32) * math.sqrt(share)).astype(numpy.float32)
            shape = (new_width,)
        else:
            shape = shapes.get(part, (value.shape[0], new_width))
        new = numpy.zeros(shape, value.dtype)
        new[tuple(slice(count) for count in value.shape)] = value
        tensors[name] = new
    config.update(hidden_size=new_width, intermediate_size=new_middle, num_attention_heads=new_kv * shared,
                  num_key_value_heads=new_kv, rms_norm_eps=config["rms_norm_eps"] * share)
    save_file(tensors, f"{target}/model.safetensors", {"format": "pt"})
    with open(f"{target}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    return target


def bits_per_weight(path):
    """Bits of the matrices of a GGUF file's blocks, for each weight."""
    blocks = [tensor for tensor in gguf.GGUFReader(path).tensors
              if tensor.name.startswith("blk.") and len(tensor.shape) == 2]
    return 8 * sum(int(tensor.n_bytes) for tensor in blocks) / sum(int(tensor.n_elements) for tensor in blocks)


def compare_sizes(programs, text, calibration, samples, folder, windows, padding):
    """Each file's bits for a weight of the blocks, and how far its distributions are from those in float32."""
    with open(f"{folder}/tokenizer.json", encoding="utf-8") as file:
        tokenizer = file.read()
    with open(f"{padding}/tokenizer.json", "w", encoding="utf-8") as file:
        file.write(tokenizer)
    files, bits = {}, {}
    for label, source in (("", folder), (", padded", padded(folder, padding))):
        f16 = programs.path(f"equal{len(files)}.gguf")
        write_gguf(source, f16)
        files[f"llama.cpp F16{label}"] = f16
        for kind in KINDS:
            if label and kind == "Q8_0":
                continue
            path = programs.path(f"equal{len(files)}.gguf")
            programs.llama_quantize(f16, path, kind)
            files[f"llama.cpp {kind}{label}"] = path
    bits.update({label: bits_per_weight(path) for label, path in files.items()})
    for label, options in OURS.items():
        path, _ = programs.otconvert(
            folder, f"equal{len(files)}", *options, calibration=("--text", calibration, "--samples", str(samples)))
        files[f"otq {label}"] = path
        bits[f"otq {label}"] = json.loads(run(f"{programs.ours}/otconvert", "inspect", path, "--json"))[
            "linearBitsPerWeight"]
    rows = accuracy(programs, text, folder, files, windows, 512)
    for label, row in rows.items():
        row["bitsPerWeight"] = bits.get(label)
    return rows
