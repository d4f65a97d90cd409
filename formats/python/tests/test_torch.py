import numpy as np
import pytest

import handmade

torch = pytest.importorskip("torch")


def test_load_file(write):
    import otq.torch

    path = write(handmade.small())
    content = path.read_bytes()
    tensors = otq.torch.load_file(path)
    assert list(tensors) == ["w", "v", "b"] and tensors["v"] is tensors["w"]
    assert tensors["w"].tolist() == [[-15.5, 0, 15.5], [2, -2, 16]] and tensors["w"].dtype == torch.float32
    tensors["b"] += 1
    assert tensors["b"].tolist() == [2, 0] and path.read_bytes() == content
    half = otq.torch.load_file(path, dtype=torch.float16)
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    kept = otq.torch.load_file(path, dequantize=False)
    assert isinstance(kept["w"], otq.QuantizedTensor) and kept["b"].dtype == torch.float32


def test_types_that_numpy_lacks(write):
    import otq.torch

    bf16 = np.array([0x3F80, 0xC000, 0x3F00], "<u2").tobytes()
    parts = [("bf", [3], "BF16", bf16), ("f8", [2], "F8_E4M3", b"\x38\xc0"), ("f4", [2, 2], "F4", b"\x21\x43")]
    entries = [{"name": name, "shape": shape, "dtype": dtype, "planes": {"values": [i, 1]}}
               for i, (name, shape, dtype, _) in enumerate(parts)]
    data = handmade.file([part[3] for part in parts], {"attachments": [], "tensors": entries})
    tensors = otq.torch.load_file(write(data))
    assert tensors["bf"].dtype == torch.bfloat16 and tensors["bf"].tolist() == [1, -2, 0.5]
    # e4m3: 0x38 is 1, 0xC0 is -2.
    assert tensors["f8"].dtype == torch.float8_e4m3fn and tensors["f8"].float().tolist() == [1, -2]
    assert tensors["f4"].tolist() == [0x21, 0x43]


def test_compressed_files(fixtures):
    import otq.torch

    path = fixtures / "previous-versions" / "1.0" / "opt.otq"
    expected = otq.load_file(path, dequantize=True)
    for name, tensor in otq.torch.load_file(path).items():
        assert np.array_equal(tensor.float().numpy(), expected[name].astype(np.float32)), name
