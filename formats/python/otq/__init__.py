"""Reads, converts, verifies and runs .otq files: language models with packed 2- to 8-bit weights.

`safe_open`, `load_file` and `otq.torch.load_file` read files in pure Python (numpy; zstandard for compressed
files). The rest calls the native library libotq, which platform wheels contain.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from ._reader import QuantizedTensor, load_file, safe_open
from ._refusal import Refusal
from ._version import version as __version__

if TYPE_CHECKING:
    from ._native import Generation, Model, VerificationFailed, convert, eval, export, inspect, library_version, verify

__all__ = [
    "Generation", "Model", "QuantizedTensor", "Refusal", "VerificationFailed", "__version__", "convert", "eval",
    "export", "inspect", "library_version", "load_file", "safe_open", "verify",
]


def __getattr__(name: str) -> Any:
    # What is not here is native; nothing of that is looked for before it is asked for.
    if name in __all__:
        from . import _native
        return getattr(_native, name)
    raise AttributeError(f"module 'otq' has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
