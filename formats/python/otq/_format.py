"""Reader of .otq files, in the order of formats/otq.md; rules are named as there."""
from __future__ import annotations

import math
import mmap
import os
import re
import stat
import struct
import unicodedata
import zlib
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, Optional

import numpy as np
from numpy.typing import NDArray

from ._json import strict_json
from ._refusal import Refusal, is_control

try:
    import zstandard
except ImportError:  # Files written with --compression none need it not.
    zstandard = None  # type: ignore[assignment]

MAGIC = b"\x89OTQ\r\n\x1a\n"
HEADER_SIZE = 128
ALIGNMENT = 64
#: Element types and the types of numpy that hold their bits.
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U64": "<u8",
         "I32": "<i4", "U32": "<u4", "I16": "<i2", "U16": "<u2", "I8": "i1", "U8": "u1",
         "BOOL": "?", "C64": "<c8", "F8_E5M2": "u1", "F8_E4M3": "u1", "F8_E8M0": "u1",
         "F8_E4M3FNUZ": "u1", "F8_E5M2FNUZ": "u1"}
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, **{n: np.dtype(d).itemsize * 8 for n, d in NUMPY.items()}}
FLOATS = {"F64", "F32", "F16", "BF16"}

Entry = Dict[str, Any]
Bytes = NDArray[np.uint8]


class Extent(NamedTuple):
    """An entry of the extent table."""
    offset: int
    stored: int
    decoded: int
    codec: int
    crc: int


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


def is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def is_shape(value: Any) -> bool:
    return (type(value) is list and len(value) <= 8 and all(map(is_count, value))
            and math.prod(d or 1 for d in value) < 1 << 63)


def name_fault(name: Any) -> Optional[str]:
    if type(name) is not str or not name:
        return "is empty"
    if len(name.encode()) > 4096:
        return "is longer than 4096 bytes"
    return "contains a control character" if any(map(is_control, name)) else None


