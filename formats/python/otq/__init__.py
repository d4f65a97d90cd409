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
    from ._model import Generation, Model, inspect
    from ._native import VerificationFailed, library_version
    from ._work import convert, eval, export, verify

__all__ = [
    "Generation", "Model", "QuantizedTensor", "Refusal", "VerificationFailed", "__version__", "convert", "eval",
    "export", "inspect", "library_version", "load_file", "safe_open", "verify",
]


def __getattr__(name: str) -> Any:
    # What is not here is native; nothing of that is looked for before it is asked for.
    if name in __all__:
        from . import _model, _native, _work
        return next(getattr(module, name) for module in (_native, _model, _work) if name in vars(module))
    raise AttributeError(f"module 'otq' has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
