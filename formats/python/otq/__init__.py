"""Reads .otq files: language models with packed 2- to 8-bit weights.

Pure Python with numpy, and zstandard for compressed files; `otq.torch` has tensors of PyTorch.
"""
from __future__ import annotations

from ._reader import QuantizedTensor, load_file, safe_open
from ._refusal import Refusal
from ._version import version as __version__

__all__ = ["QuantizedTensor", "Refusal", "__version__", "load_file", "safe_open"]
