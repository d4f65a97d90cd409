"""What .otq files say about their tensors and attachments, checked (formats/otq.md, "Tensor index")."""
from __future__ import annotations

import math
import re
import unicodedata
from typing import Any, Callable, Dict, NoReturn, Optional

import numpy as np

from ._codes import Entry, Layout
from ._file import File, Path, is_count
from ._refusal import is_control

#: Element types and the types of numpy that hold their bits.
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U64": "<u8",
         "I32": "<i4", "U32": "<u4", "I16": "<i2", "U16": "<u2", "I8": "i1", "U8": "u1",
         "BOOL": "?", "C64": "<c8", "F8_E5M2": "u1", "F8_E4M3": "u1", "F8_E8M0": "u1",
         "F8_E4M3FNUZ": "u1", "F8_E5M2FNUZ": "u1"}
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, **{n: np.dtype(d).itemsize * 8 for n, d in NUMPY.items()}}
FLOATS = {"F64", "F32", "F16", "BF16"}


def is_shape(value: Any) -> bool:
    return (type(value) is list and len(value) <= 8 and all(map(is_count, value))
            and math.prod(d or 1 for d in value) < 1 << 63)


def name_fault(name: Any) -> Optional[str]:
    if type(name) is not str or not name:
        return "is empty"
    if len(name.encode()) > 4096:
        return "is longer than 4096 bytes"
    return "contains a control character" if any(map(is_control, name)) else None


def is_type(value: Any) -> bool:
    return type(value) is str and value in BITS


class Index(File):
    """A file whose tensors are known."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        super().__init__(path, writable=writable)
        self._read_index()

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
