#!/usr/bin/env python3
"""Runs a model in one of the engines that come as wheels, checks what it computes, and prints its speed as JSON.

Usage: engines.py prepare ENGINE MODEL FOLDER
       engines.py run ENGINE MODEL FOLDER --threads N [--rounds N] [--prompt N] [--decode N]

MODEL is a checkpoint in the layout of Hugging Face. `prepare` converts it into FOLDER; `run` prints
{"check": …, "rates": {task: [per second, …]}}. Of a BERT the tasks are 32 sentences of 64 tokens and one of 16, in
sentences; of a causal model a prompt, in tokens, with all of its logits, and decoding. It is run in the folder of the
package. The check is the mean cosine of hidden states, or the share of positions whose likeliest token is that of the model in
float32 of PyTorch.
"""
import argparse
import json
import os
import sys
import time

import numpy as np

SENTENCES = [(32, 64), (1, 16)]
SAMPLE = "Sources/OTText/Resources/sample.jsonl"


def is_encoder(model):
    with open(f"{model}/config.json", encoding="utf-8") as file:
        return json.load(file)["model_type"] == "bert"


def vocabulary_size(model):
    with open(f"{model}/config.json", encoding="utf-8") as file:
        return json.load(file)["vocab_size"]


def tokens(model, count, length):
    """Token IDs that are the same for all engines; speed does not depend on them."""
    return np.random.default_rng(7).integers(1000, vocabulary_size(model) - 1000, (count, length))


def text_tokens(model, count, length):
    """The first tokens of the sample that is in the package."""
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open(SAMPLE, encoding="utf-8") as file:
        ids = [token for line in file for token in tokenizer.encode(json.loads(line)["text"]).ids]
    return np.array(ids[:count * length], dtype=np.int64).reshape(count, length)


# What each engine has to do: convert a checkpoint, load that, and run ids [sentences, tokens].


class ONNX:
    """onnxruntime, weights per channel in int8 and activations while running; or in float32."""

    def __init__(self, is_quantized):
        self.is_quantized = is_quantized

    def prepare(self, model, folder):
        import torch
        import transformers

        class Hidden(torch.nn.Module):
            """The hidden states alone."""

            def __init__(self):
                super().__init__()
                self.model = transformers.AutoModel.from_pretrained(
                    model, dtype=torch.float32, attn_implementation="eager").eval()

            def forward(self, ids, mask):
                return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

        ids = torch.from_numpy(tokens(model, 2, 8))
        torch.onnx.export(
            Hidden(), (ids, torch.ones_like(ids)), f"{folder}/float.onnx", input_names=["ids", "mask"],
            output_names=["hidden"], opset_version=17, dynamo=False,
            dynamic_axes={name: {0: "sentences", 1: "tokens"} for name in ("ids", "mask", "hidden")})
        if not self.is_quantized:
            return
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process
        quant_pre_process(f"{folder}/float.onnx", f"{folder}/prepared.onnx", skip_symbolic_shape=True)
        quantize_dynamic(f"{folder}/prepared.onnx", f"{folder}/int8.onnx", per_channel=True,
                         weight_type=QuantType.QInt8)

    def load(self, folder, threads, encodes):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        name = "int8" if self.is_quantized else "float"
        self.session = onnxruntime.InferenceSession(
            f"{folder}/{name}.onnx", options, providers=["CPUExecutionProvider"])

    def hidden(self, ids):
        return self.session.run(["hidden"], {"ids": ids, "mask": np.ones_like(ids)})[0]


