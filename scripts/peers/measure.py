#!/usr/bin/env python3
"""Measures otq, llama.cpp and other engines on the same weights, in turns; scripts/bench-peers calls this."""
import argparse
import glob
import json
import os

from accuracy import accuracy
from equal_size import compare_sizes
from gguf_file import write_gguf
from programs import Programs
from report import equal_sizes, markdown

# What otconvert calibrates on where it is given no text.
SAMPLE = "Sources/OTText/Resources/sample.jsonl"


def processor():
    """The name of the processor, and those of its instruction sets that matter here."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        information = file.read()
    name = information.split("model name", 1)[1].split(":", 1)[1].split("\n", 1)[0].strip()
    flags = set(information.split("flags", 1)[1].split("\n", 1)[0].split())
    return name, [flag for flag in ("avx2", "avx_vnni", "avx512_vnni", "amx_int8") if flag in flags]


def compare(programs, text, rounds, name, folder, prompt, decode, kinds=("Q8_0", "Q6_K")):
    """Converts a model both ways and measures the files in turns."""
    source = sum(os.path.getsize(file) for file in glob.glob(f"{folder}/*.safetensors"))
    files, quantizing = {}, {}
    f16, again = programs.path(f"{name}-f16.gguf"), programs.path("again.gguf")
    if programs.peers:
        write_gguf(folder, f16)
        files["llama.cpp F16"] = f16
        for kind in kinds:
            path = programs.path(f"{name}-{kind}.gguf")
            quantizing[f"llama-quantize {kind}"] = [programs.llama_quantize(f16, path, kind)]
            files[f"llama.cpp {kind}"] = path
    converting = []
    for _ in range(rounds):
        converting.append(programs.otconvert(folder, f"{name}-zstd", "--bits", "6")[1])
        if programs.peers:
            quantizing["llama-quantize Q6_K"].append(programs.llama_quantize(f16, again, "Q6_K"))
            os.remove(again)
    files["otq W8A8"] = programs.otconvert(folder, f"{name}-8", "--bits", "8")[0]
    files["otq W6A8"] = programs.otconvert(folder, f"{name}-6", "--bits", "6", "--activation-bits", "8")[0]
    accuracies = None
    if programs.peers and os.path.exists(f"{folder}/tokenizer.json"):
        more = {
            "otq W8A16": ["--bits", "8", "--weights-only"],
            "otq W6A16": ["--bits", "6", "--weights-only"],
            "otq W6A16, groups of 128": ["--bits", "6", "--weights-only", "--group-size", "128"],
        }
        if text != SAMPLE:
            more["otq W8A8 best"] = ["--bits", "8"]
            more["otq W6A8 best"] = ["--bits", "6"]
        others = {}
        for label, options in more.items():
            calibration = [] if "best" in label else ["--no-calibration"]
            path, _ = programs.otconvert(folder, f"{name}-other{len(others)}", *options, calibration=calibration)
            others[label] = path
        accuracies = accuracy(programs, text, folder, {**files, **others})
    results = {label: {"prompt": [], "decode": []} for label in files}
    checks = {}
    engines = ["ctranslate2-int8"] if programs.engines and os.path.exists(f"{folder}/tokenizer.json") else []
    for engine in engines:
        programs.engine("prepare", engine, folder)
        results[engine] = {"prompt": [], "decode": []}
    for number in range(rounds):
        for engine in engines:
            options = ["--prompt", str(prompt), "--decode", str(decode)] + (["--unchecked"] if number else [])
            rates, check = programs.engine_rates(engine, folder, *options)
            checks.setdefault(engine, check)
            for test, rate in rates.items():
                results[engine][test].append(rate)
        for label, path in files.items():
            if path.endswith(".otq"):
                measured = programs.otbench(path, "--prompt", str(prompt), "--decode", str(decode))
                measured = {"prompt": measured["prompt"], "decode": measured["decoding"]}
            else:
                measured = programs.llama_bench(path, prompt, decode)
            for test, rate in measured.items():
                results[label][test].append(rate)
    result = {
        "prompt": prompt, "decode": decode, "sourceByteCount": source,
        "files": {label: {"byteCount": byte_count(files.get(label) or programs.engine_folder(label, folder)), **rates}
                  for label, rates in results.items()},
        "checks": checks,
        "converting": {"otconvert --bits 6": converting, **quantizing},
        "accuracy": accuracies,
    }
    for path in glob.glob(programs.path(f"{name}-*")):
        os.remove(path)
    return result


def byte_count(path):
    """Bytes of a file, or of the weights in a folder that an engine has made."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return max(os.path.getsize(file) for file in glob.glob(f"{path}/**", recursive=True) if os.path.isfile(file))


def embeddings(programs, rounds, folder):
    """Sentences per second of each engine, and how near those that come as wheels are to the model."""
    packed = programs.otconvert(folder, "minilm", "--bits", "8")[0]
    engines = ["onnxruntime-int8", "onnxruntime-float", "openvino", "ctranslate2-int8"] if programs.engines else []
    for engine in engines:
        programs.engine("prepare", engine, folder)
    rates, checks = {}, {}
    for number in range(rounds):
        for label, path in (("otq W8A8", packed), ("otq float32", folder)):
            # Short work several times, as the other engines do it.
            for count, length, runs in ((32, 64, 1), (1, 16, 50)):
                rate, = programs.otbench(path, "--sentences", str(count), "--length", str(length), runs=runs).values()
                rates.setdefault(label, {}).setdefault(f"{count} × {length}", []).append(rate)
        for engine in engines:
            found, check = programs.engine_rates(engine, folder, *(["--unchecked"] if number else []))
            checks.setdefault(engine, check)
            for task, rate in found.items():
                rates.setdefault(engine, {}).setdefault(task, []).append(rate)
    return {"rates": rates, "checks": checks}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", help="folder with smollm2 and maybe minilm")
    parser.add_argument("--programs", required=True, help="folder with otconvert and otbench")
    parser.add_argument("--peers", help="folder with llama-bench, llama-quantize and peer-logits")
    parser.add_argument("--engines", help="the Python that has onnxruntime, OpenVINO and CTranslate2")
    parser.add_argument("--work", required=True, help="folder for the files that are made")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--text", default=SAMPLE, help="what logits are compared on")
    parser.add_argument("--quick", action="store_true", help="no model of 1.1 billion weights")
    parser.add_argument("--equal-size", action="store_true",
                        help="only the accuracy of llama.cpp's kinds and of files of about their size")
    parser.add_argument("--calibration", help="the text that otconvert calibrates on for that")
    parser.add_argument("--samples", type=int, default=40, help="samples of it")
    parser.add_argument("--windows", type=int, default=40, help="windows of 512 tokens that are compared")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()

    programs = Programs(options.programs, options.peers, options.work, options.threads, options.engines)
    if options.equal_size:
        if options.text == SAMPLE or not options.calibration:
            parser.error("--equal-size needs --text and --calibration")
        padding = programs.path("padded")
        os.mkdir(padding)
        rows = compare_sizes(programs, options.text, options.calibration, options.samples,
                             f"{options.models}/smollm2", options.windows, padding)
        print(json.dumps(rows, indent=2) if options.json else equal_sizes(rows))
        return
    name, instructions = processor()
    report = {"threads": options.threads, "rounds": options.rounds, "models": {}, "processor": name,
              "instructions": instructions}

    def measure(name, folder, prompt, decode):
        report["models"][name] = compare(programs, options.text, options.rounds, name, folder, prompt, decode)

    measure("smollm2", f"{options.models}/smollm2", 512, 128)
    if os.path.isdir(f"{options.models}/minilm"):
        report["embeddings"] = embeddings(programs, options.rounds, f"{options.models}/minilm")
    if not options.quick:
        measure("random-1.1b", programs.make_checkpoint("random"), 512, 64)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        markdown(report)


if __name__ == "__main__":
    main()
