import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file as load_safetensors

import handmade
import otq

FAMILIES = ["bert", "bloom", "llama", "opt"]


@pytest.mark.parametrize("family", FAMILIES)
def test_files_of_version_1_0_are_read(fixtures, family):
    """Without transforms, plain tensors are the source's and quantized ones within half a step of them."""
    with otq.safe_open(fixtures / "previous-versions" / "1.0" / f"{family}.otq") as file:
        file.verify()
        metadata = file.metadata()
        assert metadata["family"] == family and metadata["producer"].startswith("otq ")
        shards = (fixtures / "models" / f"{family}-mini").glob("model*.safetensors")
        source = {name: values for shard in shards for name, values in load_safetensors(shard).items()}
        quantized = 0
        for name in file.keys():
            tensor = file.get_tensor(name)
            assert list(tensor.shape) == file.entry(name)["shape"]
            if metadata["graph"].get("transforms") or "source" not in file.entry(name):
                continue
            expected = source[file.entry(name)["source"]["name"]].astype(np.float32)
            if isinstance(tensor, otq.QuantizedTensor):
                assert (np.abs(tensor.dequantize() - expected) <= 0.5001 * tensor.scales).all(), name
                quantized += 1
            else:
                assert np.array_equal(tensor.astype(np.float32), expected), name
        assert quantized == {"bert": 24, "bloom": 17}.get(family, 0)


def test_a_small_file_by_hand(write):
    with otq.safe_open(write(handmade.small())) as file:
        assert file.keys() == ["w", "v", "b"]
        w = file.get_tensor("w")
        assert (w.shape, w.bits, w.symmetric, w.granularity, w.group_size) == ((2, 3), 6, True, "channel", None)
        assert w.values.tolist() == handmade.SMALL_CODES and w.values.dtype == np.uint8
        assert w.scales.tolist() == [[0.5], [2]] and w.zero_points.tolist() == [[32], [32]]
        # 0.5 (u - 32), 2 (u - 32)
        assert w.dequantize().tolist() == [[-15.5, 0, 15.5], [2, -2, 16]] and w.dequantize().dtype == np.float32
        assert w.dequantize(np.float16).dtype == np.float16
        assert w.error == {"sqnrDecibels": 40.5, "maximumInSteps": 0.5} and w.rounding == "nearest"
        assert repr(w) == "QuantizedTensor('w', [2, 3], int6 per channel, symmetric)"
        assert file.get_tensor("v").dequantize().tolist() == w.dequantize().tolist()
        assert file.get_tensor("b").tolist() == [1, -1]
        assert file.get_bytes("b").tobytes() == np.array([1, -1], "<f4").tobytes()
        assert file.attachments() == ["config.json"] and file.get_attachment("config.json") == b"{}"
        assert file.metadata() == {"producer": "by hand"}
        assert (file.stored_size("w"), file.stored_size("v")) == (1024 + 8, 0)
        for unknown in (file.get_tensor, file.get_slice, file.get_bytes, file.get_attachment):
            with pytest.raises(KeyError):
                unknown("nothing")


def test_plain_tensors_lie_in_the_mapping(write):
    with otq.safe_open(write(handmade.small())) as file:
        mapping = file._container.data
        b = file.get_tensor("b")
        assert np.shares_memory(b, mapping) and not b.flags.writeable
        assert np.shares_memory(file.get_tensor("w").scales, mapping)
        assert np.shares_memory(file.get_slice("b")[1:], mapping)
    with pytest.raises(ValueError, match="closed"):
        file.keys()
    # The mapping lives as long as what lies in it.
    assert b.tolist() == [1, -1]