class Container:
    """An open file; all but the data of its extents has been checked."""

    def __init__(self, path: "str | os.PathLike[str]", *, writable: bool = False) -> None:
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
        self._read_index()

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
        fault = frame_fault(stored, extent.decoded)
        if fault:
            self.refuse("otq-frame", fault, offset=extent.offset)
        if zstandard is None:
            raise ImportError(f"{self.path} is compressed: reading it needs the package zstandard "
                              "(or convert it with --compression none)")
        try:
            content = zstandard.ZstdDecompressor().decompress(memoryview(stored), max_output_size=extent.decoded)
        except zstandard.ZstdError as error:
            self.refuse("otq-frame-data", f"a zstd frame is damaged: {error}", offset=extent.offset)
        if len(content) != extent.decoded:
            self.refuse("otq-frame-data", f"a zstd frame holds {len(content)} bytes instead of {extent.decoded}",
                        offset=extent.offset)
        return np.frombuffer(content, np.uint8)

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

    # Section "Tensor index"
    def _read_index(self) -> None:
        self.tensors: Dict[str, Entry] = {}
        self.planes: Dict[str, Dict[str, range]] = {}
        names = set()
        checked = [self._check_tensor(entry) for entry in self.metadata["tensors"]]
        for entry, planes in zip(self.metadata["tensors"], checked):
            normalized = unicodedata.normalize("NFC", entry["name"])
            if normalized in names:
                self.refuse("otq-duplicate-name", "two tensors have this name, or look as if they had",
                            tensor=entry["name"])
            names.add(normalized)
            self.tensors[entry["name"]] = entry
            self.planes[entry["name"]] = planes
        for name, entry in self.tensors.items():
            if "alias" in entry:
                target = self.tensors.get(entry["alias"])
                if target is None or "alias" in target or target["shape"] != entry["shape"]:
                    self.refuse("otq-alias", f"stands for '{entry['alias']}', which is missing, an alias or of "
                                "another shape", tensor=name)
        self._read_attachments()
        self._check_use()
        for name, entry in self.tensors.items():
            if "source" in entry:
                # A quantized tensor stands for floats.
                own, source = self.entry(name).get("dtype", "F32"), entry["source"]["dtype"]
                if own != source and not {own, source} <= FLOATS:
                    self.refuse("otq-source", f"cannot have been made of elements {source}", tensor=name)

    def _read_attachments(self) -> None:
        self.attachments: Dict[str, range] = {}
        names = set()
        entries = self.metadata.get("attachments")
        if type(entries) is not list:
            self.refuse("otq-attachment", "metadata has no list of attachments")
        for entry in entries:
            entry = entry if type(entry) is dict else {}
            name: Any = entry.get("name")
            fault = name_fault(name)
            if fault:
                self.refuse("otq-attachment", f"an attachment's name {fault}")
            # A program that extracts attachments makes paths below a folder of these names.
            if {"", ".", ".."} & set(name.split("/")) or "\\" in name:
                self.refuse("otq-attachment", f"attachment '{name}' is not a plain relative path")
            normalized = unicodedata.normalize("NFC", name)
            if normalized in names:
                self.refuse("otq-attachment", f"two attachments are named '{name}'")
            names.add(normalized)
            run = self._run(entry.get("extents"))
            if run is None:
                self.refuse("otq-attachment", f"attachment '{name}' names extents that do not exist")
            count = entry.get("byteCount")
            if not is_count(count) or count != self._decoded_size(run):
                self.refuse("otq-attachment", f"attachment '{name}' has another size than its extents")
            self.attachments[name] = run

    def _check_use(self) -> None:
        """Every extent belongs to one plane or attachment, and only one."""
        runs = [run for planes in self.planes.values() for run in planes.values()] + list(self.attachments.values())
        end = 0
        for run in sorted((run for run in runs if run), key=lambda run: run.start):
            if run.start != end:
                index, fault = (run.start, "twice") if run.start < end else (end, "by nothing")
                self.refuse("otq-extent-use", f"extent {index} is used {fault}", offset=self.extents[index].offset)
            end = run.stop
        if end != len(self.extents):
            self.refuse("otq-extent-use", f"extent {end} is used by nothing", offset=self.extents[end].offset)

    def _check_tensor(self, entry: Any) -> Dict[str, range]:
        """Checks an entry against the table; returns the runs of its planes."""
        entry = entry if type(entry) is dict else {}
        name, shape, source, error = (entry.get(key) for key in ("name", "shape", "source", "error"))

        def refuse(message: str, rule: str = "otq-tensor") -> NoReturn:
            self.refuse(rule, message, tensor=name if type(name) is str else "")

        fault = name_fault(name)
        if fault:
            refuse(f"a tensor's name {fault}")
        if sum(key in entry for key in ("alias", "dtype", "bits")) != 1:
            refuse("is not one of alias, plain and quantized")
        if not is_shape(shape):
            refuse("has no valid shape")
        if "source" in entry:
            if type(source) is not dict or type(source.get("name")) is not str or not is_type(source.get("dtype")):
                refuse("has no valid source")
            if "shape" in source and not is_shape(source["shape"]):
                refuse("has a source without a valid shape")
        rounding = entry.get("rounding", "nearest")
        if type(rounding) is not str or not re.fullmatch("[a-z0-9-]{1,32}", rounding, re.ASCII):
            refuse("has no valid rounding")
        if "error" in entry and (type(error) is not dict or type(error.get("maximumInSteps")) not in (int, float)):
            refuse("has no valid error")
        members = entry.get("planes", {})
        if type(members) is not dict:
            refuse("has planes that are no object", "otq-plane")
        planes = {}
        for plane, pair in members.items():
            run = self._run(pair)
            if run is None:
                refuse(f"plane '{plane}' names extents that do not exist", "otq-plane")
            planes[plane] = run
        if "alias" in entry:
            if type(entry["alias"]) is not str:
                refuse("is an alias of no name")
            if planes:
                refuse("an alias has planes")
        elif "dtype" in entry:
            if not is_type(entry["dtype"]):
                refuse("has no known element type")
            bits = math.prod(shape) * BITS[entry["dtype"]]
            if bits % 8 or bits >= 1 << 63:
                refuse("has elements that are not whole bytes")
            self._check_planes(planes, {"values": bits // 8}, refuse)
        else:
            self._check_quantized(entry, planes, refuse)
        return planes

    def _check_planes(self, planes: Dict[str, range], expected: Dict[str, int], refuse: Callable[..., Any]) -> None:
        if planes.keys() != expected.keys():
            refuse(f"has planes {sorted(planes)}, not {sorted(expected)}", "otq-plane")
        for plane, run in planes.items():
            size = self._decoded_size(run)
            if size != expected[plane]:
                refuse(f"plane '{plane}' holds {size} bytes, its shape needs {expected[plane]}", "otq-plane")

    def _check_quantized(self, entry: Entry, planes: Dict[str, range], refuse: Callable[..., Any]) -> None:
        shape, bits, granularity = entry["shape"], entry["bits"], entry.get("granularity")
        chunk: Any = entry.get("rowTilesPerChunk")
        size: Any = entry.get("groupSize")
        if granularity == "group":
            if not (is_count(size) and 16 <= size <= 65536 and size % 16 == 0):
                refuse("has no valid granularity", "otq-scheme")
        elif granularity not in ("tensor", "channel") or "groupSize" in entry:
            refuse("has no valid granularity", "otq-scheme")
        if not (is_count(bits) and 2 <= bits <= 8 and type(entry.get("symmetric")) is bool
                and entry.get("form") in ("bytes", "packed") and is_count(chunk) and 1 <= chunk <= 1 << 31):
            refuse("has no valid scheme: bits 2 to 8, symmetric, form, rowTilesPerChunk", "otq-scheme")
        if len(shape) != 2 or max(shape) >= 1 << 31:
            refuse("is quantized but no matrix", "otq-scheme")
        layout = Layout.of(entry)
        scales = 1 if granularity == "tensor" else shape[0] * layout.groups
        expected = {"codes": layout.row_tiles * layout.tile_size, "scales": 4 * scales}
        self._check_planes(planes, expected if entry["symmetric"] else {**expected, "zeroPoints": scales}, refuse)
        for number, index in enumerate(planes["codes"]):
            tiles = min(chunk, max(layout.row_tiles - number * chunk, 0))
            extent = self.extents[index]
            if extent.decoded != tiles * layout.tile_size or (entry["form"] == "packed" and extent.codec):
                refuse(f"chunk {number} of the codes has a wrong length", "otq-plane")

    def target(self, name: str) -> str:
        """The name of the tensor that `name` stands for, itself where it is no alias."""
        entry = self.tensors[name]
        return entry["alias"] if "alias" in entry else name

    def entry(self, name: str) -> Entry:
        """The entry of a tensor, an alias followed."""
        return self.tensors[self.target(name)]

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


def is_type(value: Any) -> bool:
    return type(value) is str and value in BITS


def is_possible(extent: Extent) -> bool:
    """True when so many stored bytes can decode to so many."""
    return extent.decoded == extent.stored if extent.codec == 0 else extent.decoded >> 15 <= extent.stored


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
