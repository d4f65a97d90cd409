"""What the native library does: converts, verifies, exports, evaluates and runs models (otq.h, by ctypes).

Options are keyword arguments named as those of the command otconvert, with underscores: ``bits=6``,
``method="smoothquant,alpha=0.5"``, ``weights_only=True``, ``text=["a.txt", "b.txt"]``. An option that does not
exist, or a value out of range, raises `Refusal` (rule ``option-…``) before anything is read.
"""
from __future__ import annotations

import ctypes
import json
import os
import queue
import threading
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path as _Path
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple, Type, Union, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._refusal import Refusal

ABI_VERSION = 1
LIBRARY_VARIABLE = "OTQ_LIBRARY"

Path = Union[str, "os.PathLike[str]"]
Text = Union[str, bytes]
Option = Any
#: Called with stage, unit, done and total, on the thread that made the call; what it raises ends the call.
Progress = Callable[[str, str, int, int], object]
Result = Dict[str, Any]

_OK, _REFUSED, _CANCELLED = 0, 1, 2
_PROGRESS = ctypes.CFUNCTYPE(c_int32, c_char_p, c_char_p, c_int64, c_int64, c_void_p)


class _Observer(ctypes.Structure):
    _fields_ = [("progress", _PROGRESS), ("context", c_void_p), ("cancellation", c_void_p)]


class _Piece(ctypes.Structure):
    _fields_ = [("text", c_void_p), ("byte_count", c_size_t), ("token_ids", POINTER(c_int64)),
                ("token_count", c_size_t), ("summary", c_char_p)]


_handle, _error = c_void_p, POINTER(c_void_p)
# A char * that must be given back is no c_char_p, of which ctypes makes a copy and loses the address.
_string, _options = POINTER(c_void_p), c_char_p
#: The arguments of each function; those that can fail take an error last and give a status.
_FUNCTIONS: Dict[str, List[Any]] = {
    "open": [c_char_p, POINTER(_handle), _error],
    "metadata": [_handle, _string, _error],
    "tensors": [_handle, _string, _error],
    "model_load": [_handle, _options, POINTER(_handle), _error],
    "model_info": [_handle, _string, _error],
    "tokenize": [_handle, c_char_p, c_size_t, c_int32, _string, POINTER(c_size_t), _error],
    "detokenize": [_handle, POINTER(c_int64), c_size_t, c_int32, _string, POINTER(c_size_t), _error],
    "logits": [_handle, POINTER(c_int64), c_size_t, POINTER(c_float), c_size_t, _error],
    "generation_begin": [_handle, c_char_p, c_size_t, _options, POINTER(_handle), _error],
    "generation_begin_with_tokens": [_handle, POINTER(c_int64), c_size_t, _options, POINTER(_handle), _error],
    "generation_next": [_handle, POINTER(_Piece), _error],
    "embed": [_handle, POINTER(c_char_p), POINTER(c_size_t), c_size_t, POINTER(c_float), c_size_t, _error],
    "classify": [_handle, c_char_p, c_size_t, c_char_p, c_size_t, _string, _error],
    "convert": [c_char_p, c_char_p, _options, POINTER(_Observer), _string, _error],
    "verify": [c_char_p, _options, POINTER(_Observer), _string, _error],
    "export": [c_char_p, c_char_p, c_char_p, _options, POINTER(_Observer), _string, _error],
    "eval": [_handle, _handle, _options, POINTER(_Observer), _string, _error],
}
#: Functions that cannot fail: what they give, and their arguments.
_OTHERS: Dict[str, Tuple[Any, List[Any]]] = {
    "version": (c_char_p, []), "abi_version": (c_int32, []), "free": (None, [c_void_p]),
    "error_rule": (c_char_p, [c_void_p]), "error_message": (c_char_p, [c_void_p]),
    "error_file": (c_char_p, [c_void_p]), "error_tensor": (c_char_p, [c_void_p]),
    "error_byte_offset": (c_int64, [c_void_p]), "error_remedy": (c_char_p, [c_void_p]),
    "error_free": (None, [c_void_p]), "close": (None, [_handle]), "model_free": (None, [_handle]),
    "generation_free": (None, [_handle]), "cancellation_create": (_handle, []),
    "cancellation_cancel": (None, [_handle]), "cancellation_free": (None, [_handle]),
}

