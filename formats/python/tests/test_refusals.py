"""Files that break a rule. Tests/OTContainerTests holds this reader to the cases of the Swift reader, too."""
import copy
import json
import os
import pickle
import struct

import pytest

import handmade
import otq


def refusal(path):
    with pytest.raises(otq.Refusal) as info:
        with otq.safe_open(path) as file:
            file.verify()
    return info.value


def test_refusals_carry_what_finds_the_fault(write):
    data = bytearray(handmade.small())
    data[192] ^= 1
    path = str(write(bytes(data)))
    caught = refusal(path)
    assert (caught.rule, caught.file, caught.offset) == ("otq-checksum", path, 192)
    assert caught.remedy == "copy or convert the file again" and isinstance(caught, ValueError)
    assert str(caught) == (f"{path}: byte 192: tensor 'w' is damaged: its checksum differs [otq-checksum]; "
                           "copy or convert the file again")
    restored = pickle.loads(pickle.dumps(caught))
    assert vars(restored) == vars(caught) and str(restored) == str(caught)
    assert str(otq.Refusal("r", "m", tensor="a\n\x1b")) == "tensor 'a\\u{A}\\u{1B}': m [r]"


def test_every_flipped_bit_is_refused(write, tmp_path):
    zstandard = pytest.importorskip("zstandard")
    tile = handmade.interleaved(handmade.SMALL_CODES)
    frame = zstandard.ZstdCompressor(write_checksum=True, write_content_size=True).compress(tile)
    extents = handmade.small_extents()
    extents[1] = (frame, len(tile))
    data = handmade.file(extents, handmade.small_metadata())
    with otq.safe_open(write(data)) as file:
        file.verify()
        assert file.get_tensor("w").values.tolist() == handmade.SMALL_CODES
    path = tmp_path / "flipped.otq"
    for offset in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:offset] + bytes([data[offset] ^ 1 << bit]) + data[offset + 1:])
            refusal(path)
    for count in range(len(data)):
        path.write_bytes(data[:count])
        refusal(path)


def test_a_damaged_file_raises_nothing_but_refusals(write):
    """With checksums that fit the damage, so that it reaches the rules behind them."""
    import random
    generator = random.Random(20261130)
    text = json.dumps(handmade.small_metadata())
    words = ["-1", "0", "1e3", "18446744073709551616", "null", "true", "[]", "{}", "\"\"", "3", "\"w\"", "2147483648"]
    pieces = [(i, j) for i in range(len(text)) for j in range(i + 1, min(i + 12, len(text) + 1))
              if text[i:j] in ("6", "2", "3", "1", "256", "true", "\"w\"", "\"F32\"", "\"channel\"", "[2, 3]", "{",
                             "0.5")]
    refused = 0
    for round in range(600):
        begin, end = generator.choice(pieces)
        changed = text[:begin] + generator.choice(words) + text[end:]
        try:
            with otq.safe_open(write(handmade.file(handmade.small_extents(), changed.encode()))) as file:
                file.verify()
                for name in file.keys():
                    file.get_slice(name)[:]
        except otq.Refusal as caught:
            assert caught.file and caught.rule.startswith(("otq-", "json-")), round
            refused += 1
    assert refused > 300


