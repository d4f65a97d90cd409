"""Long work of the native library: converts, verifies, exports and evaluates.

Options are keyword arguments named as those of the command otconvert, with underscores: ``bits=6``,
``method="smoothquant,alpha=0.5"``, ``weights_only=True``, ``text=["a.txt", "b.txt"]``. An option that does not
exist, or a value out of range, raises `Refusal` (rule ``option-…``) before anything is read.
"""
from __future__ import annotations

import json
import queue
import threading
from ctypes import byref, c_void_p
from typing import Any, Dict, Optional, Tuple, Union, cast

from ._file import Path
from ._model import Model
from ._native import (_OK, _PROGRESS, Option, Progress, Result, VerificationFailed, _encoded, _library, _Observer,
                      _path, _raise, _taken, _terminated)


class _Bars:
    """Progress as bars of tqdm, one for each round of a stage."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True needs the package tqdm; a function of your own needs none") from None
        self._bar: Any = tqdm
        self._open: Dict[str, Any] = {}

    def __call__(self, stage: str, unit: str, done: int, total: int) -> None:
        bar = self._open.get(stage)
        if bar is not None and (bar.total != total or done < bar.n):
            self._open.pop(stage).close()
            bar = None
        if bar is None:
            bar = self._open[stage] = self._bar(total=total, desc=stage, unit=" " + unit, unit_scale=True)
        bar.update(done - bar.n)
        if done == total:
            self._open.pop(stage).close()

    def close(self) -> None:
        """Ends the bars of stages that did not come to their end."""
        while self._open:
            self._open.popitem()[1].close()


def _observed(name: str, progress: Union[None, bool, Progress], *arguments: Any) -> Result:
    """Runs a long function on a thread of its own, so that an interrupt of this one is seen at once.

    Progress is told on this thread, and the work waits for it. Whatever is raised here ends the call, which leaves
    nothing unless it is done already, and is raised again.
    """
    library = _library()
    bars = _Bars() if progress is True else None
    tell = bars or progress or None
    events: "queue.SimpleQueue[Optional[Tuple[str, str, int, int]]]" = queue.SimpleQueue()
    answers: "queue.SimpleQueue[int]" = queue.SimpleQueue()
    is_ended = threading.Event()
    outcome: Dict[str, Any] = {}
    text, error = c_void_p(), c_void_p()
    cancellation = c_void_p(library.otq_cancellation_create())

    def report(stage: bytes, unit: bytes, done: int, total: int, _: Any) -> int:
        if is_ended.is_set():
            return 1
        events.put((stage.decode(), unit.decode(), done, total))
        return answers.get()

    observer = _Observer(_PROGRESS(report) if tell else _PROGRESS(), None, cancellation)

    def work() -> None:
        try:
            function = getattr(library, f"otq_{name}")
            outcome["status"] = function(*arguments, byref(observer), byref(text), byref(error))
        except BaseException as raised:  # A wrong type of an argument.
            outcome["raised"] = raised
        finally:
            events.put(None)

    thread = threading.Thread(target=work, name=f"otq.{name}", daemon=True)
    try:
        thread.start()
        while True:
            event = events.get()
            if event is None:
                break
            if callable(tell):
                tell(*event)
            answers.put(0)
    except BaseException:
        # In this order: the work may be waiting for an answer, or about to ask for one.
        is_ended.set()
        answers.put(1)
        library.otq_cancellation_cancel(cancellation)
        thread.join()
        if text:
            library.otq_free(text)
        if error:
            library.otq_error_free(error)
        raise
    finally:
        # The call goes on with it where a second interrupt has ended the wait for it.
        library.otq_cancellation_free(cancellation)
        if bars is not None:
            bars.close()
    thread.join()
    if "raised" in outcome:
        raise outcome["raised"]
    result = cast(Result, json.loads(_taken(text))) if text else {}
    if outcome["status"] != _OK:
        try:
            _raise(error)
        except VerificationFailed as failed:
            failed.result = result
            raise
    return result


def convert(source: Path, output: Path, *, progress: Union[None, bool, Progress] = None, **options: Option) -> Result:
    """Converts a checkpoint to an .otq file, which appears whole or not at all.

    source: a file of safetensors, PyTorch or GGUF, the index of a sharded one, or a folder of Hugging Face.
    progress: a function of stage, unit, done and total; True: bars of tqdm.
    options: those of ``otconvert convert``: ``bits=6``, ``method="best"``, ``budget="5.0bpw"``, ``force=True``, …
    Gives what ``otconvert --json`` prints, with ``method`` and ``warnings``. Raises `Refusal`. An interrupt, or
    what `progress` raises, ends the conversion; nothing is left, unless it is done already.
    """
    return _observed("convert", progress, _path(source), _path(output), _encoded(options))


def verify(path: Path, *, progress: Union[None, bool, Progress] = None, **options: Option) -> Result:
    """Compares an .otq file with its source (``reference=…``), or checks all that is in it.

    options: those of ``otconvert verify``: ``reference``, ``level`` ("weights", "layers", "model"), ``report``, …
    Gives what ``otconvert verify --json`` prints. Raises `VerificationFailed`, which has the same as ``result``,
    for a file outside the tolerance, and `Refusal` for what cannot be compared.
    """
    return _observed("verify", progress, _path(path), _encoded(options))


def export(source: Path, output: Path, to: str, *, progress: Union[None, bool, Progress] = None,
           **options: Option) -> Result:
    """Writes a checkpoint or an .otq file for another engine.

    to: ``safetensors``, ``compressed-tensors``, ``gguf``, ``mlx`` or ``ctranslate2``.
    options: those of ``otconvert export``, for a checkpoint also those of `convert`.
    Gives ``file`` or ``folder``, ``format``, ``warnings``. Raises `Refusal` for what the format cannot hold.
    """
    return _observed("export", progress, _path(source), _path(output), _terminated(to.encode()), _encoded(options))


def eval(model: Union[Model, Path], *, against: Union[None, Model, Path] = None,
         progress: Union[None, bool, Progress] = None, **options: Option) -> Result:
    """Measures perplexity, or has a model do a task of the field; beside another model (``against``), the distance.

    options: those of ``otconvert eval``: ``text`` or ``ids``, ``context``, ``windows``, …; or ``task="piqa"`` with
    ``data="piqa.jsonl"`` and perhaps ``limit=200``.
    Gives what ``otconvert eval --json`` prints. Raises `Refusal`.
    """
    threads = {"threads": options["threads"]} if options.get("threads") is not None else {}
    models = [m if m is None or isinstance(m, Model) else Model(m, **threads) for m in (model, against)]
    handles = [None if m is None else m._open for m in models]
    return _observed("eval", progress, *handles, _encoded(options))
