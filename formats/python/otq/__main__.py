"""``python -m otq FILE``: lists, checks and unpacks .otq files without the native library."""
from __future__ import annotations

import argparse
import json
import struct
import zipfile
from typing import Any, Dict

import numpy as np
from numpy.typing import NDArray

from ._format import Container
from ._reader import QuantizedTensor, safe_open
from ._refusal import Refusal


def arrays(path: str) -> "tuple[Dict[str, NDArray[Any]], Dict[str, Any]]":
    """Tensors by name, dequantized or with the bits that the file has; and what safetensors calls them."""
    container, values, members = Container(path), {}, {}
    for name, entry in container.tensors.items():
        own = container.entry(name)
        values[name] = QuantizedTensor(container, name).dequantize() if "bits" in own else container.values(name)
        members[name] = {"dtype": own.get("dtype", "F32"), "shape": entry["shape"]}
    return values, members


def write_tensors(path: str, output: str) -> None:
    values, members = arrays(path)
    if output.endswith(".npz"):
        # Not numpy.savez, which takes names as its own arguments'.
        with zipfile.ZipFile(output, "w") as archive:
            for name, array in values.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        return
    position = 0
    for name, array in values.items():
        members[name]["data_offsets"] = [position, position + array.nbytes]
        position += array.nbytes
    text = json.dumps(members).encode()
    text += b" " * (-len(text) % 8)
    with open(output, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in values.values():
            file.write(array.tobytes())


def list_tensors(path: str) -> None:
    with safe_open(path) as file:
        for name in file.keys():
            entry = file.entry(name)
            kind = entry.get("dtype") or (f"alias of {entry['alias']}" if "alias" in entry else
                   f"int{entry['bits']} per {entry['granularity']}, {'' if entry['symmetric'] else 'a'}symmetric")
            print(name, entry["shape"], kind, file.stored_size(name), sep="\t")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m otq", description="Reads .otq files.")
    parser.add_argument("file")
    parser.add_argument("--list", action="store_true", help="list the tensors (the default)")
    parser.add_argument("--verify", action="store_true", help="read and check everything")
    parser.add_argument("--dequantize", metavar="OUT", help="write .npz (BF16 as its 16 bits) or .safetensors")
    options = parser.parse_args()
    try:
        if options.verify:
            with safe_open(options.file) as file:
                file.verify()
        if options.dequantize:
            write_tensors(options.file, options.dequantize)
        if options.list or not (options.verify or options.dequantize):
            list_tensors(options.file)
    except (Refusal, ImportError, OSError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
