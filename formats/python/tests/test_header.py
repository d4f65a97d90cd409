"""The bindings' declarations against otq.h, word by word."""
import ctypes
import pathlib
import re
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p

import pytest

from otq import _native

HEADER = pathlib.Path(__file__).resolve().parents[3] / "Sources" / "COTQ" / "otq.h"
HANDLES = "otq_(error|file|model|generation|cancellation)"
#: What may stand for a type of C.
TYPES = {
    "const char *": [c_char_p], "void *": [c_void_p], "size_t": [c_size_t], "int32_t": [c_int32], "int64_t": [c_int64],
    "otq_status": [c_int32], "char **": [POINTER(c_void_p)], "int64_t **": [POINTER(c_void_p)],
    "size_t *": [POINTER(c_size_t)], "const int64_t *": [POINTER(c_int64)], "float *": [POINTER(c_float)],
    "const char *const *": [POINTER(c_char_p)], "const size_t *": [POINTER(c_size_t)],
    "otq_piece *": [POINTER(_native._Piece)], "const otq_observer *": [POINTER(_native._Observer)], "void": [None],
    "otq_progress_callback": [_native._PROGRESS],
}


def kinds(text):
    """The types of ctypes that may stand for a type of C."""
    if re.fullmatch(f"(const )?{HANDLES} \\*", text):
        return [c_void_p]
    return [POINTER(c_void_p)] if re.fullmatch(f"{HANDLES} \\*\\*", text) else TYPES[text]


def split(declaration):
    """A parameter or member as its type; its name goes."""
    return re.sub(r"\s*\w+$", "", declaration.strip()) if "*" not in declaration.split()[-1] else re.sub(
        r"\w+$", "", declaration.strip())


@pytest.fixture(scope="module")
def header():
    return re.sub(r"//[^\n]*", "", HEADER.read_text())


def test_functions(header):
    pattern = re.compile(r"^((?:const )?\w+ \**)(otq_\w+)\(([^)]*)\);", re.MULTILINE)
    declared = {name: (result.strip(), parameters) for result, name, parameters in pattern.findall(header)}
    assert len(declared) > 35
    bound = {f"otq_{name}": (c_int32, arguments) for name, arguments in _native._FUNCTIONS.items()}
    bound.update({f"otq_{name}": declaration for name, declaration in _native._OTHERS.items()})
    for name, (result, arguments) in bound.items():
        parameters = [split(p) for p in declared[name][1].split(",") if p.strip() != "void"]
        assert result in kinds(declared[name][0]), name
        assert len(parameters) == len(arguments), name
        for text, kind in zip(parameters, arguments):
            assert kind in kinds(text), (name, text, kind)


def members(header, name):
    body = re.search(rf"typedef struct {name} \{{(.*?)\}} {name};", header, re.DOTALL).group(1)
    return [(line.split()[-1].lstrip("*"), split(line)) for line in body.split(";") if line.strip()]


@pytest.mark.parametrize("name, kind", [("otq_piece", _native._Piece), ("otq_observer", _native._Observer)])
def test_structures(header, name, kind):
    fields = kind._fields_
    assert [field[0] for field in fields] == [member[0] for member in members(header, name)]
    for (_, field), (_, text) in zip(fields, members(header, name)):
        allowed = kinds(text) if "otq_" not in text else [c_void_p, _native._PROGRESS]
        # An address that is read with a count beside it.
        assert field in allowed or (text == "const char *" and field is c_void_p), (name, text)


def test_callback_and_version(header):
    assert re.search(r"int32_t \(\*otq_progress_callback\)\(\s*const char \*stage, const char \*unit, int64_t done, "
                     r"int64_t total, void \*context\)", header)
    assert _native._PROGRESS._argtypes_ == (c_char_p, c_char_p, c_int64, c_int64, c_void_p)
    assert _native._PROGRESS._restype_ is c_int32 and ctypes.sizeof(c_size_t) == 8
    assert f"#define OTQ_ABI_VERSION {_native.ABI_VERSION}\n" in header
