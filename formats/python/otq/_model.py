"""Models that run, by the native library."""
from __future__ import annotations

import ctypes
import json
from ctypes import POINTER, byref, c_char_p, c_float, c_int64, c_size_t, c_void_p
from types import TracebackType
from typing import Any, Iterator, List, Optional, Sequence, Type, Union, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._file import Path
from ._native import Option, Result, _call, _encoded, _json, _library, _path, _Piece, _taken


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
