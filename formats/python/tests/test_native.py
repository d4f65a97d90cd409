"""The bindings, on the library that OTQ_LIBRARY names (scripts/test-python builds it)."""
import json
import math
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
from safetensors.numpy import load_file

import otq
from otq import _native, _work

pytestmark = pytest.mark.skipif(_native.library_path() is None, reason="OTQ_LIBRARY names no library")


@pytest.fixture(scope="module")
def models(fixtures):
    return fixtures / "models"


@pytest.fixture(scope="module")
def packed(models, tmp_path_factory):
    """llama-mini and bert-mini with 8-bit weights."""
    folder = tmp_path_factory.mktemp("packed")
    for name in ("llama", "bert", "bert-classifier"):
        otq.convert(models / f"{name}-mini", folder / f"{name}.otq", bits=8, method="per-token", no_calibration=True)
    return folder


def test_versions():
    assert otq.library_version() == otq.__version__


def test_convert_tells_what_it_did(models, tmp_path):
    seen = []
    result = otq.convert(models / "opt-mini", tmp_path / "opt.otq", bits=6, method="per-token",
                         progress=lambda *event: seen.append((*event, threading.current_thread())))
    assert result["file"] == str(tmp_path / "opt.otq") and result["tensorCount"] == 68
    assert any("pytorch_model.bin" in warning for warning in result["warnings"]) and "method" in result
    with otq.safe_open(tmp_path / "opt.otq") as file:
        file.verify()
        assert {file.get_tensor(n).bits for n in file.keys() if "fc1.weight" in n} == {6}
    assert {event[0] for event in seen} >= {"converting"}
    assert all(event[4] is threading.main_thread() and 0 <= event[2] <= event[3] for event in seen)
    last = [event for event in seen if event[0] == "converting"][-1]
    assert last[1] == "bytes" and last[2] == last[3]


def test_refusals_carry_rule_and_remedy(models, tmp_path):
    output = tmp_path / "opt.otq"
    output.write_bytes(b"old")
    with pytest.raises(otq.Refusal) as info:
        otq.convert(models / "opt-mini", output, bits=6)
    assert info.value.rule == "output-exists" and info.value.file == str(output) and info.value.remedy
    assert output.read_bytes() == b"old"
    assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)
    for options, rule in [({"bits": 9}, "option-"), ({"nothing": 1}, "option-"), ({"bits": "x"}, "option-")]:
        with pytest.raises(otq.Refusal) as info:
            otq.convert(models / "opt-mini", tmp_path / "x.otq", **options)
        assert info.value.rule.startswith(rule), info.value
    with pytest.raises(otq.Refusal) as info:
        otq.Model(tmp_path / "nothing.otq")
    assert info.value.rule == "file-missing"
    with pytest.raises(TypeError):
        otq.convert(models / "opt-mini", tmp_path / "x.otq", bits=object())
    assert sorted(os.listdir(tmp_path)) == ["opt.otq"]


def test_paths_end_where_they_end(packed, models, tmp_path):
    """C would read a path up to its first NUL, and write to another file."""
    path, model = str(tmp_path / "nul\0x.otq"), models / "llama-mini"
    for call in (lambda: otq.convert(model, path, bits=6), lambda: otq.convert(path, tmp_path / "y.otq"),
                 lambda: otq.convert(os.fsencode(model), os.fsencode(path), bits=6),
                 lambda: otq.export(model, path, "gguf"), lambda: otq.export(path, tmp_path / "y", "gguf"),
                 lambda: otq.export(model, tmp_path / "y", "gguf\0"), lambda: otq.verify(path),
                 lambda: otq.verify(packed / "llama.otq", reference=path), lambda: otq.inspect(path),
                 lambda: otq.Model(path), lambda: otq.eval(path), lambda: otq.eval(model, against=path),
                 lambda: otq.eval(model, text=path), lambda: otq.eval(model, text=[path])):
        with pytest.raises(ValueError, match="embedded null byte"):
            call()
    assert os.listdir(tmp_path) == []
    # In texts for models NUL is a character.
    with otq.Model(packed / "llama.otq") as packed_model:
        list(packed_model.generate("In\0the", max_tokens=2, stop=["\0"]))


def test_both_readers_see_the_same(packed):
    for name in ("llama", "bert"):
        result = otq.inspect(packed / f"{name}.otq")
        with otq.safe_open(packed / f"{name}.otq") as file:
            assert [tensor["name"] for tensor in result["tensors"]] == file.keys()
            for tensor in result["tensors"]:
                assert tensor["shape"] == file.entry(tensor["name"])["shape"]
                assert tensor.get("bits") == file.entry(tensor["name"]).get("bits")
    assert otq.inspect(packed / "llama.otq")["family"] == "llama"


