"""Compressed extents of .otq files: one zstd frame each (formats/otq.md, "Extents")."""
from __future__ import annotations

from typing import Optional

import numpy as np
from numpy.typing import NDArray

try:
    import zstandard
except ImportError:  # Files written with --compression none need it not.
    zstandard = None  # type: ignore[assignment]

Bytes = NDArray[np.uint8]


class FrameFault(Exception):
    """A frame is not as its extent says, or damaged."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule, self.message = rule, message


def frame_content(frame: Bytes, decoded: int) -> Bytes:
    """The `decoded` bytes of a frame.

    Raises `FrameFault`, and `ImportError` without the package zstandard.
    """
    fault = frame_fault(frame, decoded)
    if fault:
        raise FrameFault("otq-frame", fault)
    if zstandard is None:
        raise ImportError("reading it needs the package zstandard (or convert it with --compression none)")
    try:
        content = zstandard.ZstdDecompressor().decompress(memoryview(frame), max_output_size=decoded)
    except zstandard.ZstdError as error:
        raise FrameFault("otq-frame-data", f"a zstd frame is damaged: {error}") from None
    if len(content) != decoded:
        raise FrameFault("otq-frame-data", f"a zstd frame holds {len(content)} bytes instead of {decoded}")
    return np.frombuffer(content, np.uint8)


def frame_fault(frame: Bytes, decoded: int) -> Optional[str]:
    """What keeps an extent from being one zstd frame that holds `decoded` bytes (RFC 8878, 3.1.1); None: nothing."""
    if len(frame) < 9 or frame[:4].tobytes() != b"\x28\xb5\x2f\xfd":
        return "is not a zstd frame"
    descriptor = int(frame[4])
    if descriptor & 0x08:
        return "a reserved bit of a zstd frame is set"
    if descriptor & 0x03:
        return "a zstd frame needs a dictionary"
    if not descriptor & 0x04:
        return "a zstd frame has no checksum"
    # A frame of a single segment has its content for a window.
    is_single = bool(descriptor & 0x20)
    unit = 1 << 10 + (int(frame[5]) >> 3)
    window = decoded if is_single else unit + unit // 8 * (int(frame[5]) & 7)
    if window > 1 << 23:
        return f"a zstd frame asks for a window of {window} bytes"
    flag = descriptor >> 6
    width = (1 if is_single else 0, 2, 4, 8)[flag]
    position = 5 if is_single else 6
    size = int.from_bytes(frame[position:position + width].tobytes(), "little") + (256 if flag == 1 else 0)
    if width == 0 or size != decoded:
        return f"a zstd frame does not declare the {decoded} bytes that the table does"
    position += width
    is_last = False
    while not is_last:
        header = int.from_bytes(frame[position:position + 3].tobytes(), "little")
        is_last, kind = bool(header & 1), header >> 1 & 3
        if position + 3 > len(frame) or kind == 3:
            return "the blocks of a zstd frame are damaged"
        position += 3 + (1 if kind == 1 else header >> 3)
    # Bytes after the frame would be a second frame.
    return None if position + 4 == len(frame) else "a zstd frame does not end where its extent does"
