#!/usr/bin/env python3
"""Reference reader of .otq files, in the order of formats/otq.md. Needs numpy and zstandard.

    otq.py FILE                                    list the tensors
    otq.py FILE --verify                           read and check everything
    otq.py FILE --dequantize OUT.npz|.safetensors  write the tensors, dequantized
"""
import argparse
import json
import math
import mmap
import re
import struct
import unicodedata
import zlib
from typing import NamedTuple

import numpy as np
import zstandard

MAGIC = b"\x89OTQ\r\n\x1a\n"
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U64": "<u8",
         "I32": "<i4", "U32": "<u4", "I16": "<i2", "U16": "<u2", "I8": "i1", "U8": "u1",
         "BOOL": "?", "C64": "<c8"}
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8} | {n: np.dtype(d).itemsize * 8 for n, d in NUMPY.items()}
FLOATS = {"F64", "F32", "F16", "BF16"}


class OtqError(ValueError):
    """The file breaks a rule of formats/otq.md."""


def require(condition, message):
    if not condition:
        raise OtqError(message)


class Extent(NamedTuple):
    offset: int
    stored: int
    decoded: int
    codec: int
    crc: int


def is_count(value):
    return type(value) is int and value >= 0


def is_shape(value):
    return (type(value) is list and len(value) <= 8 and all(map(is_count, value))
            and math.prod(d or 1 for d in value) < 1 << 63)


def strict_json(data):
    def members(pairs):
        require(len({k for k, _ in pairs}) == len(pairs), "metadata: duplicate member")
        return dict(pairs)

    def constant(word):
        raise OtqError(f"metadata: {word}")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=members, parse_constant=constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates
    except (ValueError, RecursionError) as error:
        raise OtqError(f"metadata: {error}") from error
    require(type(value) is dict, "metadata: no object")
    return value


def check_name(name):
    require(type(name) is str and 0 < len(name.encode()) <= 4096, "name: empty or too long")
    require(not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name), "name: control character")


