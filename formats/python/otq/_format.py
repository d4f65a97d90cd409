"""Reader of .otq files, as formats/otq.md says: the content of their tensors."""
from __future__ import annotations

import math
from typing import Any, Callable, Dict, Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._codes import Bytes, Layout, unpacked
from ._file import Path
from ._index import NUMPY, Index

__all__ = ["Container", "Path"]

Value = TypeVar("Value")


class Container(Index):
    """An open file; all but the data of its extents has been checked."""

    def of_each(self, make: Callable[[str], Value]) -> Dict[str, Value]:
        """What `make` gives for each tensor, by name; an alias has the same object as what it stands for."""
        made = {name: make(name) for name, entry in self.tensors.items() if "alias" not in entry}
        return {name: made[self.target(name)] for name in self.tensors}

    def plane(self, name: str, plane: str) -> Bytes:
        """The content of a plane, its checksums checked."""
        name = self.target(name)
        return self.read(self.planes[name][plane], f"tensor '{name}'")

    def values(self, name: str) -> NDArray[Any]:
        """The elements of a plain tensor as they are stored; of types with less than a byte, their bytes."""
        entry = self.entry(name)
        dtype = NUMPY.get(entry["dtype"])
        data = self.plane(name, "values")
        return data.view(dtype).reshape(entry["shape"]) if dtype else data

    def value_rows(self, name: str, rows: range) -> NDArray[Any]:
        """Some indices of a plain tensor's first dimension: of its extents, no more are read than needed."""
        name = self.target(name)
        entry = self.tensors[name]
        dtype = np.dtype(NUMPY[entry["dtype"]])
        row_size = math.prod(entry["shape"][1:]) * dtype.itemsize
        first, last = rows.start * row_size, rows.stop * row_size
        run = self.planes[name]["values"]
        start, begin, wanted = 0, None, []
        for index in run:
            end = start + self.extents[index].decoded
            if start < last and end > first:
                begin = start if begin is None else begin
                wanted.append(index)
            start = end
        if begin is None:
            return np.empty([len(rows), *entry["shape"][1:]], dtype)
        data = self.read(range(wanted[0], wanted[-1] + 1), f"tensor '{name}'")[first - begin:last - begin]
        return data.view(dtype).reshape([len(rows), *entry["shape"][1:]])

    # Section "Codes"
    def codes(self, name: str, tiles: Optional[range] = None) -> Bytes:
        """Codes of a quantized tensor, uint8 ``[rows, columns]``; of some row tiles alone, those rows."""
        name = self.target(name)
        entry, layout = self.tensors[name], Layout.of(self.tensors[name])
        rows, columns = entry["shape"]
        tiles = range(layout.row_tiles) if tiles is None else tiles
        count = min(tiles.stop * 16, rows) - min(tiles.start * 16, rows)
        result = np.empty((count, columns), np.uint8)
        # A matrix without columns has row tiles, but no extents.
        if not tiles or layout.tile_size == 0:
            return result
        chunk = entry["rowTilesPerChunk"]
        run = self.planes[name]["codes"]
        for number in range(tiles.start // chunk, (tiles.stop - 1) // chunk + 1):
            extent = self.extents[run[number]]
            stored = self._decode(extent, f"tensor '{name}'")
            first = max(tiles.start, number * chunk)
            last = min(tiles.stop, number * chunk + chunk, layout.row_tiles)
            start = (first - number * chunk) * layout.tile_size
            part = stored[start:start + (last - first) * layout.tile_size]
            part = unpacked(part, entry, last - first, layout.padded_columns)
            own = part[:rows - first * 16, :columns]
            # Padding codes are 0, and 0 is no code of a symmetric tensor.
            if (part[:, columns:].any() or part[len(own):].any() or own.max() >= 1 << entry["bits"]
                    or entry["symmetric"] and own.min() == 0):
                self.refuse("otq-code", f"row tiles {first} to {last - 1} hold a code that is not one of "
                            f"{entry['bits']} bits", tensor=name, offset=extent.offset)
            place = (first - tiles.start) * 16
            result[place:place + len(own)] = own
        return result

    def scales(self, name: str) -> NDArray[np.float32]:
        """Steps of a quantized tensor, one to a scale: positive and finite."""
        name = self.target(name)
        scales = self.plane(name, "scales").view("<f4")
        wrong = ~(np.isfinite(scales) & (scales > 0))
        if wrong.any():
            index = int(wrong.argmax())
            self.refuse("otq-scale", f"scale {index} is {scales[index]}", tensor=name)
        return scales

    def zero_points(self, name: str) -> Bytes:
        """Zero points of a quantized tensor, one to a scale."""
        name = self.target(name)
        entry = self.tensors[name]
        if entry["symmetric"]:
            return np.full(self._decoded_size(self.planes[name]["scales"]) // 4, 1 << entry["bits"] - 1, np.uint8)
        points = self.plane(name, "zeroPoints")
        wrong = points >= 1 << entry["bits"]
        if wrong.any():
            index = int(wrong.argmax())
            self.refuse("otq-zero-point", f"zero point {index} is {points[index]}", tensor=name)
        return points

    def attachment(self, name: str) -> bytes:
        """An attached file, byte for byte."""
        return self.read(self.attachments[name], name).tobytes()

    def verify(self) -> None:
        """Reads and checks everything, an extent of a tensor's data at a time.

        Raises `Refusal` for the first part that breaks a rule.
        """
        for name, entry in self.tensors.items():
            if "bits" not in entry:
                for run in self.planes[name].values():
                    for index in run:
                        self._decode(self.extents[index], f"tensor '{name}'")
                continue
            self.scales(name)
            self.zero_points(name)
            tiles, chunk = Layout.of(entry).row_tiles, entry["rowTilesPerChunk"]
            for number in range(len(self.planes[name]["codes"])):
                self.codes(name, range(number * chunk, min(number * chunk + chunk, tiles)))
        for name, run in self.attachments.items():
            for index in run:
                self._decode(self.extents[index], name)