def test_verify(packed, models, tmp_path):
    assert otq.verify(packed / "llama.otq", reference=models / "llama-mini")["passed"] is True
    assert otq.verify(packed / "llama.otq")["passed"] is True
    # Its source is another model.
    with pytest.raises(otq.Refusal):
        otq.verify(packed / "llama.otq", reference=models / "opt-mini")
    tolerance = tmp_path / "tolerance.json"
    tolerance.write_text('{"minimumSqnrDecibels": {"8": 90}}')
    with pytest.raises(otq.VerificationFailed) as info:
        otq.verify(packed / "llama.otq", reference=models / "llama-mini", tolerance=tolerance)
    assert info.value.rule == "verify-failed" and info.value.result["passed"] is False
    copy = pickle.loads(pickle.dumps(info.value))
    assert type(copy) is otq.VerificationFailed and copy.result == info.value.result and str(copy) == str(info.value)
    damaged = bytearray((packed / "llama.otq").read_bytes())
    damaged[200] ^= 1
    (tmp_path / "damaged.otq").write_bytes(damaged)
    with pytest.raises(otq.Refusal) as info:
        otq.verify(tmp_path / "damaged.otq")
    assert info.value.rule == "otq-checksum" and info.value.offset == 128


def test_export_gives_the_values_of_the_file(packed, tmp_path):
    result = otq.export(packed / "bert.otq", tmp_path / "out", "safetensors", dtype="f32")
    assert result["format"] == "safetensors"
    [path] = (tmp_path / "out").glob("*.safetensors")
    exported, tensors = load_file(path), otq.load_file(packed / "bert.otq", dequantize=True)
    shared = set(exported) & set(tensors)
    assert len(shared) > 50
    for name in shared:
        assert np.array_equal(exported[name], tensors[name].astype(np.float32)), name


def test_logits_of_a_checkpoint_are_the_original_implementations(models):
    goldens = load_file(models / "llama-mini" / "goldens.safetensors")
    with otq.Model(models / "llama-mini") as model:
        for ids, expected in zip(goldens["input_ids"], goldens["logits_fp32"]):
            logits = model.logits(ids)
            assert logits.shape == (96, 2048) and logits.dtype == np.float32
            assert np.abs(logits - expected).max() < 2e-5 * np.abs(expected).max()
        for wrong in ([], [5000], [-1]):
            with pytest.raises(otq.Refusal):
                model.logits(wrong)
        for wrong in ([[1, 2]], [1.5], ["a"]):
            with pytest.raises(TypeError):
                model.logits(wrong)
    with pytest.raises(ValueError, match="closed"):
        model.logits([1])


def test_texts(packed):
    with otq.Model(packed / "llama.otq", threads=1) as model:
        assert model.is_causal and model.vocabulary_size == 2048 and model.labels is None
        ids = model.tokenize("In the beginning")
        assert model.detokenize(ids) == "In the beginning" and model.detokenize([]) == ""
        assert model.tokenize("", special_tokens=False) == []
        generation = model.generate("In the beginning", max_tokens=12)
        text = "".join(generation)
        assert generation.summary["tokenCount"] == len(generation.token_ids) <= 12
        assert "".join(model.generate("In the beginning", max_tokens=12)) == text
        assert "".join(model.generate(ids, max_tokens=12)) == text
        # The likeliest token of each step, by the logits of the whole sequence: with the first of the ties.
        sequence = list(ids)
        for token in generation.token_ids[:4]:
            assert int(model.logits(sequence)[-1].argmax()) == token
            sequence.append(token)
        sampled = {"temperature": 1.0, "top_k": 50, "seed": 7, "max_tokens": 8}
        assert "".join(model.generate("God", **sampled)) == "".join(model.generate("God", **sampled))
        begun = model.generate("In the beginning", max_tokens=12)
        first = next(begun)
        assert text.startswith(first)
        begun.close()
        assert list(begun) == []
        with pytest.raises(otq.Refusal):
            model.generate("In", temperature=-1)
        with pytest.raises(otq.Refusal):
            model.embed("In the beginning")
    left = model.generate
    with pytest.raises(ValueError, match="closed"):
        left("In")


