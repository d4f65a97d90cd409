"""Models of .otq files, and checkpoints in float32, for EleutherAI's lm-evaluation-harness.

    python -m otq.lm_eval --model otq --model_args path=model.otq --tasks arc_easy

is ``lm_eval`` with a model more: the harness finds models of other packages only once they are imported.
From Python, ``import otq.lm_eval`` is enough for ``lm_eval.simple_evaluate(model="otq", model_args=…)``.
"""
from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from numpy.typing import NDArray
from tqdm import tqdm

from ._model import Model
from ._reader import safe_open


def _configuration(path: str) -> Dict[str, Any]:
    """config.json of a model, from the .otq file, the folder, or the folder of the weights; {}: there is none."""
    if os.path.isfile(path) and path.endswith(".otq"):
        with safe_open(path) as file:
            return dict(json.loads(file.get_attachment("config.json"))) if "config.json" in file.attachments() else {}
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return {}


@register_model("otq")
class OtqLM(TemplateLM):
    """A causal model, one sequence at a time, all threads on each."""

    def __init__(self, path: str, threads: Optional[int] = None, quantize_attention: Optional[int] = None,
                 add_bos_token: bool = False, max_length: Optional[int] = None, max_gen_toks: int = 256,
                 batch_size: Any = None, max_batch_size: Any = None, device: Any = None) -> None:
        """
        path: of an .otq file or a checkpoint.
        threads, quantize_attention: as of `otq.Model`.
        add_bos_token: begin every sequence with the tokens that the model expects; off as for ``--model hf``.
        max_length: tokens of a sequence; default: the model's.
        max_gen_toks: tokens of an answer, where the task does not say.
        batch_size, max_batch_size, device: taken from the command line, and without meaning here.
        """
        super().__init__()
        self.model = Model(path, threads=threads, quantize_attention=quantize_attention)
        if not self.model.is_causal:
            raise ValueError(f"{path} does not continue texts: the harness has nothing to ask it")
        self._path, self.add_bos_token, self.max_gen_toks = path, add_bos_token, max_gen_toks
        self.max_length = max_length or self.model.context_length or 2048
        configuration = _configuration(path)
        end, begin = configuration.get("eos_token_id"), configuration.get("bos_token_id")
        end = end[0] if isinstance(end, list) else end
        # What an empty context stands for: as the harness has it, the first token of a text.
        expected = self.model.tokenize("")
        prefix = expected[0] if expected else begin if begin is not None else end
        if prefix is None:
            raise ValueError(f"{path} names no token that a text begins with")
        self._prefix, self._end = prefix, prefix if end is None else end

    @property
    def eot_token_id(self) -> int:
        return int(self._end)

    @property
    def prefix_token_id(self) -> int:
        return int(self._prefix)

    @property
    def tokenizer_name(self) -> str:
        return self._path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: Optional[bool] = None, **_: Any) -> List[int]:
        special = self.add_bos_token if add_special_tokens is None else add_special_tokens
        return self.model.tokenize(string, special_tokens=special)

    def tok_decode(self, tokens: Iterable[int], skip_special_tokens: bool = True) -> str:
        return self.model.detokenize(list(tokens), skip_special_tokens=skip_special_tokens)

    def _score(self, rows: NDArray[np.float32], tokens: Sequence[int]) -> Tuple[float, bool]:
        """Σ ln p of tokens, each by its row of logits; and whether each is the likeliest."""
        scores = rows.astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        chosen = scores[np.arange(len(tokens)), tokens]
        total = float((chosen - np.log(np.exp(scores).sum(axis=1))).sum())
        return total, bool((rows.argmax(axis=1) == np.asarray(tokens)).all())

    def _loglikelihood_tokens(self, requests: List[Tuple[Any, List[int], List[int]]], disable_tqdm: bool = False,
                              **_: Any) -> List[Tuple[float, bool]]:
        # Continuations of one token after the same context are answered by one run.
        inputs: Dict[Tuple[int, ...], List[int]] = {}
        for index, (_, context, continuation) in enumerate(requests):
            inputs.setdefault(tuple((context + continuation)[-(self.max_length + 1):-1]), []).append(index)
        results: List[Tuple[float, bool]] = [(0.0, True)] * len(requests)
        for tokens, indices in tqdm(inputs.items(), desc="Running loglikelihood requests", disable=disable_tqdm):
            logits = self.model.logits(tokens)
            for index in indices:
                request, _, continuation = requests[index]
                kept = continuation[-len(tokens):]
                results[index] = self._score(logits[len(logits) - len(kept):], kept)
                if request is not None:
                    self.cache_hook.add_partial("loglikelihood", request, results[index])
        return results

    def loglikelihood_rolling(self, requests: List[Any], disable_tqdm: bool = False) -> List[float]:
        results = []
        for (text,) in tqdm([request.args for request in requests], disable=disable_tqdm):
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text, add_special_tokens=False), prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length, context_len=1)
            parts = [(None, *window) for window in map(utils.make_disjoint_window, windows)]
            total = sum(score for score, _ in self._loglikelihood_tokens(parts, disable_tqdm=True))
            results.append(total)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return results

    def generate_until(self, requests: List[Any], disable_tqdm: bool = False) -> List[str]:
        results = []
        for context, asked in tqdm([request.args for request in requests], disable=disable_tqdm):
            until = asked.get("until") or []
            until = [until] if isinstance(until, str) else [text for text in until if text]
            count = min(int(asked.get("max_gen_toks", self.max_gen_toks)), self.max_length - 1)
            options: Dict[str, Union[int, float]] = {}
            if asked.get("do_sample", (asked.get("temperature") or 0) > 0):
                options = {name: asked[name] for name in ("temperature", "top_k", "top_p") if asked.get(name)}
            tokens = self.tok_encode(context)[-(self.max_length - count):] or [self.prefix_token_id]
            text = "".join(self.model.generate(tokens, max_tokens=count, stop=until, **options))
            for stop in until:
                text = text.split(stop)[0]
            results.append(text)
            self.cache_hook.add_partial("generate_until", (context, asked), text)
        return results


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
