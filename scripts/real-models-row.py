#!/usr/bin/env python3
"""Checks an unpacked model and prints its row of the table of scripts/real-models.

    real-models-row.py NAME BITS SCHEME WORK MODEL

WORK holds convert.json, verify.json and m.safetensors, MODEL the source.
"""
import glob
import json
import sys

from safetensors import safe_open

if len(sys.argv) != 6:
    sys.exit(__doc__)
name, bits, scheme, work, model = sys.argv[1:]
with open(f"{work}/convert.json", encoding="utf-8") as file:
    converted = json.load(file)
with open(f"{work}/verify.json", encoding="utf-8") as file:
    verified = json.load(file)
# The unpacked file loads, with the names, types and shapes of the source.
source = {}
for path in glob.glob(f"{model}/*.safetensors"):
    with safe_open(path, "numpy") as file:
        for key in file.keys():
            part = file.get_slice(key)
            source[key] = (part.get_dtype(), part.get_shape())
with safe_open(f"{work}/m.safetensors", "numpy") as file:
    unpacked = {key: (file.get_slice(key).get_dtype(), file.get_slice(key).get_shape()) for key in file.keys()}
assert not source or unpacked == source, "the unpacked file differs in names, types or shapes"
quality = [t["sqnrDecibels"] for t in verified["tensors"] if t.get("sqnrDecibels") is not None]
worst = max(t["maximumError"] for t in verified["tensors"] if "sqnrDecibels" in t)
size, before = converted["byteCount"], converted["sourceByteCount"]
print(f"| {name} | {bits} | {scheme} | {size / 1e6:.1f} | {100 * size / before:.1f} % "
      f"| {converted['linearBitsPerWeight']:.3f} | {min(quality):.1f} | {worst:.4f} "
      f"| {len(verified['tensors'])} | {converted['seconds']:.2f} |")