def bert_states(folder, ids):
    """The last hidden states of bert-classifier-mini by BERT's formulas: float64 ``[len(ids), 128]``."""
    weights = {name: values.astype(np.float64) for name, values in load_file(folder / "model.safetensors").items()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(axis=1, keepdims=True)
        x /= np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(x):
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    own = "bert.embeddings"
    words, places, types = (weights[f"{own}.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
    states = norm(words[ids] + places[:len(ids)] + types[0], f"{own}.LayerNorm")
    for layer in (f"bert.encoder.layer.{i}" for i in range(4)):
        q, k, v = (linear(states, f"{layer}.attention.self.{name}").reshape(-1, 4, 32).transpose(1, 0, 2)
                   for name in ("query", "key", "value"))
        scores = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(32))
        mixed = (scores / scores.sum(axis=2, keepdims=True) @ v).transpose(1, 0, 2).reshape(-1, 128)
        states = norm(states + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = gelu(linear(states, f"{layer}.intermediate.dense"))
        states = norm(states + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return states


def test_vectors_are_the_mean_of_the_states(packed, models):
    """The model says nothing of pooling: the mean over the tokens, not normalized."""
    folder = models / "bert-classifier-mini"
    texts = ["A man eats.", "It rains in the mountains, and the river is deep."]
    with otq.Model(folder) as model:
        expected = [bert_states(folder, model.tokenize(text)).mean(axis=0) for text in texts]
        assert np.abs(expected[0] - expected[1]).max() > 1
        for text, vector in zip(texts, expected):
            assert np.abs(model.embed(text) - vector).max() < 1e-5 * np.abs(vector).max()
    with otq.Model(packed / "bert-classifier.otq") as model:
        one, many = model.embed(texts[0]), model.embed([*texts, texts[0]])
        assert many.shape == (3, len(one)) and one.dtype == np.float32
        assert np.array_equal(many[0], one) and np.array_equal(many[2], one)
        for found, vector in zip(many, expected):
            assert found @ vector > 0.99 * np.linalg.norm(found) * np.linalg.norm(vector)
        with pytest.raises(otq.Refusal):
            model.generate("A man")


def test_classes(packed):
    with otq.Model(packed / "bert-classifier.otq") as model:
        labels = model.classify("A man eats.", "He was hungry.")
        assert len(labels) == 2 and {label["index"] for label in labels} == {0, 1}
        assert labels[0]["score"] >= labels[1]["score"]
        assert abs(sum(label["score"] for label in labels) - 1) < 1e-6
        assert model.classify("A man eats.") != labels
        assert [label["label"] for label in sorted(labels, key=lambda label: label["index"])] == model.labels


def test_eval(packed, models, tmp_path):
    goldens = load_file(models / "llama-mini" / "goldens.safetensors")
    ids = models / "llama-mini" / "goldens.safetensors"
    result = otq.eval(models / "llama-mini", ids=ids, tensor="input_ids", context=96)
    # Perplexity of the golden logits, in double precision.
    total, count = 0.0, 0
    for row, logits in zip(goldens["input_ids"], goldens["logits_fp32"].astype(np.float64)):
        shifted = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1))[:-1] - shifted[np.arange(95), row[1:]]
        total, count = total + losses.sum(), count + len(losses)
    assert result["perplexity"] == pytest.approx(np.exp(total / count), rel=1e-4)
    with otq.Model(packed / "llama.otq") as model:
        result = otq.eval(model, against=models / "llama-mini", ids=ids, tensor="input_ids", context=96)
        assert 0 < result["against"]["klMean"] < 0.1
        assert result["against"]["perplexity"] == pytest.approx(np.exp(total / count), rel=1e-4)


def test_eval_does_tasks(packed, models):
    tasks = models.parent / "tasks"
    golden = json.loads((tasks / "goldens.json").read_text())["piqa"]["figures"]
    result = otq.eval(models / "llama-mini", task="piqa", data=tasks / "piqa.jsonl")
    assert result["itemCount"] == 30
    for name, value in golden.items():
        assert result["figures"][name]["value"] == pytest.approx(value, abs=1e-4)
    with otq.Model(packed / "llama.otq") as model:
        result = otq.eval(model, against=models / "llama-mini", task="piqa", data=tasks / "piqa.jsonl", limit=5)
    assert result["itemCount"] == 5 and result["against"]["reference"]["itemCount"] == 5
    assert result["against"]["gained"] + result["against"]["lost"] <= result["against"]["changed"] <= 5
    with pytest.raises(otq.Refusal) as refused:
        otq.eval(models / "llama-mini", task="chess", data=tasks / "piqa.jsonl")
    assert refused.value.rule == "task-unknown"


def test_an_end_near_the_end_leaves_nothing(models, tmp_path):
    """While the file is run beside its source, it does not have its name yet."""
    class Enough(Exception):
        pass

    def stop(stage, unit, done, total):
        if stage == "running":
            raise Enough

    with pytest.raises(Enough):
        otq.convert(models / "llama-mini", tmp_path / "x.otq", method="smoothquant", samples=8, length=32, progress=stop)
    assert os.listdir(tmp_path) == []


def test_what_progress_raises_ends_the_call(models, tmp_path):
    class Enough(Exception):
        pass

    def stop(stage, unit, done, total):
        raise Enough

    with pytest.raises(Enough):
        otq.convert(models / "llama-mini", tmp_path / "x.otq", bits=6, progress=stop)
    assert os.listdir(tmp_path) == []


def test_the_work_waits_for_progress(models, tmp_path):
    """Nothing is queued behind a slow function, and the work ends where it is when that raises."""
    class Enough(Exception):
        pass

    events = []

    def slow(*event):
        events.append(event)
        # The whole conversion takes a tenth of it.
        time.sleep(0.5)
        raise Enough

    with pytest.raises(Enough):
        otq.convert(models / "llama-mini", tmp_path / "x.otq", bits=6, no_calibration=True, progress=slow)
    assert len(events) == 1 and events[0][2] < events[0][3], events
    assert os.listdir(tmp_path) == []


def test_bars_of_tqdm(models, tmp_path, monkeypatch):
    """A bar for each round of a stage; all are closed at the end, also at an early one."""
    bars = []

    class Bar:
        def __init__(self, total, desc, unit, **_):
            self.total, self.stage, self.unit, self.n, self.is_closed = total, desc, unit, 0, False
            bars.append(self)

        def update(self, count):
            assert count >= 0 and not self.is_closed and self.n + count <= self.total
            self.n += count

        def close(self):
            self.is_closed = True

    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Bar))
    otq.convert(models / "llama-mini", tmp_path / "x.otq", bits=6, no_calibration=True, progress=True)
    [converting] = [bar for bar in bars if bar.stage == "converting"]
    assert converting.n == converting.total and converting.unit == " bytes"
    assert all(bar.is_closed for bar in bars)

    bars.clear()
    rounds = _work._Bars()
    for stage, done, total in [("a", 1, 3), ("a", 3, 3), ("a", 1, 3), ("b", 2, 2), ("a", 2, 3), ("a", 1, 3),
                               ("a", 1, 4), ("c", 0, 9)]:
        rounds(stage, "sites", done, total)
    rounds.close()
    assert [(bar.stage, bar.n, bar.total) for bar in bars] == [
        ("a", 3, 3), ("a", 2, 3), ("b", 2, 2), ("a", 1, 3), ("a", 1, 4), ("c", 0, 9)]
    assert all(bar.is_closed for bar in bars)

    bars.clear()

    def interrupted(self, count):
        raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        otq.convert(models / "llama-mini", tmp_path / "y.otq", bits=6, progress=True)
    assert bars and all(bar.is_closed for bar in bars)
    assert os.listdir(tmp_path) == ["x.otq"]