_loaded: Optional[ctypes.CDLL] = None
# Of a thread that is interrupted while it loads, too, a second call may load.
_loading = threading.RLock()


def library_path() -> Optional[_Path]:
    """Where the native library is: in the package, or where OTQ_LIBRARY says; None: nowhere."""
    own = _Path(__file__).parent / "lib" / "libotq.so"
    if own.exists():
        return own
    named = os.environ.get(LIBRARY_VARIABLE)
    return _Path(named) if named else None


def _library() -> ctypes.CDLL:
    global _loaded
    if _loaded is not None:
        return _loaded
    with _loading:
        if _loaded is None:
            _loaded = _load()
        return _loaded


def _load_blas(path: _Path) -> None:
    """Loads the OpenBLAS of a wheel, so that the library finds it under its name, without threads of its own."""
    if not path.exists():
        return
    variable = "OPENBLAS_NUM_THREADS"
    is_set = variable in os.environ
    if not is_set:
        os.environ[variable] = "1"
    try:
        ctypes.CDLL(str(path))
    finally:
        if not is_set:
            del os.environ[variable]


def _load() -> ctypes.CDLL:
    path = library_path()
    if path is None:
        raise ImportError(
            "this installation of otq has no native library: install a wheel for this platform, or let "
            f"{LIBRARY_VARIABLE} name libotq.so. safe_open, load_file and otq.torch work without it")
    try:
        _load_blas(path.parent / "libopenblas.so.0")
        library = ctypes.CDLL(str(path))
        found = library.otq_abi_version()
    except (OSError, AttributeError) as error:
        raise ImportError(f"the native library cannot be used: {error}") from None
    if found != ABI_VERSION:
        raise ImportError(f"{path} has version {found} of the C interface, this package needs {ABI_VERSION}")
    for name, arguments in _FUNCTIONS.items():
        function = getattr(library, f"otq_{name}")
        function.argtypes, function.restype = arguments, c_int32
    for name, (result, arguments) in _OTHERS.items():
        function = getattr(library, f"otq_{name}")
        function.argtypes, function.restype = arguments, result
    return library


class VerificationFailed(Refusal):
    """A file is outside the tolerance; ``result`` has what was measured."""

    result: Result = {}


def _text(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _raise(error: c_void_p) -> NoReturn:
    """Raises what an otq_error says, and frees it."""
    library = _library()
    try:
        rule = _text(library.otq_error_rule(error)) or "unknown"
        offset = library.otq_error_byte_offset(error)
        kind = VerificationFailed if rule == "verify-failed" else Refusal
        raise kind(rule, _text(library.otq_error_message(error)) or "", file=_text(library.otq_error_file(error)),
                   tensor=_text(library.otq_error_tensor(error)), offset=None if offset < 0 else offset,
                   remedy=_text(library.otq_error_remedy(error)))
    finally:
        library.otq_error_free(error)


def _call(name: str, *arguments: Any) -> None:
    """Calls a function that can fail."""
    error = c_void_p()
    status = getattr(_library(), f"otq_{name}")(*arguments, byref(error))
    if status != _OK:
        _raise(error)


def _taken(pointer: c_void_p, byte_count: Optional[int] = None) -> bytes:
    """The bytes that a function allocated, which are given back."""
    try:
        return ctypes.string_at(pointer, -1 if byte_count is None else byte_count)
    finally:
        _library().otq_free(pointer)


def _terminated(text: bytes) -> bytes:
    """A text that ends with its first zero byte for C, which would not see more of it."""
    if b"\0" in text:
        raise ValueError("embedded null byte")
    return text


def _path(path: Path) -> bytes:
    return _terminated(os.fsencode(path))


def _json(name: str, handle: c_void_p) -> Any:
    text = c_void_p()
    _call(name, handle, byref(text))
    return json.loads(_taken(text))


def _encoded(options: Dict[str, Option]) -> Optional[bytes]:
    """Options as the library takes them; paths become texts."""
    if not options:
        return None

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"an option cannot be a {type(value).__name__}")

    members: Dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        values = [os.fspath(v) if isinstance(v, os.PathLike) else v
                  for v in (value if isinstance(value, (list, tuple, set)) else [value])]
        # All other texts are paths, or parts of what a path may hold.
        if name != "stop" and any(isinstance(v, str) and "\0" in v for v in values):
            raise ValueError(f"{name}: embedded null byte")
        members[name.replace("_", "-")] = values if isinstance(value, (list, tuple, set)) else values[0]
    return json.dumps(members, default=plain, allow_nan=False).encode()


