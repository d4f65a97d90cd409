"""Where the codes of quantized tensors lie, and in what order (formats/otq.md, "Codes")."""
from __future__ import annotations

from typing import Any, Dict, NamedTuple

import numpy as np
from numpy.typing import NDArray

Entry = Dict[str, Any]
Bytes = NDArray[np.uint8]


class Layout(NamedTuple):
    """Where the codes of a quantized tensor lie."""
    padded_columns: int
    row_tiles: int
    #: Bytes of a row tile as stored.
    tile_size: int
    #: Groups in a row.
    groups: int

    @staticmethod
    def of(entry: Entry) -> "Layout":
        (rows, columns), bits = entry["shape"], entry["bits"]
        padded = up(columns, 64)
        width = 8 if entry["form"] == "bytes" or bits > 6 else 6 if bits > 4 else 4
        groups = -(-columns // entry["groupSize"]) if entry["granularity"] == "group" else 1
        return Layout(padded, -(-rows // 16), 16 * padded * width // 8, groups)


def up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def unpacked(codes: Bytes, entry: Entry, tiles: int, padded_columns: int) -> Bytes:
    """Stored row tiles as rows, padding with them: uint8 ``[16 tiles, padded columns]``."""
    if entry["form"] == "packed" and entry["bits"] <= 4:
        pairs = codes.reshape(-1, 64)
        codes = np.stack([pairs & 15, pairs >> 4], axis=1)
    elif entry["form"] == "packed" and entry["bits"] <= 6:
        v = codes.reshape(-1, 3, 64)
        last = v[:, 0] >> 6 | v[:, 1] >> 6 << 2 | v[:, 2] >> 6 << 4
        codes = np.concatenate([v & 63, last[:, None]], axis=1)
    # [row tile, group of 4 columns, row in tile, column in group] -> [row, column]
    return codes.reshape(tiles, padded_columns // 4, 16, 4).transpose(0, 2, 1, 3).reshape(tiles * 16, padded_columns)