def test_values_of_several_extents_are_one_array(write):
    """Extents whose lengths are multiples of 64 follow one another; others have padding between."""
    for parts, is_mapped in [([64, 64, 12], True), ([60, 80], False)]:
        content = np.arange(sum(parts) // 4, dtype="<f4")
        ends = np.cumsum([0, *parts])
        extents = [content.tobytes()[a:b] for a, b in zip(ends, ends[1:])]
        data = handmade.file(extents, {"attachments": [], "tensors": [
            {"name": "a", "shape": [len(content) // 5, 5], "dtype": "F32",
             "planes": {"values": [0, len(parts)]}}]})
        with otq.safe_open(write(data)) as file:
            a = file.get_tensor("a")
            assert np.array_equal(a, content.reshape(-1, 5))
            assert np.shares_memory(a, file._container.data) == is_mapped
            for start in range(len(a) + 1):
                for stop in range(start, len(a) + 1):
                    assert np.array_equal(file.get_slice("a")[start:stop], a[start:stop])


def test_types(write):
    """The bits of 1, -2 and 0.5 in bfloat16; types that numpy lacks come as bytes."""
    bf16 = np.array([0x3F80, 0xC000, 0x3F00], "<u2").tobytes()
    tensors = [("bf", [3], "BF16", bf16), ("f8", [2, 2], "F8_E4M3", b"\1\2\3\4"), ("f4", [2, 2], "F4", b"\x21\x43"),
               ("i", [2], "I64", np.array([-1, 5], "<i8").tobytes()), ("flag", [3], "BOOL", b"\0\1\1"),
               ("scalar", [], "F16", np.array([1.5], "<f2").tobytes()), ("none", [0, 7], "F32", b"")]
    entries, extents = [], []
    for name, shape, dtype, data in tensors:
        entries.append({"name": name, "shape": shape, "dtype": dtype,
                        "planes": {"values": [len(extents), 1 if data else 0]}})
        extents += [data] if data else []
    with otq.safe_open(write(handmade.file(extents, {"attachments": [], "tensors": entries}))) as file:
        file.verify()
        assert file.get_tensor("bf").tolist() == [1, -2, 0.5] and file.get_tensor("bf").dtype == np.float32
        assert file.get_slice("bf")[1:].tolist() == [-2, 0.5] and file.get_dtype("bf") == "BF16"
        assert file.get_tensor("f8").tolist() == [[1, 2], [3, 4]]
        assert file.get_tensor("f4").tolist() == [0x21, 0x43]
        with pytest.raises(TypeError):
            file.get_slice("f4")[0]
        assert file.get_tensor("i").tolist() == [-1, 5] and file.get_tensor("flag").tolist() == [False, True, True]
        assert file.get_tensor("scalar").shape == () and file.get_tensor("scalar") == 1.5
        assert file.get_slice("scalar")[()] == 1.5
        assert file.get_tensor("none").shape == (0, 7) and file.get_slice("none")[:].shape == (0, 7)


def quantized(rows, columns, bits, symmetric, granularity, form, seed, chunk=2, group=16):
    """A file of one quantized tensor of random codes; and what it holds, computed element by element."""
    random = np.random.default_rng(seed)
    low = 1 if symmetric else 0
    codes = random.integers(low, 1 << bits, (rows, columns))
    groups = -(-columns // group) if granularity == "group" else 1
    shape = (1, 1) if granularity == "tensor" else (rows, groups)
    scales = random.uniform(0.01, 2, shape).astype("<f4")
    points = np.full(shape, 1 << bits - 1) if symmetric else random.integers(0, 1 << bits, shape)
    expected = np.empty((rows, columns), np.float32)
    for r in range(rows):
        for c in range(columns):
            at = (0 if granularity == "tensor" else r, c // group if granularity == "group" else 0)
            expected[r, c] = scales[at] * np.float32(int(codes[r, c]) - int(points[at]))
    stored = handmade.interleaved(codes.tolist())
    stored = handmade.packed(stored, bits) if form == "packed" else stored
    tiles = -(-rows // 16)
    size = len(stored) // tiles
    extents = [stored[i * size:min(i + chunk, tiles) * size] for i in range(0, tiles, chunk)]
    planes = {"codes": [0, len(extents)], "scales": [len(extents), 1]}
    extents.append(scales.tobytes())
    if not symmetric:
        planes["zeroPoints"] = [len(extents), 1]
        extents.append(points.astype(np.uint8).tobytes())
    entry = {"name": "w", "shape": [rows, columns], "bits": bits, "symmetric": symmetric, "granularity": granularity,
             "form": form, "rowTilesPerChunk": chunk, "planes": planes}
    if granularity == "group":
        entry["groupSize"] = group
    return handmade.file(extents, {"attachments": [], "tensors": [entry]}), codes, expected


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("form", ["bytes", "packed"])
def test_quantized_values_of_every_width(write, bits, form):
    cases = [(1, 1, True, "tensor"), (17, 65, False, "channel"), (70, 40, True, "group"), (33, 130, False, "group")]
    for seed, (rows, columns, symmetric, granularity) in enumerate(cases):
        data, codes, expected = quantized(rows, columns, bits, symmetric, granularity, form, seed)
        with otq.safe_open(write(data)) as file:
            file.verify()
            w = file.get_tensor("w")
            assert np.array_equal(w.dequantize(), expected)
            assert np.array_equal(w.values, codes)
            # From values that are kept, too.
            assert np.array_equal(w.dequantize(), expected)
            if form == "packed":
                assert np.shares_memory(w.stored, file._container.data)


INDICES = ["[:]", "[...]", "[3]", "[-1]", "[5:40]", "[16:32, 3]", "[::7]", "[::-3, ::2]", "[40:3:-5]", "[50:50]",
           "[69:]", "[..., 1:5]", "[2:1000, -4:]", "[np.int64(4)]", "[[1, 5]]", "[None, 4]"]


@pytest.mark.parametrize("index", INDICES)
def test_slices_are_what_numpy_takes(write, index):
    data, _, expected = quantized(70, 40, 6, False, "group", "packed", seed=5)
    with otq.safe_open(write(data)) as file:
        part = file.get_slice("w")
        assert part.get_shape() == [70, 40] and part.get_dtype() == "F32"
        assert np.array_equal(eval(f"part{index}"), eval(f"expected{index}"))
        for wrong in ("[70]", "[-71]", "[0, 40]"):
            with pytest.raises(IndexError):
                eval(f"part{wrong}")


def test_a_slice_reads_its_own_chunks_alone(write):
    data, _, expected = quantized(70, 40, 8, True, "channel", "bytes", seed=6)
    data = bytearray(data)
    data[128] ^= 1  # The first chunk: rows 0 to 31.
    with otq.safe_open(write(bytes(data))) as file:
        assert np.array_equal(file.get_slice("w")[32:], expected[32:])
        with pytest.raises(otq.Refusal) as info:
            file.get_slice("w")[31]
        assert (info.value.rule, info.value.offset) == ("otq-checksum", 128)


def test_chunks_are_read_once(write, monkeypatch):
    """Chunks of 1.5 MiB, which are taken apart in steps of 1 MiB; no padding, one code."""
    rows, columns, chunk = 3 * 1024 * 16, 64, 1536
    extents = [bytes([5]) * (chunk * 16 * columns)] * 2 + [struct.pack("<f", 0.5)]
    entry = {"name": "w", "shape": [rows, columns], "bits": 8, "symmetric": True, "granularity": "tensor",
             "form": "bytes", "rowTilesPerChunk": chunk, "planes": {"codes": [0, 2], "scales": [2, 1]}}
    container = otq._format.Container
    read, decode = [], container._decode
    monkeypatch.setattr(container, "_decode", lambda self, extent, name: read.append(extent.offset) or decode(
        self, extent, name))
    with otq.safe_open(write(handmade.file(extents, {"attachments": [], "tensors": [entry]}))) as file:
        read.clear()
        assert (file.get_tensor("w").dequantize() == (5 - 128) * 0.5).all()
        assert len(read) == len(set(read)) == 3
        read.clear()
        assert file.get_slice("w")[100:-100].shape == (rows - 200, columns)
        assert len(read) == len(set(read)) == 3


def test_load_file(write):
    tensors = otq.load_file(write(handmade.small()))
    assert list(tensors) == ["w", "v", "b"] and tensors["v"] is tensors["w"]
    tensors = otq.load_file(write(handmade.small()), dequantize=True)
    assert tensors["v"] is tensors["w"] and tensors["w"].tolist() == [[-15.5, 0, 15.5], [2, -2, 16]]


def test_what_is_returned_is_not_the_index(write):
    with otq.safe_open(write(handmade.small())) as file:
        file.metadata()["producer"] = file.entry("w")["bits"] = "x"
        assert file.metadata()["producer"] == "by hand" and file.entry("w")["bits"] == 6


def run(script, *arguments):
    return subprocess.run([sys.executable, "-B", "-c", script, *map(str, arguments)], capture_output=True, text=True)


def test_uncompressed_files_need_no_zstandard(fixtures, write):
    """Nothing native is looked for either."""
    script = """
import sys
sys.modules["zstandard"] = None
import otq
print(otq.load_file(sys.argv[1])["b"].tolist(), "otq._native" in sys.modules)
try:
    otq.load_file(sys.argv[2])
except ImportError as error:
    print(error)
"""
    outcome = run(script, write(handmade.small()), fixtures / "previous-versions" / "1.0" / "opt.otq")
    lines = outcome.stdout.splitlines()
    assert outcome.returncode == 0, outcome.stderr
    assert lines[0] == "[1.0, -1.0] False" and "zstandard" in lines[1] and "opt.otq" in lines[1]


def command(*arguments):
    return subprocess.run([sys.executable, "-B", "-m", "otq", *map(str, arguments)], capture_output=True, text=True)


def test_the_command(fixtures, write, tmp_path):
    path = write(handmade.small())
    listing = command(path).stdout.splitlines()
    assert listing == ["w\t[2, 3]\tint6 per channel, symmetric\t1032", "v\t[2, 3]\talias of w\t0", "b\t[2]\tF32\t8"]
    assert command(path, "--verify").returncode == 0
    for name, load in [("out.npz", np.load), ("out.safetensors", load_safetensors)]:
        assert command(path, "--dequantize", tmp_path / name).returncode == 0
        values = load(tmp_path / name)
        assert values["v"].tolist() == [[-15.5, 0, 15.5], [2, -2, 16]] and values["b"].tolist() == [1, -1]
    # A tensor may be named as numpy names an argument.
    data = handmade.file([struct.pack("<2f", 1, -1)], {"attachments": [], "tensors": [
        {"name": "file", "shape": [2], "dtype": "F32", "planes": {"values": [0, 1]}}]})
    assert command(write(data, "f.otq"), "--dequantize", tmp_path / "f.npz").returncode == 0
    assert np.load(tmp_path / "f.npz")["file"].tolist() == [1, -1]
    for name in ("f.npz", "f.safetensors"):
        outcome = command(path, "--dequantize", tmp_path / "nothing" / name)
        assert outcome.returncode == 1 and "No such file" in outcome.stderr and "Traceback" not in outcome.stderr
    outcome = command(write(b"nothing", "n.otq"))
    assert outcome.returncode == 1 and "n.otq: byte 0: is not an .otq file [otq-magic]" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert json.loads(otq.safe_open(fixtures / "previous-versions/1.0/opt.otq").get_attachment("config.json"))