class Otq:
    """An open file; all but the data of its extents has been checked.

    `metadata` is the whole object, `tensors` maps names to their entries in it.
    """

    def __init__(self, data):
        self.data = memoryview(data)
        require(len(data) >= 128, "header: file too short")
        self._read_header()
        self._read_table()
        self.metadata = strict_json(self._decode(Extent(*self.metadata_place)))
        self._read_index()

    # Section "Header"
    def _read_header(self):
        header = bytes(self.data[:128])
        require(header[:8] == MAGIC, "header: not an .otq file")
        major, self.minor, size, required, _, length = struct.unpack_from("<HHIQQQ", header, 8)
        require(major == 1, f"header: version {major}, this reader reads 1")
        require(zlib.crc32(header[:124]) == struct.unpack_from("<I", header, 124)[0], "header: CRC")
        require(size == 128 and not any(header[92:124]), "header: size or reserved bytes")
        require(required == 0, f"header: unknown required features {required:#x}")
        require(length == len(self.data), f"header: {length} bytes expected, {len(self.data)} found")
        self.metadata_place = struct.unpack_from("<QQQII", header, 40)
        self.table_place = struct.unpack_from("<QQI", header, 72)
        require(self.metadata_place[2] <= 1 << 28, "metadata: too long")

    # Section "Extent table"
    def _read_table(self):
        start, length, crc = self.table_place
        require(length % 32 == 0 and length // 32 <= 1 << 26, "table: length")
        require(start >= 128 and start + length == len(self.data), "table: not the end of the file")
        require(zlib.crc32(self.data[start:]) == crc, "table: CRC")
        self.extents, end = [], 128
        for entry in struct.iter_unpack("<QQQII", self.data[start:]):
            extent = Extent(*entry)
            require(extent.decoded <= 1 << 26, "extent: too long")
            end = self._place(extent, end)
            self.extents.append(extent)
        end = self._place(Extent(*self.metadata_place), end)
        require(-(-end // 64) * 64 == start and not any(self.data[end:start]), "table: place or padding")

    def _place(self, extent, end):
        start = -(-end // 64) * 64
        require(extent.offset == start and extent.stored > 0, "extent: overlap, gap or empty")
        require(extent.offset + extent.stored <= self.table_place[0], "extent: past the table")
        require(not any(self.data[end:start]), "padding: not zero")
        require(extent.codec in (0, 1), "extent: codec")
        require(extent.decoded > 0 and (extent.decoded == extent.stored if extent.codec == 0
                else extent.decoded // (1 << 15) <= extent.stored), "extent: impossible size")
        return extent.offset + extent.stored

    # Section "Extents"
    def _decode(self, extent):
        stored = self.data[extent.offset:extent.offset + extent.stored]
        require(zlib.crc32(stored) == extent.crc, f"extent at {extent.offset}: CRC")
        if extent.codec == 0:
            return bytes(stored)
        try:
            frame = zstandard.get_frame_parameters(stored)
            require(bytes(stored[:4]) == b"\x28\xb5\x2f\xfd", "frame: magic")
            require(stored[4] & 0x0B == 0 and frame.has_checksum, "frame: header")
            require(frame.content_size == extent.decoded, "frame: size")
            require(frame.window_size <= 1 << 23, "frame: window")
            result = zstandard.ZstdDecompressor().decompress(
                stored, max_output_size=extent.decoded, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise OtqError(f"extent at {extent.offset}: {error}") from error
        require(len(result) == extent.decoded, "frame: size")
        return result

    def _run(self, pair):
        require(type(pair) is list and len(pair) == 2 and all(map(is_count, pair)), "run: form")
        require(sum(pair) <= len(self.extents), "run: extents that do not exist")
        return range(pair[0], sum(pair))

    def _bytes(self, run):
        return b"".join(self._decode(self.extents[i]) for i in run)

    def _decoded_size(self, run):
        return sum(self.extents[i].decoded for i in run)

    # Section "Tensor index"
    def _read_index(self):
        self.tensors, self.attachments, names, runs = {}, {}, set(), []
        for key in ("tensors", "attachments"):
            require(type(self.metadata.get(key)) is list, f"metadata: no {key}")
            require(all(type(entry) is dict for entry in self.metadata[key]), f"{key}: no object")
        for entry in self.metadata["tensors"]:
            runs += self._check_tensor(entry)
            normalized = unicodedata.normalize("NFC", entry["name"])
            require(normalized not in names, f"{entry['name']}: duplicate name")
            names.add(normalized)
            self.tensors[entry["name"]] = entry
        for name, entry in self.tensors.items():
            if "alias" in entry:
                target = self.tensors.get(entry["alias"]) if type(entry["alias"]) is str else None
                require(target and "alias" not in target and target["shape"] == entry["shape"], f"{name}: alias")
        for name, entry in self.tensors.items():
            if "source" in entry:
                own, source = self.resolve(name).get("dtype", "F32"), entry["source"]["dtype"]
                require(own == source or {own, source} <= FLOATS, f"{name}: source")
        for entry in self.metadata["attachments"]:
            name, run = entry.get("name"), self._run(entry.get("extents"))
            check_name(name)
            require(not {"", ".", ".."} & set(name.split("/")) and "\\" not in name, "attachment: name")
            require(name not in self.attachments, "attachment: duplicate name")
            require(entry.get("byteCount") == self._decoded_size(run), "attachment: size")
            self.attachments[name] = run
        used = sorted(i for run in runs + list(self.attachments.values()) for i in run)
        require(used == list(range(len(self.extents))), "extents: not each used once")

    def _check_tensor(self, entry):
        """Checks an entry against the table; returns its runs."""
        name, shape, source, error = (entry.get(key) for key in ("name", "shape", "source", "error"))
        check_name(name)
        require(is_shape(shape), f"{name}: shape")
        require("source" not in entry or (type(source) is dict and type(source.get("name")) is str
                and source.get("dtype") in BITS
                and ("shape" not in source or is_shape(source["shape"]))), f"{name}: source")
        require("rounding" not in entry or (type(entry["rounding"]) is str
                and re.fullmatch("[a-z0-9-]{1,32}", entry["rounding"], re.A)), f"{name}: rounding")
        require("error" not in entry or (type(error) is dict and type(error.get("maximumInSteps"))
                in (int, float)), f"{name}: error")
        require(sum(key in entry for key in ("alias", "dtype", "bits")) == 1, f"{name}: kind")
        planes = entry.get("planes", {})
        require(type(planes) is dict, f"{name}: planes")
        runs = {plane: self._run(run) for plane, run in planes.items()}
        expected = {}
        if "dtype" in entry:
            require(entry["dtype"] in BITS, f"{name}: dtype")
            bits = math.prod(shape) * BITS[entry["dtype"]]
            require(bits % 8 == 0, f"{name}: not whole bytes")
            expected = {"values": bits // 8}
        elif "bits" in entry:
            expected = self._expected_planes(entry)
        sizes = {plane: self._decoded_size(run) for plane, run in runs.items()}
        require(sizes == expected, f"{name}: planes {sizes}, expected {expected}")
        if "bits" in entry:
            _, tiles, tile_size, _ = layout(entry)
            per_chunk = entry["rowTilesPerChunk"]
            for number, index in enumerate(runs["codes"]):
                rest = min(per_chunk, tiles - number * per_chunk)
                require(self.extents[index].decoded == rest * tile_size, f"{name}: chunk {number}")
                require(entry["form"] == "bytes" or self.extents[index].codec == 0, f"{name}: codec")
        return list(runs.values())

    def _expected_planes(self, entry):
        name, shape = entry["name"], entry["shape"]
        require(len(shape) == 2 and max(shape) < 1 << 31, f"{name}: no matrix")
        require(is_count(entry["bits"]) and 2 <= entry["bits"] <= 8, f"{name}: bits")
        require(type(entry.get("symmetric")) is bool, f"{name}: symmetric")
        require(entry.get("form") in ("bytes", "packed"), f"{name}: form")
        chunk, granularity, size = (entry.get(key) for key in ("rowTilesPerChunk", "granularity", "groupSize"))
        require(is_count(chunk) and 1 <= chunk <= 1 << 31, f"{name}: rowTilesPerChunk")
        if granularity == "group":
            require(is_count(size) and 16 <= size <= 65536 and size % 16 == 0, f"{name}: group")
        else:
            require(granularity in ("tensor", "channel") and "groupSize" not in entry, f"{name}: granularity")
        _, tiles, tile_size, groups = layout(entry)
        scales = 1 if granularity == "tensor" else shape[0] * groups
        expected = {"codes": tiles * tile_size, "scales": 4 * scales}
        return expected if entry["symmetric"] else expected | {"zeroPoints": scales}

    def resolve(self, name):
        """The entry of a tensor, an alias followed."""
        entry = self.tensors[name]
        return self.tensors[entry["alias"]] if "alias" in entry else entry

    def _plane(self, entry, plane):
        return self._bytes(self._run(entry["planes"][plane]))

    # Section "Codes"
    def codes(self, name):
        """Codes of a quantized tensor, uint8 [rows, columns]."""
        entry = self.resolve(name)
        (rows, columns), bits = entry["shape"], entry["bits"]
        padded, tiles, _, _ = layout(entry)
        codes = np.frombuffer(self._plane(entry, "codes"), np.uint8)
        if entry["form"] == "packed" and bits <= 4:
            v = codes.reshape(-1, 64)
            codes = np.stack([v & 15, v >> 4], axis=1)
        elif entry["form"] == "packed" and bits <= 6:
            v = codes.reshape(-1, 3, 64)
            last = v[:, 0] >> 6 | v[:, 1] >> 6 << 2 | v[:, 2] >> 6 << 4
            codes = np.concatenate([v & 63, last[:, None]], axis=1)
        # [row tile, group of 4 columns, row in tile, column in group] -> [row, column]
        codes = codes.reshape(tiles, padded // 4, 16, 4).transpose(0, 2, 1, 3).reshape(tiles * 16, padded)
        require(not codes[rows:].any() and not codes[:, columns:].any(), f"{name}: padding codes")
        codes = codes[:rows, :columns]
        least = 1 if entry["symmetric"] else 0
        require(codes.size == 0 or (codes.min() >= least and codes.max() < 1 << bits), f"{name}: code")
        return codes

    def scales(self, name):
        scales = np.frombuffer(self._plane(self.resolve(name), "scales"), "<f4")
        require(bool((np.isfinite(scales) & (scales > 0)).all()), f"{name}: scale")
        return scales

    def zero_points(self, name):
        entry = self.resolve(name)
        if entry["symmetric"]:
            return np.full(self.scales(name).shape, 1 << entry["bits"] - 1, np.uint8)
        points = np.frombuffer(self._plane(entry, "zeroPoints"), np.uint8)
        require(bool((points < 1 << entry["bits"]).all()), f"{name}: zero point")
        return points

    def dequantize(self, name):
        """scale * (u - zeroPoint) in float32, or the elements of a plain tensor (BF16 as its 16 bits)."""
        entry = self.resolve(name)
        if "dtype" in entry:
            data, dtype = self._plane(entry, "values"), NUMPY.get(entry["dtype"])
            # Types that numpy lacks come as their bytes, without a shape.
            return np.frombuffer(data, dtype).reshape(entry["shape"]) if dtype else np.frombuffer(data, np.uint8)
        rows, columns = entry["shape"]
        groups = layout(entry)[3]
        group = np.arange(columns) // (entry.get("groupSize") or max(columns, 1))
        stored = (1, 1) if entry["granularity"] == "tensor" else (rows, groups)
        scales, points = (np.broadcast_to(a.reshape(stored), (rows, groups))[:, group]
                          for a in (self.scales(name), self.zero_points(name).astype(np.int16)))
        return scales * (self.codes(name).astype(np.int16) - points).astype(np.float32)

    def attachment(self, name):
        """An attached file, byte for byte."""
        return self._bytes(self.attachments[name])

    def verify(self):
        """Reads and checks everything."""
        for name in self.tensors:
            self.dequantize(name)
        for name in self.attachments:
            self.attachment(name)


def layout(entry):
    """Padded columns, row tiles, bytes of a row tile as stored, groups in a row."""
    (rows, columns), bits = entry["shape"], entry["bits"]
    padded = -(-columns // 64) * 64
    width = 8 if entry["form"] == "bytes" or bits > 6 else 6 if bits > 4 else 4
    groups = -(-columns // entry["groupSize"]) if entry["granularity"] == "group" else 1
    return padded, -(-rows // 16), 16 * padded * width // 8, groups


def read(path):
    """Opens a file and checks all but its data."""
    with open(path, "rb") as file:
        require(file.seek(0, 2) > 0, "header: file too short")
        return Otq(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def write_tensors(otq, path):
    arrays = {name: otq.dequantize(name) for name in otq.tensors}
    types = {name: otq.resolve(name).get("dtype", "F32") for name in arrays}
    if path.endswith(".npz"):
        np.savez(path, **arrays)
        return
    header, position = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": types[name], "shape": otq.tensors[name]["shape"],
                        "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.tobytes())


def list_tensors(otq):
    for name, entry in otq.tensors.items():
        stored = sum(otq.extents[i].stored for run in entry.get("planes", {}).values() for i in otq._run(run))
        kind = entry.get("dtype") or (f"alias of {entry['alias']}" if "alias" in entry else
               f"int{entry['bits']} per {entry['granularity']}, {'' if entry['symmetric'] else 'a'}symmetric")
        print(name, entry["shape"], kind, stored, sep="\t")


def main():
    parser = argparse.ArgumentParser(description="Reads .otq files.")
    parser.add_argument("file")
    parser.add_argument("--list", action="store_true", help="list the tensors (the default)")
    parser.add_argument("--verify", action="store_true", help="read and check everything")
    parser.add_argument("--dequantize", metavar="OUT", help="write .npz or .safetensors")
    options = parser.parse_args()
    try:
        otq = read(options.file)
        if options.verify:
            otq.verify()
        if options.dequantize:
            write_tensors(otq, options.dequantize)
        if options.list or not (options.verify or options.dequantize):
            list_tensors(otq)
    except OtqError as error:
        raise SystemExit(f"{options.file}: {error}")


if __name__ == "__main__":
    main()
