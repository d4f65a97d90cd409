"""The functions of the native library (otq.h, by ctypes), their arguments and their errors."""
from __future__ import annotations

import ctypes
import json
import os
import threading
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path as _Path
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple, cast

import numpy as np

from ._file import Path
from ._refusal import Refusal

ABI_VERSION = 1
LIBRARY_VARIABLE = "OTQ_LIBRARY"

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