def library_version() -> str:
    """The version of the native library. Raises `ImportError` where there is none."""
    return cast(bytes, _library().otq_version()).decode()


# ---- Long work ----------------------------------------------------------------------------------------------------

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


def eval(model: "Union[Model, Path]", *, against: "Union[None, Model, Path]" = None,
         progress: Union[None, bool, Progress] = None, **options: Option) -> Result:
    """Measures perplexity, and the distance from another model.

    options: those of ``otconvert eval``: ``text`` or ``ids``, ``context``, ``windows``, …
    Gives what ``otconvert eval --json`` prints. Raises `Refusal`.
    """
    threads = {"threads": options["threads"]} if options.get("threads") is not None else {}
    models = [m if m is None or isinstance(m, Model) else Model(m, **threads) for m in (model, against)]
    handles = [None if m is None else m._open for m in models]
    return _observed("eval", progress, *handles, _encoded(options))


# ---- Models -------------------------------------------------------------------------------------------------------

def inspect(path: Path) -> Result:
    """What a checkpoint or an .otq file says about itself, with its ``tensors``; weights are not read."""
    file = c_void_p()
    _call("open", _path(path), byref(file))
    try:
        return {**_json("metadata", file), "tensors": _json("tensors", file)}
    finally:
        _library().otq_close(file)


def _ids(tokens: ArrayLike) -> NDArray[np.int64]:
    ids = np.asarray(tokens)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise TypeError("tokens are a list of integers")
    return np.ascontiguousarray(ids, np.int64)


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(POINTER(kind))


