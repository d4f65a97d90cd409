"""Files as users see them: `safe_open`, `load_file`, `QuantizedTensor`."""
from __future__ import annotations

import copy
from functools import cached_property
from types import TracebackType
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Type, Union

import numpy as np
from numpy.typing import NDArray

from ._codes import Layout
from ._format import Container, Path
from ._index import NUMPY


class _Codes(NamedTuple):
    """Values of the rows from start to stop."""
    start: int
    stop: int
    codes: NDArray[np.uint8]


class QuantizedTensor:
    """A matrix of quantized values: weight = scale · (value − zero point), in float32, rounded once.

    Planes are read and checked when they are first asked for, and kept.
    """

    def __init__(self, container: Container, name: str) -> None:
        self._container = container
        entry = container.entry(name)
        #: The tensor's name; of an alias, its own.
        self.name = name
        #: ``(rows, columns)``.
        self.shape: Tuple[int, int] = tuple(entry["shape"])
        #: 2 to 8.
        self.bits: int = entry["bits"]
        #: True when every zero point is ``2**(bits - 1)``.
        self.symmetric: bool = entry["symmetric"]
        #: ``tensor``, ``channel`` (a row) or ``group``.
        self.granularity: str = entry["granularity"]
        #: Columns that share a scale; None but for groups. The last group of a row may be shorter.
        self.group_size: Optional[int] = entry.get("groupSize")
        #: The rule by which values were chosen: ``nearest``, ``gptq``, ``clip``, …
        self.rounding: str = entry.get("rounding", "nearest")
        #: ``packed``: fields of 4, 6 or 8 bits; ``bytes``: one to a byte, for compression.
        self.form: str = entry["form"]
        #: As the converter measured it: ``sqnrDecibels``, ``maximumInSteps``; None when it did not.
        self.error: Optional[Dict[str, Any]] = copy.deepcopy(entry.get("error"))
        self._layout, self._chunk = Layout.of(entry), int(entry["rowTilesPerChunk"])
        self._scale_shape = (1, 1) if self.granularity == "tensor" else (self.shape[0], self._layout.groups)

    @cached_property
    def values(self) -> NDArray[np.uint8]:
        """Quantized values, 0 … 2^bits − 1, uint8 ``[rows, columns]``: a copy, since files interleave them."""
        return self._container.codes(self.name)

    @cached_property
    def scales(self) -> NDArray[np.float32]:
        """Steps, float32 ``[rows, groups]``; ``[rows, 1]`` for channels, ``[1, 1]`` for a tensor."""
        return self._container.scales(self.name).reshape(self._scale_shape)

    @cached_property
    def zero_points(self) -> NDArray[np.uint8]:
        """The values that stand for 0, uint8, of the shape of `scales`."""
        return self._container.zero_points(self.name).reshape(self._scale_shape)

    @property
    def stored(self) -> NDArray[np.uint8]:
        """The values' bytes as the file has them (formats/otq.md, "Codes"), without a copy where they are packed."""
        return self._container.plane(self.name, "codes")

    def dequantize(self, dtype: Any = np.float32) -> NDArray[Any]:
        """The weights, ``[rows, columns]``; in float32, then rounded to `dtype`."""
        return self._rows(range(self.shape[0]), dtype)

    def _rows(self, rows: range, dtype: Any = np.float32) -> NDArray[Any]:
        """Dequantized rows; of the values, no more chunks are read than needed, and one at a time."""
        columns = self.shape[1]
        result = np.empty((len(rows), columns), dtype)
        if not result.size:
            return result
        # One scale of a row serves all columns.
        column = (slice(None) if self._scale_shape[1] == 1 else
                  (slice(None), np.arange(columns) // (self.group_size or columns)))
        # About a MiB of values at a time becomes floats.
        step = max((1 << 20) // columns, 1)
        for values in self._chunks(rows):
            for first in range(values.start, values.stop, step):
                last = min(first + step, values.stop)
                own = slice(0, 1) if self.granularity == "tensor" else slice(first, last)
                # The difference is exact in float32; the product is rounded once.
                weights = values.codes[first - values.start:last - values.start].astype(np.float32)
                weights -= self.zero_points[own][column]
                weights *= self.scales[own][column]
                result[first - rows.start:last - rows.start] = weights
        return result

    def _chunks(self, rows: range) -> Iterator[_Codes]:
        """The values of some rows, a chunk of the file at a time."""
        if "values" in self.__dict__:
            yield _Codes(rows.start, rows.stop, self.values[rows.start:rows.stop])
            return
        size = 16 * self._chunk
        for start in range(rows.start // size * size, rows.stop, size):
            first, last = max(start, rows.start), min(start + size, rows.stop)
            tiles = range(first // 16, -(-last // 16))
            codes = self._container.codes(self.name, tiles)
            yield _Codes(first, last, codes[first - tiles.start * 16:last - tiles.start * 16])

    def __repr__(self) -> str:
        scheme = f"int{self.bits} per {self.granularity}"
        if self.group_size:
            scheme += f" of {self.group_size}"
        return f"QuantizedTensor({self.name!r}, {list(self.shape)}, {scheme}, {'' if self.symmetric else 'a'}symmetric)"


Tensor = Union[NDArray[Any], QuantizedTensor]


def plain(container: Container, name: str) -> NDArray[Any]:
    """A plain tensor as numpy has it: BF16 as float32, 8-bit floats as their bytes."""
    return widened(container.values(name), container.entry(name)["dtype"])


def widened(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    return (values.astype("<u4") << 16).view("<f4") if dtype == "BF16" else values


class Slice:
    """Part of a tensor, by the index expressions of numpy: ``file.get_slice(name)[16:32, :8]``."""

    def __init__(self, container: Container, name: str) -> None:
        self._container, self._name = container, name
        self._entry = container.entry(name)

    def get_shape(self) -> List[int]:
        return list(self._entry["shape"])

    def get_dtype(self) -> str:
        """The element type of a plain tensor (safetensors' names); ``F32`` for a quantized one."""
        return str(self._entry.get("dtype", "F32"))

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Elements, dequantized: of the first dimension, no more is read than the index takes.

        Raises `IndexError` as numpy does.
        """
        index = index if type(index) is tuple else (index,)
        shape = self._entry["shape"]
        first = index[0] if index else Ellipsis
        rows, rest = None, index
        if shape and isinstance(first, slice):
            indices = range(*first.indices(shape[0]))
            if len(indices) == 0:
                rows, rest = range(0), (slice(None), *index[1:])
            else:
                low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1])
                rows = range(low, high + 1)
                forward = slice(None, None, first.step)
                rest = (forward, *index[1:])
        elif shape and isinstance(first, (int, np.integer)) and not isinstance(first, bool):
            row = int(first) + (shape[0] if first < 0 else 0)
            if not 0 <= row < shape[0]:
                raise IndexError(f"index {first} is out of bounds for axis 0 with size {shape[0]}")
            rows, rest = range(row, row + 1), (0, *index[1:])
        part: NDArray[Any] = self._read(rows)[rest]
        return part

    def _read(self, rows: Optional[range]) -> NDArray[Any]:
        container, name = self._container, self._name
        if "bits" in self._entry:
            return QuantizedTensor(container, name)._rows(range(self._entry["shape"][0]) if rows is None else rows)
        dtype = self._entry["dtype"]
        if dtype not in NUMPY:
            raise TypeError(f"elements of {dtype} are no whole bytes: get_bytes has them")
        if rows is None:
            return plain(container, name)
        return widened(container.value_rows(name, rows), dtype)


class safe_open:
    """Opens an ``.otq`` file and checks all but the data of its tensors, which are checked when they are read.

        with otq.safe_open("model.otq") as file:
            for name in file.keys():
                tensor = file.get_tensor(name)

    The file is mapped; uncompressed plain tensors are arrays in the mapping, which lives as long as they do.
    If another program makes the file shorter meanwhile, the system ends this process (SIGBUS).
    Everything raises `Refusal` for a file that breaks a rule of formats/otq.md.
    """

    def __init__(self, path: Path) -> None:
        self._container: Optional[Container] = Container(path)

    @property
    def _open(self) -> Container:
        if self._container is None:
            raise ValueError("the file is closed")
        return self._container

    def __enter__(self) -> "safe_open":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self._container = None

    def keys(self) -> List[str]:
        """Names of the tensors, aliases among them, in the order of the file."""
        return list(self._open.tensors)

    def get_tensor(self, name: str) -> Tensor:
        """A quantized tensor as a `QuantizedTensor`, a plain one as an array: BF16 as float32, 8-bit floats
        as bytes in the tensor's shape, F4 and F6 as bytes in one dimension. `KeyError` for an unknown name."""
        container = self._open
        return QuantizedTensor(container, name) if "bits" in container.entry(name) else plain(container, name)

    def get_slice(self, name: str) -> Slice:
        """Part of a tensor, dequantized: ``get_slice(name)[16:32]``."""
        return Slice(self._open, name)

    def get_bytes(self, name: str) -> NDArray[np.uint8]:
        """The elements of a plain tensor as stored, little-endian, row-major; `KeyError` for a quantized one."""
        return self._open.plane(name, "values")

    def get_dtype(self, name: str) -> str:
        """The element type of a plain tensor (safetensors' names); ``F32`` for a quantized one."""
        return self.get_slice(name).get_dtype()

    def metadata(self) -> Dict[str, Any]:
        """The file's metadata: producer, family, method, options, sources, graph, … (formats/otq.md)."""
        members = {k: v for k, v in self._open.metadata.items() if k not in ("tensors", "attachments")}
        return copy.deepcopy(members)

    def entry(self, name: str) -> Dict[str, Any]:
        """A tensor's entry in the index: shape, scheme, source, error, alias."""
        return copy.deepcopy(self._open.tensors[name])

    def stored_size(self, name: str) -> int:
        """Bytes that a tensor takes in the file, padding left out; 0 for an alias."""
        container = self._open
        return sum(container.extents[i].stored for run in container.planes[name].values() for i in run)

    def attachments(self) -> List[str]:
        """Names of the attached files: ``config.json``, ``tokenizer.json``, …"""
        return list(self._open.attachments)

    def get_attachment(self, name: str) -> bytes:
        """An attached file, byte for byte; `KeyError` for an unknown name."""
        return self._open.attachment(name)

    def verify(self) -> None:
        """Reads and checks everything: checksums, frames, quantized values, scales, zero points."""
        self._open.verify()


def load_file(path: Path, *, dequantize: bool = False) -> Dict[str, Tensor]:
    """All tensors of a file by name; an alias is the same object as what it stands for.

    dequantize: float32 arrays in place of `QuantizedTensor`.
    """
    container = Container(path)

    def tensor(name: str) -> Tensor:
        if "bits" not in container.tensors[name]:
            return plain(container, name)
        quantized = QuantizedTensor(container, name)
        return quantized.dequantize() if dequantize else quantized

    return container.of_each(tensor)