def test_an_interrupt_ends_a_conversion_and_leaves_nothing(models, tmp_path):
    """Ctrl-C early in a calibration of many samples, as a terminal sends it: the file would be there without it."""
    script = """
import signal, sys, time
import otq
signal.signal(signal.SIGINT, signal.default_int_handler)
def progress(*event):
    told.append(event)
    if len(told) == 1:
        print("begun", flush=True)
told = []
try:
    otq.convert(sys.argv[1], sys.argv[2], bits=6, samples=4096, length=128, threads=1, progress=progress)
    print("converted")
except KeyboardInterrupt:
    print("interrupted", told[-1][0], told[-1][2] < told[-1][3])
"""
    output = tmp_path / "out" / "x.otq"
    output.parent.mkdir()
    arguments = [sys.executable, "-B", "-c", script, str(models / "llama-mini"), str(output)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=300)
    assert told == "interrupted calibrating True\n" and process.returncode == 0
    assert os.listdir(output.parent) == []


def test_python_runs_while_the_library_works(models, tmp_path):
    """The lock of the interpreter is free: another thread counts meanwhile."""
    counted, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    otq.convert(models / "llama-mini", tmp_path / "x.otq", bits=6)
    assert counted[0] > before + 3
    done.set()
    thread.join()


def test_several_threads_use_one_model(packed):
    with otq.Model(packed / "llama.otq") as model:
        expected, results = model.logits(list(range(3, 40))), {}

        def run(number):
            results[number] = model.logits(list(range(3, 40)))

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(results) == 4 and all(np.array_equal(result, expected) for result in results.values())


def test_without_the_library_the_reader_works(write):
    import handmade
    script = """
import sys, otq
assert otq.load_file(sys.argv[1])["b"].tolist() == [1, -1]
try:
    otq.Model(sys.argv[1])
except ImportError as error:
    print(error)
"""
    environment = {k: v for k, v in os.environ.items() if k != "OTQ_LIBRARY"}
    package = pathlib.Path(otq.__file__).parent
    if (package / "lib").exists():
        pytest.skip("the package has its library")
    for named in (None, "/nothing/libotq.so"):
        if named:
            environment["OTQ_LIBRARY"] = named
        outcome = subprocess.run([sys.executable, "-B", "-c", script, str(write(handmade.small()))],
                                 capture_output=True, text=True, env=environment)
        assert outcome.returncode == 0, outcome.stderr
        assert "native library" in outcome.stdout