class Model:
    """A model that is ready to run: an .otq file with integer products on its packed weights, or a checkpoint in
    float32. Its functions may be called from several threads."""

    def __init__(self, path: Path, **options: Option) -> None:
        """Opens and loads a model.

        options: ``threads`` (default: all cores), ``quantize_attention`` (2 to 8 bits; packed models alone).
        Raises `Refusal`.
        """
        self._handle: Optional[c_void_p] = None
        file, model = c_void_p(), c_void_p()
        _call("open", _path(path), byref(file))
        try:
            _call("model_load", file, _encoded(options), byref(model))
        finally:
            _library().otq_close(file)
        self._handle = model
        #: Sizes of inputs and outputs, as otq_model_info of otq.h says.
        self.info: Result = _json("model_info", model)

    @property
    def _open(self) -> c_void_p:
        if self._handle is None:
            raise ValueError("the model is closed")
        return self._handle

    def close(self) -> None:
        """Frees the model; generations that were begun go on."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _library().otq_model_free(handle)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def __repr__(self) -> str:
        return f"Model({self.info['path']!r}, {self.info['family']})"

    @property
    def vocabulary_size(self) -> Optional[int]:
        return cast(Optional[int], self.info["vocabularySize"])

    @property
    def context_length(self) -> Optional[int]:
        """The longest sequence, in tokens; None: any."""
        return cast(Optional[int], self.info["contextLength"])

    @property
    def is_causal(self) -> bool:
        """True when it continues texts."""
        return bool(self.info["isCausal"])

    @property
    def labels(self) -> Optional[List[str]]:
        """Of a classifier."""
        return cast(Optional[List[str]], self.info["labels"])

    def tokenize(self, text: str, *, special_tokens: bool = True) -> List[int]:
        """The tokens of a text, with those around it that the model expects."""
        data, ids, count = text.encode(), c_void_p(), c_size_t()
        _call("tokenize", self._open, data, len(data), int(special_tokens), byref(ids), byref(count))
        if not ids:
            return []
        return [int(token) for token in np.frombuffer(_taken(ids, count.value * 8), np.int64)]

    def detokenize(self, tokens: ArrayLike, *, skip_special_tokens: bool = True) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD."""
        ids, text, count = _ids(tokens), c_void_p(), c_size_t()
        _call("detokenize", self._open, _pointer(ids, c_int64), len(ids), int(skip_special_tokens), byref(text),
              byref(count))
        return _taken(text, count.value).decode()

    def logits(self, tokens: ArrayLike) -> NDArray[np.float32]:
        """Runs the model on a sequence: row i has the logits of the token after token i (of a masked-LM head, of
        token i itself), float32 ``[len(tokens), vocabulary size]``. Raises `Refusal`."""
        ids = _ids(tokens)
        result = np.empty((len(ids), self.info.get("logitCount") or 0), np.float32)
        _call("logits", self._open, _pointer(ids, c_int64), len(ids), _pointer(result, c_float), result.size)
        return result

    def generate(self, prompt: Union[str, Sequence[int], NDArray[np.integer[Any]]], **options: Option) -> "Generation":
        """Continues a text, or tokens to which none are added: an iterator of pieces of text.

        options: ``max_tokens`` (128), ``temperature`` (0: always the likeliest token), ``top_k``, ``top_p``,
        ``seed`` (0), ``stop`` (texts). The same prompt, options and seed give the same text.
        """
        generation = c_void_p()
        if isinstance(prompt, str):
            data = prompt.encode()
            _call("generation_begin", self._open, data, len(data), _encoded(options), byref(generation))
        else:
            ids = _ids(prompt)
            _call("generation_begin_with_tokens", self._open, _pointer(ids, c_int64), len(ids), _encoded(options),
                  byref(generation))
        return Generation(generation)

    @overload
    def embed(self, texts: str) -> NDArray[np.float32]: ...
    @overload
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def embed(self, texts: Union[str, Sequence[str]]) -> NDArray[np.float32]:
        """Vectors of texts, whose cosines compare meanings: float32 ``[size]`` of one, ``[len(texts), size]`` of
        several. Raises `Refusal`."""
        if isinstance(texts, str):
            return cast("NDArray[np.float32]", self.embed([texts])[0])
        data = [text.encode() for text in texts]
        result = np.empty((len(data), self.info.get("embeddingSize") or 0), np.float32)
        _call("embed", self._open, (c_char_p * len(data))(*data), (c_size_t * len(data))(*map(len, data)), len(data),
              _pointer(result, c_float), result.size)
        return result

    def classify(self, text: str, pair: Optional[str] = None) -> List[Result]:
        """The labels of a text, or of a pair of texts, the best first: ``label``, ``index``, ``score``, ``logit``."""
        data, other, labels = text.encode(), None if pair is None else pair.encode(), c_void_p()
        _call("classify", self._open, data, len(data), other, len(other or b""), byref(labels))
        return cast(List[Result], json.loads(_taken(labels)))


class Generation(Iterator[str]):
    """A text in the making; nothing runs ahead of what is asked for."""

    def __init__(self, handle: c_void_p) -> None:
        self._handle: Optional[c_void_p] = handle
        #: The tokens chosen so far.
        self.token_ids: List[int] = []
        #: After the last piece: ``stopReason``, ``tokenCount``, ``seconds``, …
        self.summary: Optional[Result] = None

    def __iter__(self) -> "Generation":
        return self

    def __next__(self) -> str:
        while self._handle is not None:
            piece = _Piece()
            _call("generation_next", self._handle, byref(piece))
            text = ctypes.string_at(piece.text, piece.byte_count).decode() if piece.text else ""
            self.token_ids += piece.token_ids[:piece.token_count] if piece.token_count else []
            if piece.summary is not None:
                self.summary = json.loads(piece.summary)
            if piece.summary is not None or not piece.text:
                self.close()
            if text:
                return text
        raise StopIteration

    def close(self) -> None:
        """Ends the text here."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _library().otq_generation_free(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()