TEXTS = [
    (b"[", "json-truncated"), (b"{\"a\"", "json-truncated"), (b"{\"a\":\"", "json-truncated"), (b"", "otq-metadata"),
    (b"{} {}", "json-trailing"), (b"{\"a\":NaN}", "json-syntax"), (b"{\"a\":-Infinity}", "json-syntax"),
    (b"{'a':1}", "json-syntax"), (b"{\"a\":01}", "json-syntax"), (b"{\"a\":1,}", "json-syntax"),
    (b"{\"a\":\"\n\"}", "json-syntax"), (b"\xef\xbb\xbf{}", "json-bom"), (b"{\"a\":\"\xff\"}", "json-not-utf8"),
    (b"{\"a\":1,\"a\":1}", "json-duplicate-key"), (b"{\"\\u0061\":1,\"a\":1}", "json-duplicate-key"),
    (b"{\"a\\u0000\":1}", "json-nul-key"), (b"{\"a\":\"\\ud800\"}", "json-lone-surrogate"),
    (b"{\"a\":9223372036854775808}", "json-integer-range"), (b"{\"a\":" + b"9" * 5000 + b"}", "json-integer-range"),
    (b"{\"a\":1e999}", "json-number-range"), (b"[" * 65 + b"]" * 65, "json-depth"), (b"[" * 100_000, "json-depth"),
    (b"{\"a\":\"" + b"\\\"" * 200_000, "json-truncated"), (b"[" + b"[]," * (1 << 21) + b"[]]", "json-too-many"),
    (b"[" * 64 + b"]" * 64, "otq-metadata"), (b"{\"a\":-9223372036854775808}", "otq-metadata"),
    (b"{\"a\":\"[[[[" + b"[" * 100 + b"\"}", "otq-metadata"),
]


@pytest.mark.parametrize("text, rule", TEXTS, ids=lambda value: str(value)[:24])
def test_metadata_is_strict_json(write, text, rule):
    assert refusal(write(handmade.file([], text))).rule == rule


def changed(tensor, **members):
    metadata = copy.deepcopy(handmade.small_metadata())
    metadata["tensors"][tensor].update(members)
    return handmade.file(handmade.small_extents(), metadata)


def test_names_are_compared_after_normalization(write):
    entries = [{"name": name, "shape": [1], "alias": "x"} for name in ("\u00e9", "e\u0301")]
    assert refusal(write(handmade.file([], {"attachments": [], "tensors": entries}))).rule == "otq-duplicate-name"
    entries = [{"name": name, "byteCount": 0, "extents": [0, 0]} for name in ("\u00e9", "e\u0301")]
    assert refusal(write(handmade.file([], {"attachments": entries, "tensors": []}))).rule == "otq-attachment"


def test_truth_is_no_number(write):
    for member, value in [("shape", [True]), ("bits", True), ("rowTilesPerChunk", True)]:
        assert refusal(write(changed(0, **{member: value}))).rule in ("otq-tensor", "otq-scheme")
    assert refusal(write(changed(0, error={"maximumInSteps": True}))).rule == "otq-tensor"


def test_what_is_no_file(write, tmp_path):
    assert refusal(tmp_path / "nothing").rule == "file-missing"
    assert refusal(tmp_path).rule == "file-not-regular"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").rule == "file-not-regular"
    assert refusal(write(b"")).rule == "otq-magic"
    assert refusal(write(handmade.small(), "m.otq.partial")).rule == "otq-partial"


def test_sizes_that_are_only_claimed_take_no_memory(write):
    """A frame of a few bytes that says 64 MiB; a table that says more than a frame can hold."""
    zstandard = pytest.importorskip("zstandard")
    frame = zstandard.ZstdCompressor(write_checksum=True, write_content_size=True).compress(bytes(1024))
    extents = handmade.small_extents()
    extents[1] = (frame, 1 << 26)
    assert refusal(write(handmade.file(extents, handmade.small_metadata()))).rule == "otq-extent"
    header = b"\x28\xb5\x2f\xfd" + bytes([0xA4]) + struct.pack("<I", 1 << 20)
    block = struct.pack("<I", 1 | 1 << 1 | 1024 << 3)[:3] + b"\0"
    extents[1] = (header + block + bytes(4), 1 << 20)
    metadata = handmade.small_metadata()
    metadata["tensors"][0].update(shape=[16, 1 << 16])
    metadata["tensors"][0].update(granularity="tensor")
    extents[2] = struct.pack("<f", 1)
    del metadata["tensors"][1]
    caught = refusal(write(handmade.file(extents, metadata)))
    assert caught.rule in ("otq-extent", "otq-frame-data")
