#!/usr/bin/env python3
"""Reference reader of .otq files: formats/otq.md in Python, section by section.

    python3 otq.py FILE                          list the tensors
    python3 otq.py FILE --dequantize OUT.npz     write every tensor as stored, quantized ones dequantized to float32

Needs numpy and zstandard. Bfloat16 comes back as its uint16 bits.
"""
import json
import struct
import sys
import zlib

import numpy as np
import zstandard

MAGIC = b"\x89OTQ\r\n\x1a\n"
HEADER = struct.Struct("<8sHHIQQQQQQIIQQI32xI")
ENTRY = struct.Struct("<QQQII")
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "BF16": "<u2", "I32": "<i4",
    "U32": "<u4", "F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8",
}


class OtqError(Exception):
    """The file breaks a rule of formats/otq.md."""


def check(condition, rule):
    if not condition:
        raise OtqError(rule)


def round_up(value, unit):
    return -(-value // unit) * unit


def unique(pairs):
    keys = [key for key, _ in pairs]
    check(len(keys) == len(set(keys)), "json-duplicate-key")
    return dict(pairs)


class Otq:
    """An open file; the header, the table and the metadata have been checked."""

    def __init__(self, data):
        self.data = data
        check(data[:8] == MAGIC, "otq-magic")
        check(len(data) >= 128, "otq-truncated")
        (_, major, _, header_size, required, _, size, meta_offset, meta_stored, meta_decoded, meta_codec, meta_crc,
         table_offset, table_size, table_crc, header_crc) = HEADER.unpack_from(data)
        check(major == 1, "otq-version")
        check(zlib.crc32(data[:124]) == header_crc, "otq-header-checksum")
        check(header_size == 128 and not any(data[92:124]), "otq-header")
        check(required == 0, "otq-required-feature")
        check(size == len(data), "otq-truncated")
        # Extent table: the end of the file.
        check(table_size % 32 == 0 and table_offset + table_size == size, "otq-table")
        check(zlib.crc32(data[table_offset:]) == table_crc, "otq-table-checksum")
        self.extents, end = [], 128
        for offset, stored, decoded, codec, crc in ENTRY.iter_unpack(data[table_offset:]):
            check(offset == round_up(end, 64) and offset + stored <= table_offset, "otq-extent")
            check(codec in (0, 1) and decoded <= 1 << 30 and (codec or stored == decoded), "otq-codec")
            check(not any(data[end:offset]), "otq-padding")
            self.extents.append((offset, stored, decoded, codec, crc))
            end = offset + stored
        check(meta_offset == round_up(end, 64), "otq-table")
        meta_end = meta_offset + meta_stored
        check(round_up(meta_end, 64) == table_offset, "otq-table")
        check(not any(data[end:meta_offset]) and not any(data[meta_end:table_offset]), "otq-padding")
        check(meta_codec in (0, 1) and meta_decoded <= 1 << 28, "otq-metadata")
        text = self._decode((meta_offset, meta_stored, meta_decoded, meta_codec, meta_crc))
        self.metadata = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
        self.tensors = {entry["name"]: entry for entry in self.metadata["tensors"]}
        check(len(self.tensors) == len(self.metadata["tensors"]), "otq-duplicate-name")

    def _decode(self, extent):
        """The bytes of an extent, checksum and frame checked."""
        offset, stored, decoded, codec, crc = extent
        data = bytes(self.data[offset:offset + stored])
        check(zlib.crc32(data) == crc, "otq-checksum")
        if codec == 0:
            return data
        frame = zstandard.get_frame_parameters(data)
        check(frame.content_size == decoded, "otq-frame")
        check(frame.window_size <= 1 << 23 and frame.dict_id == 0 and frame.has_checksum, "otq-frame")
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        result = decompressor.decompress(data)
        check(decompressor.eof and not decompressor.unused_data and len(result) == decoded, "otq-frame-data")
        return result

    def _plane(self, entry, name):
        first, count = entry["planes"][name]
        check(first >= 0 and count >= 0 and first + count <= len(self.extents), "otq-plane")
        return b"".join(self._decode(extent) for extent in self.extents[first:first + count])

    def attachment(self, name):
        """An attached file, byte for byte."""
        entry = next(a for a in self.metadata["attachments"] if a["name"] == name)
        first, count = entry["extents"]
        return b"".join(self._decode(extent) for extent in self.extents[first:first + count])

    def resolve(self, name):
        """The entry of a tensor, an alias followed."""
        entry = self.tensors[name]
        if "alias" not in entry:
            return entry
        target = self.tensors.get(entry["alias"], {"alias": None})
        check("alias" not in target and target["shape"] == entry["shape"], "otq-alias")
        return target

    def codes(self, name):
        """Codes u of a quantized tensor, uint8 [rows, columns]."""
        entry = self.resolve(name)
        rows, columns = entry["shape"]
        bits = entry["bits"]
        check(2 <= bits <= 8 and entry["form"] in ("bytes", "packed"), "otq-scheme")
        plane = np.frombuffer(self._plane(entry, "codes"), np.uint8)
        if entry["form"] == "packed":
            plane = unpack(plane, bits)
        padded_rows, padded_columns = round_up(rows, 16), round_up(columns, 64)
        check(plane.size == padded_rows * padded_columns, "otq-plane")
        # [row tile, group of 4 columns, row in tile, column in group] -> [row, column]
        tiles = plane.reshape(padded_rows // 16, padded_columns // 4, 16, 4).transpose(0, 2, 1, 3)
        matrix = tiles.reshape(padded_rows, padded_columns)
        check(not matrix[rows:].any() and not matrix[:, columns:].any(), "otq-code")
        matrix = matrix[:rows, :columns]
        least = 1 if entry["symmetric"] else 0
        check(matrix.size == 0 or (matrix.min() >= least and matrix.max() < 1 << bits), "otq-code")
        return matrix

    def dequantize(self, name):
        """scale * (u - zeroPoint) in float32, or the values of a plain tensor."""
        entry = self.resolve(name)
        if "dtype" in entry:
            values = np.frombuffer(self._plane(entry, "values"), DTYPES[entry["dtype"]])
            return values.reshape(entry["shape"])
        codes = self.codes(name)
        rows, columns = codes.shape
        scales = np.frombuffer(self._plane(entry, "scales"), "<f4")
        check(np.isfinite(scales).all() and (scales > 0).all(), "otq-scale")
        if entry["symmetric"]:
            zero_points = np.full(scales.shape, 1 << (entry["bits"] - 1), np.uint8)
        else:
            zero_points = np.frombuffer(self._plane(entry, "zeroPoints"), np.uint8)
            check((zero_points < 1 << entry["bits"]).all(), "otq-zero-point")

        def spread(steps):
            if entry["granularity"] == "tensor":
                return np.broadcast_to(steps.reshape(1, 1), codes.shape)
            if entry["granularity"] == "channel":
                return np.broadcast_to(steps.reshape(rows, 1), codes.shape)
            size = entry["groupSize"]
            return np.repeat(steps.reshape(rows, -(-columns // size)), size, axis=1)[:, :columns]

        steps = codes.astype(np.int32) - spread(zero_points).astype(np.int32)
        return spread(scales) * steps.astype(np.float32)


def unpack(packed, bits):
    """Packed codes to one code a byte: 64-byte vectors v0, v1, … of the tile order."""
    if bits > 6:
        return packed
    if bits > 4:
        a, b, c = packed.reshape(-1, 3, 64).transpose(1, 0, 2)
        last = (a >> 6) | ((b >> 6) << 2) | ((c >> 6) << 4)
        return np.stack([a & 63, b & 63, c & 63, last], axis=1).reshape(-1)
    pairs = packed.reshape(-1, 64)
    return np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)


def read(path):
    """Opens a file and checks its header, table and metadata."""
    with open(path, "rb") as file:
        return Otq(file.read())


def main():
    if len(sys.argv) not in (2, 4) or (len(sys.argv) == 4 and sys.argv[2] != "--dequantize"):
        sys.exit(__doc__)
    try:
        otq = read(sys.argv[1])
        if len(sys.argv) == 4:
            np.savez(sys.argv[3], **{name: otq.dequantize(name) for name in otq.tensors})
            return
        for name, entry in otq.tensors.items():
            kind = entry.get("dtype") or (f"alias of {entry['alias']}" if "alias" in entry else f"int{entry['bits']}")
            print(name, entry["shape"], kind)
    except OtqError as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