class OpenVINO(ONNX):
    """OpenVINO of the float model, in the precision that it chooses for the processor."""

    def __init__(self):
        super().__init__(is_quantized=False)

    def load(self, folder, threads, encodes):
        import openvino
        core = openvino.Core()
        self.compiled = core.compile_model(
            f"{folder}/float.onnx", "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})

    def hidden(self, ids):
        return self.compiled([ids, np.ones_like(ids)])[0]


class CTranslate2:
    """CTranslate2, weights and activations in int8."""

    def prepare(self, model, folder):
        import ctranslate2
        ctranslate2.converters.TransformersConverter(model).convert(f"{folder}/int8", quantization="int8", force=True)
        # A model whose tokenizer names no special token is not loaded: any piece will do, as none is added.
        with open(f"{folder}/int8/vocabulary.json", encoding="utf-8") as file:
            piece = json.load(file)[0]
        with open(f"{folder}/int8/config.json", encoding="utf-8") as file:
            configuration = json.load(file)
        for name in ("bos_token", "eos_token", "unk_token"):
            if name in configuration and configuration[name] is None:
                configuration[name] = piece
        with open(f"{folder}/int8/config.json", "w", encoding="utf-8") as file:
            json.dump(configuration, file)

    def load(self, folder, threads, encodes):
        import ctranslate2
        self.storage = ctranslate2.StorageView
        kind = ctranslate2.Encoder if encodes else ctranslate2.Generator
        self.model = kind(f"{folder}/int8", device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads)

    def _ids(self, ids):
        return self.storage.from_array(ids.astype(np.int32)), self.storage.from_array(
            np.full(len(ids), ids.shape[1], np.int32))

    def hidden(self, ids):
        return np.array(self.model.forward_batch(*self._ids(ids)).last_hidden_state)

    def logits(self, ids):
        return np.array(self.model.forward_batch(*self._ids(ids)))

    def decode(self, first, count):
        return self.model.generate_batch(
            [[first]], max_length=count, min_length=count, sampling_topk=1, include_prompt_in_result=False)


ENGINES = {
    "onnxruntime-int8": lambda: ONNX(True), "onnxruntime-float": lambda: ONNX(False),
    "openvino": OpenVINO, "ctranslate2-int8": CTranslate2,
}


def reference(model, ids, is_hidden):
    """What PyTorch computes in float32, `[sentences, tokens, channels]` of hidden states or of logits."""
    import torch
    import transformers
    kind = transformers.AutoModel if is_hidden else transformers.AutoModelForCausalLM
    loaded = kind.from_pretrained(model, dtype=torch.float32).eval()
    with torch.no_grad():
        result = loaded(input_ids=torch.from_numpy(ids), attention_mask=torch.ones(ids.shape, dtype=torch.long))
    return (result.last_hidden_state if is_hidden else result.logits).numpy()


def agreement(engine, model, encodes):
    """The mean cosine of hidden states, or the share of equal likeliest tokens, on text."""
    ids = text_tokens(model, 8, 128)
    theirs = reference(model, ids, encodes)
    if not encodes:
        return float((engine.logits(ids).argmax(-1) == theirs.argmax(-1)).mean())
    ours = engine.hidden(ids)
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    return float(((ours * theirs).sum(-1) / lengths).mean())


def rates(rounds, count, work):
    """`count` divided by the seconds of each round, after one that does not count; short work several times."""
    work()
    start = time.perf_counter()
    work()
    repeats = max(1, round(0.2 / max(time.perf_counter() - start, 1e-6)))
    results = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        results.append(count * repeats / (time.perf_counter() - start))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["prepare", "run"])
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--unchecked", action="store_true", help="it has been checked before")
    options = parser.parse_args()
    engine = ENGINES[options.engine]()
    encodes = is_encoder(options.model)
    if options.work == "prepare":
        os.makedirs(options.folder, exist_ok=True)
        engine.prepare(options.model, options.folder)
        return
    engine.load(options.folder, options.threads, encodes)
    result = {"rates": {}}
    if not options.unchecked:
        result["check"] = agreement(engine, options.model, encodes)
    if encodes:
        for count, length in SENTENCES:
            ids = tokens(options.model, count, length)
            result["rates"][f"{count} × {length}"] = rates(options.rounds, count, lambda: engine.hidden(ids))
    else:
        ids = tokens(options.model, 1, options.prompt)
        result["rates"]["prompt"] = rates(options.rounds, options.prompt, lambda: engine.logits(ids))
        if options.decode:
            with open(f"{options.folder}/int8/vocabulary.json", encoding="utf-8") as file:
                first = json.load(file)[2000]
            result["rates"]["decode"] = rates(
                options.rounds, options.decode, lambda: engine.decode(first, options.decode))
    print(json.dumps(result))
    if not result.get("check", 1) > 0.8:
        sys.exit(f"{options.engine} computes something else: {result['check']}")


if __name__ == "__main__":
    main()
