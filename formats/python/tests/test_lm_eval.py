"""The adapter for lm-evaluation-harness, on a task of its own: scripts/check-lm-eval installs the harness."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import otq
from otq import _native

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.skipif(_native.library_path() is None, reason="OTQ_LIBRARY names no library")

ITEMS = [
    ("The sun rises in the", ["east", "cup", "seven"], 0),
    ("A cat drinks some", ["stone", "milk", "north"], 1),
    ("In winter it is often", ["loud", "square", "cold"], 2),
    ("Birds fly in the", ["sky", "book", "shoe of a man"], 0),
]
HEAD = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
CHOICES = HEAD + """
task: own_choices
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: " "
metric_list: [{{metric: acc}}]
"""
ROLLING = HEAD + """
task: own_text
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""
GENERATION = HEAD + """
task: own_answers
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 6}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def folder(fixtures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("harness")
    otq.convert(fixtures / "models" / "llama-mini", folder / "m.otq", bits=8, no_calibration=True)
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps({"text": t, "choices": c, "answer": a}) + "\n" for t, c, a in ITEMS))
    for name, text in [("choices", CHOICES), ("text", ROLLING), ("answers", GENERATION)]:
        (folder / f"{name}.yaml").write_text(text.format(data=data))
    os.environ["HF_HOME"] = str(folder / "cache")
    os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    return folder


def log_likelihood(model, tokens, count):
    """Σ ln p of the last tokens, in double precision."""
    logits = model.logits(tokens).astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return sum(logs[i - 1, tokens[i]] for i in range(len(tokens) - count, len(tokens)))


def test_scores_are_those_of_the_logits(folder):
    import lm_eval
    from lm_eval.tasks import TaskManager

    import otq.lm_eval  # noqa: F401

    path = folder / "m.otq"
    result = lm_eval.simple_evaluate(
        model="otq", model_args={"path": str(path)}, tasks=["own_choices", "own_text", "own_answers"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False), bootstrap_iters=0,
        log_samples=True)
    model = otq.Model(path)
    right, bits, size = 0, 0.0, 0
    for text, choices, answer in ITEMS:
        scores = []
        for choice in choices:
            whole, context = (model.tokenize(t, special_tokens=False) for t in (f"{text} {choice}", text))
            scores.append(log_likelihood(model, whole, len(whole) - len(context)))
        right += int(np.argmax(scores)) == answer
        [sample] = [s for s in result["samples"]["own_choices"] if s["doc"]["text"] == text]
        found = [float(r[0][0]) for r in sample["resps"]]
        assert np.allclose(found, scores, rtol=1e-5), text
        tokens = model.tokenize(text, special_tokens=False)
        prefix = (model.tokenize("") or [json.loads(otq.safe_open(path).get_attachment("config.json"))["bos_token_id"]])
        bits -= log_likelihood(model, prefix[:1] + tokens, len(tokens)) / np.log(2)
        size += len(text.encode())
        [sample] = [s for s in result["samples"]["own_answers"] if s["doc"]["text"] == text]
        expected = "".join(model.generate(tokens, max_tokens=6)).split(".")[0]
        assert sample["resps"][0][0] == expected
    assert result["results"]["own_choices"]["acc,none"] == right / len(ITEMS)
    assert result["results"]["own_text"]["bits_per_byte,none"] == pytest.approx(bits / size, rel=1e-5)


def test_the_command(folder):
    arguments = ["--model", "otq", "--model_args", f"path={folder / 'm.otq'}", "--tasks", "own_choices",
                 "--include_path", str(folder)]
    outcome = subprocess.run([sys.executable, "-B", "-m", "otq.lm_eval", *arguments], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    assert "own_choices" in outcome.stdout and "acc" in outcome.stdout


def test_models_that_continue_nothing_are_refused(fixtures, folder):
    from otq.lm_eval import OtqLM

    with pytest.raises(ValueError, match="does not continue texts"):
        OtqLM(str(fixtures / "models" / "bert-mini"))
