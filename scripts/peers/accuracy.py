"""How far next-token distributions are from those of the model in float32."""
import glob
import json
import os
import struct
import sys

import numpy
from safetensors.numpy import save_file
from tokenizers import Tokenizer


def log_softmax(logits):
    logits = logits.astype(numpy.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - numpy.log(numpy.exp(logits).sum(axis=-1, keepdims=True))


def mapped(path, name):
    """A float32 tensor of a safetensors file, where it is."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        entry = json.loads(file.read(size))[name]
    return numpy.memmap(path, numpy.float32, "r", 8 + size + entry["data_offsets"][0], tuple(entry["shape"]))


def accuracy(programs, text, folder, files, sequences=8, length=256):
    """How far each file's next-token distributions are from those of the model in float32."""
    with open(text, encoding="utf-8") as lines:
        parts = [json.loads(line)["text"] for line in lines] if text.endswith(".jsonl") else [lines.read()]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    ids = tokenizer.encode("\n".join(parts), add_special_tokens=False).ids[: sequences * length]
    ids = numpy.array(ids, numpy.int64).reshape(-1, length)
    save_file({"input_ids": ids}, programs.path("ids.safetensors"))
    ids.astype(numpy.int32).tofile(programs.path("ids.bin"))

    def logits(path):
        if path.endswith(".gguf"):
            programs.llama_logits(path, programs.path("ids.bin"), programs.path("logits.bin"), ids.shape)
            return numpy.memmap(programs.path("logits.bin"), numpy.float32, "r").reshape(*ids.shape, -1)
        name = programs.path("float.safetensors" if path == folder else "logits.safetensors")
        programs.our_logits(path, programs.path("ids.safetensors"), name)
        return mapped(name, "logits")

    expected = logits(folder)
    result = {}
    for label, path in {"float32": folder, **files}.items():
        found = logits(path) if path != folder else expected
        surprise, divergence, agreement = [], [], []
        for sequence in range(len(ids)):
            p, q = log_softmax(expected[sequence, :-1]), log_softmax(found[sequence, :-1])
            surprise += list(-q[numpy.arange(length - 1), ids[sequence, 1:]])
            divergence += list((numpy.exp(p) * (p - q)).sum(axis=-1))
            agreement += list(p.argmax(axis=-1) == q.argmax(axis=-1))
        result[label] = {
            "byteCount": sum(map(os.path.getsize, glob.glob(f"{path}/*.safetensors") or [path])),
            "perplexity": float(numpy.exp(numpy.mean(surprise))), "divergence": float(numpy.mean(divergence)),
            "agreement": float(numpy.mean(agreement)),
        }
    # float16 keys and values, and rounding: far below what any quantization does.
    for label, row in result.items():
        if label.startswith("llama.cpp F16") and not row["divergence"] < 1e-3:
            sys.exit(f"bench-peers: {label} gives wrong logits: {row}")
    return result
