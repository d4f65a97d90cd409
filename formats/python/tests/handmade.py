"""Files put together field by field from formats/otq.md, with none of the reader's code."""
import json
import struct
import zlib

MAGIC = b"\x89OTQ\r\n\x1a\n"


def padded(data):
    return data + bytes(-len(data) % 64)


def file(extents, metadata):
    """extents: stored bytes (raw), or (frame, decoded size). metadata: an object, or bytes."""
    metadata = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    data, table = bytes(128), b""
    for extent in extents:
        stored, decoded, codec = (extent, len(extent), 0) if isinstance(extent, bytes) else (*extent, 1)
        data = padded(data)
        table += struct.pack("<QQQII", len(data), len(stored), decoded, codec, zlib.crc32(stored))
        data += stored
    data = padded(data)
    place = len(data), len(metadata), len(metadata), 0, zlib.crc32(metadata)
    data = padded(data + metadata)
    header = MAGIC + struct.pack("<HHIQQQ", 1, 0, 128, 0, 0, len(data) + len(table))
    header += struct.pack("<QQQII", *place) + struct.pack("<QQI", len(data), len(table), zlib.crc32(table))
    header = header.ljust(124, b"\0")
    return header + struct.pack("<I", zlib.crc32(header)) + data[128:] + table


def place(row, column, columns):
    """Where the code of an element lies, in codes: formats/otq.md, "Codes"."""
    padded_columns = -(-columns // 64) * 64
    return (row // 16) * 16 * padded_columns + (column // 4) * 64 + (row % 16) * 4 + column % 4


def interleaved(codes):
    """Codes of rows, a list of lists, in the order of the file, padding with them."""
    rows, columns = len(codes), len(codes[0])
    result = bytearray(-(-rows // 16) * 16 * -(-columns // 64) * 64)
    for row in range(rows):
        for column in range(columns):
            result[place(row, column, columns)] = codes[row][column]
    return bytes(result)


def packed(codes, bits):
    """Interleaved codes in fields of 4, 6 or 8 bits, byte by byte as the document has it."""
    if bits > 6:
        return codes
    result = bytearray()
    if bits <= 4:
        for i in range(0, len(codes), 128):
            result += bytes(codes[i + j] | codes[i + 64 + j] << 4 for j in range(64))
        return bytes(result)
    for i in range(0, len(codes), 256):
        v = [codes[i + 64 * k:i + 64 * k + 64] for k in range(4)]
        result += bytes(a | (d & 3) << 6 for a, d in zip(v[0], v[3]))
        result += bytes(b | (d >> 2 & 3) << 6 for b, d in zip(v[1], v[3]))
        result += bytes(c | (d >> 4) << 6 for c, d in zip(v[2], v[3]))
    return bytes(result)


SMALL_CODES = [[1, 32, 63], [33, 31, 40]]


def small_metadata():
    """One tensor of each kind and an attachment."""
    return {
        "producer": "by hand", "attachments": [{"name": "config.json", "byteCount": 2, "extents": [0, 1]}],
        "tensors": [
            {"name": "w", "shape": [2, 3], "source": {"name": "w0", "dtype": "F16"}, "bits": 6, "symmetric": True,
             "granularity": "channel", "form": "bytes", "rowTilesPerChunk": 256,
             "planes": {"codes": [1, 1], "scales": [2, 1]}, "error": {"sqnrDecibels": 40.5, "maximumInSteps": 0.5}},
            {"name": "v", "shape": [2, 3], "alias": "w"},
            {"name": "b", "shape": [2], "dtype": "F32", "planes": {"values": [3, 1]}}]}


def small_extents():
    return [b"{}", interleaved(SMALL_CODES), struct.pack("<2f", 0.5, 2), struct.pack("<2f", 1, -1)]


def small():
    return file(small_extents(), small_metadata())
