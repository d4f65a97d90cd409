"""Tensors of .otq files as tensors of PyTorch, which must be installed."""
from __future__ import annotations

from typing import Any, Dict, Optional, Union

import numpy as np
import torch

from ._format import Container, Path
from ._index import NUMPY
from ._reader import QuantizedTensor

#: Types that numpy has no name for, and the attributes of torch that do.
_TYPES = {"BF16": "bfloat16", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu",
          "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"}


def load_file(path: Path, *, dequantize: bool = True, dtype: Optional[torch.dtype] = None,
              device: Union[str, torch.device] = "cpu") -> Dict[str, Any]:
    """All tensors of a file by name; an alias is the same object as what it stands for.

    Uncompressed plain tensors lie in the mapped file, on the CPU without a copy; writing to them does not
    change the file.

    dequantize: quantized tensors as `dtype` (float32 by default); otherwise as `otq.QuantizedTensor`.
    dtype: the type of all floats, if any; plain tensors keep their own without it.
    Raises `Refusal` as `otq.safe_open`; for F4 and F6, which torch lacks, the tensor's bytes.
    """
    container = Container(path, writable=True)

    def of(name: str) -> Any:
        if "bits" not in container.tensors[name]:
            tensor = _plain(container, name)
            return tensor.to(device, dtype if tensor.is_floating_point() else None)
        quantized = QuantizedTensor(container, name)
        return torch.from_numpy(quantized.dequantize()).to(device, dtype) if dequantize else quantized

    return container.of_each(of)


def _plain(container: Container, name: str) -> torch.Tensor:
    dtype = container.entry(name)["dtype"]
    values = container.values(name)
    if not values.flags.writeable:  # Decompressed.
        values = values.copy()
    if dtype in _TYPES and hasattr(torch, _TYPES[dtype]):
        bits = values.view(np.int16) if NUMPY[dtype] == "<u2" else values
        return torch.from_numpy(bits).view(getattr(torch, _TYPES[dtype]))
    return torch.from_numpy(values)
