"""The outer parts of .otq files, in the order of formats/otq.md; rules are named as there."""
from __future__ import annotations

import mmap
import os
import stat
import struct
import zlib
from typing import Any, List, NamedTuple, NoReturn, Optional, Union

import numpy as np

from ._codes import Bytes, Entry, up
from ._frame import FrameFault, frame_content
from ._json import strict_json
from ._refusal import Refusal

Path = Union[str, "os.PathLike[str]"]
MAGIC = b"\x89OTQ\r\n\x1a\n"
HEADER_SIZE = 128
ALIGNMENT = 64


class Extent(NamedTuple):
    """An entry of the extent table."""
    offset: int
    stored: int
    decoded: int
    codec: int
    crc: int


def is_possible(extent: Extent) -> bool:
    """True when so many stored bytes can decode to so many."""
    return extent.decoded == extent.stored if extent.codec == 0 else extent.decoded >> 15 <= extent.stored


def is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


class File:
    """An open file: its header, extents and metadata, all checked but the data of its extents."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Maps and checks the file at `path`.

        writable: arrays in the mapping can be written to; the file never changes.
        Raises `Refusal` with rule ``otq-…``, ``json-…`` or ``file-…``.
        """
        self.path = os.fspath(path)
        if self.path.endswith(".partial"):
            self.refuse("otq-partial", "is the unfinished output of an interrupted run",
                        remedy="convert again, then remove this file")
        self.data: Bytes = self._map(writable)
        self._read_header()
        self._read_table()
        self.metadata = self._read_metadata()

    def refuse(self, rule: str, message: str, *, offset: Optional[int] = None, tensor: Optional[str] = None,
               remedy: Optional[str] = None) -> NoReturn:
        raise Refusal(rule, message, file=self.path, offset=offset, tensor=tensor, remedy=remedy)

    def _map(self, writable: bool) -> Bytes:
        try:
            # Opening a pipe must not wait for a writer.
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError as error:
            self.refuse("file-missing", f"cannot be opened: {error.strerror}")
        except OSError as error:
            self.refuse("file-unreadable", f"cannot be opened: {error.strerror}")
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                self.refuse("file-not-regular", "is a directory, device, pipe or socket, not a file")
            if status.st_size == 0:
                return np.empty(0, np.uint8)
            access = mmap.ACCESS_COPY if writable else mmap.ACCESS_READ
            try:
                return np.frombuffer(mmap.mmap(descriptor, 0, access=access), np.uint8)
            except (OSError, ValueError) as error:
                self.refuse("file-unmappable", f"cannot be mapped: {error}")
        finally:
            os.close(descriptor)

    # Section "Header"
    def _read_header(self) -> None:
        header = self.data[:HEADER_SIZE].tobytes()
        if header[:8] != MAGIC:
            self.refuse("otq-magic", "is not an .otq file", offset=0)
        if len(header) < HEADER_SIZE:
            self.refuse("otq-truncated", "ends inside the header", offset=len(header))
        major, _, size, required, _ = struct.unpack_from("<HHIQQ", header, 8)
        # Before the checksum: a newer header may be laid out otherwise.
        if major != 1:
            self.refuse("otq-version", f"has format version {major}, this program reads 1", offset=8,
                        remedy="use the version of otq that wrote it, or a newer one")
        if zlib.crc32(header[:124]) != struct.unpack_from("<I", header, 124)[0]:
            self.refuse("otq-header-checksum", "the header is damaged", offset=0)
        if size != HEADER_SIZE or any(header[92:124]):
            self.refuse("otq-header", "reserved bytes of the header are not zero", offset=12)
        if required:
            self.refuse("otq-required-feature", f"needs features {required:#x} that this program lacks", offset=16,
                        remedy="use a newer version of otq")

        def count(offset: int) -> int:
            value: int = struct.unpack_from("<Q", header, offset)[0]
            if value >= 1 << 63:
                self.refuse("otq-header", "a size of the header does not fit", offset=offset)
            return value

        if count(32) != len(self.data):
            self.refuse("otq-truncated", f"has {len(self.data)} bytes, the header says {count(32)}", offset=32,
                        remedy="copy or convert the file again")
        offset, stored, decoded = count(40), count(48), count(56)
        codec, crc = struct.unpack_from("<II", header, 64)
        if codec > 1:
            self.refuse("otq-codec", "metadata has an unknown codec", offset=64)
        self._metadata_extent = Extent(offset, stored, decoded, codec, crc)
        self._table = count(72), count(80), struct.unpack_from("<I", header, 88)[0]

    # Section "Extent table"
    def _read_table(self) -> None:
        start, length, crc = self._table
        if length % 32 or length // 32 > 1 << 26 or start < HEADER_SIZE or start + length != len(self.data):
            self.refuse("otq-table", "the extent table is not the end of the file", offset=72)
        table = self.data[start:]
        if zlib.crc32(table) != crc:
            self.refuse("otq-table-checksum", "the extent table is damaged", offset=start)
        self.extents: List[Extent] = []
        end = HEADER_SIZE
        for entry in struct.iter_unpack("<QQQII", table):
            extent, place = Extent(*entry), start + 32 * len(self.extents)
            number = f"extent {len(self.extents)}"
            if extent.codec > 1:
                self.refuse("otq-codec", f"{number} has an unknown codec", offset=place + 24)
            if (extent.offset != up(end, ALIGNMENT) or extent.stored == 0 or extent.offset + extent.stored > start
                    or not 1 <= extent.decoded <= 1 << 26 or not is_possible(extent)):
                self.refuse("otq-extent", f"{number} overlaps, leaves a gap or has a wrong size", offset=place)
            self._check_padding(end, extent.offset)
            self.extents.append(extent)
            end = extent.offset + extent.stored
        metadata = self._metadata_extent
        metadata_end = metadata.offset + metadata.stored
        if metadata.offset != up(end, ALIGNMENT) or metadata_end > start or up(metadata_end, ALIGNMENT) != start:
            self.refuse("otq-table", "metadata does not lie between the extents and the table", offset=40)
        self._check_padding(end, metadata.offset)
        self._check_padding(metadata_end, start)

    def _check_padding(self, start: int, end: int) -> None:
        # Most extents have none.
        if start != end and self.data[start:end].any():
            offset = start + int(self.data[start:end].argmax())
            self.refuse("otq-padding", "padding is not zero", offset=offset)

    # Section "Extents"
    def _stored(self, extent: Extent, name: str) -> Bytes:
        """The bytes of an extent in the mapped file, once their checksum is right."""
        stored = self.data[extent.offset:extent.offset + extent.stored]
        if zlib.crc32(stored) != extent.crc:
            self.refuse("otq-checksum", f"{name} is damaged: its checksum differs", offset=extent.offset,
                        remedy="copy or convert the file again")
        return stored

    def _decode(self, extent: Extent, name: str) -> Bytes:
        stored = self._stored(extent, name)
        if extent.codec == 0:
            return stored
        try:
            return frame_content(stored, extent.decoded)
        except FrameFault as fault:
            self.refuse(fault.rule, fault.message, offset=extent.offset)
        except ImportError as error:
            raise ImportError(f"{self.path} is compressed: {error}") from None

    def read(self, run: range, name: str) -> Bytes:
        """The content of a run: in the mapping where it lies there in one piece, else a copy."""
        parts = [self._decode(self.extents[i], name) for i in run]
        if not parts:
            return np.empty(0, np.uint8)
        extents = self.extents[run.start:run.stop]
        raw = all(extent.codec == 0 for extent in extents)
        if raw and all(a.offset + a.stored == b.offset for a, b in zip(extents, extents[1:])):
            return self.data[extents[0].offset:extents[-1].offset + extents[-1].stored]
        return np.concatenate(parts)

    # Section "Metadata"
    def _read_metadata(self) -> Entry:
        extent = self._metadata_extent
        if extent.stored == 0 or extent.decoded > 1 << 28 or not is_possible(extent):
            self.refuse("otq-metadata", "metadata has a wrong size", offset=48)
        try:
            value = strict_json(self._decode(extent, "metadata").tobytes())
        except Refusal as refusal:
            refusal.file = self.path
            raise
        if type(value) is not dict or type(value.get("tensors")) is not list:
            self.refuse("otq-metadata", "metadata has no list of tensors")
        return value

    def _run(self, pair: Any) -> Optional[range]:
        """The extents that ``[first, count]`` means; None when they do not exist."""
        if type(pair) is not list or len(pair) != 2 or not all(map(is_count, pair)):
            return None
        return range(pair[0], sum(pair)) if sum(pair) <= len(self.extents) else None

    def _decoded_size(self, run: range) -> int:
        return sum(self.extents[i].decoded for i in run)
