"""Metadata: RFC 8259 and nothing else, so that two readers of one file see the same tensors."""
from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from ._refusal import Refusal

MAXIMUM_DEPTH = 64
#: The most arrays and objects, as the Swift reader bounds them.
MAXIMUM_CONTAINERS = 1 << 21
# A string that is not closed is one match, too: no text is scanned twice.
_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def strict_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises a `Refusal` without a file, with rule ``json-…``.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise Refusal("json-bom", "JSON begins with a byte order mark")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal("json-not-utf8", f"JSON is not UTF-8: byte {error.start}") from None
    _check_structure(text)
    try:
        value = json.loads(text, object_pairs_hook=_members, parse_constant=_constant, parse_int=_integer,
                           parse_float=_float)
    except json.JSONDecodeError as error:
        raise Refusal(_syntax_rule(error, text), f"is not JSON: {error.msg} at character {error.pos}") from None
    # What escapes make; text that was UTF-8 has none.
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise Refusal("json-lone-surrogate", "a string has half of a surrogate pair") from None
    return value


def _syntax_rule(error: json.JSONDecodeError, text: str) -> str:
    if error.msg == "Extra data":
        return "json-trailing"
    is_open = error.msg.startswith("Unterminated string") or not text[error.pos:].strip(" \t\r\n")
    return "json-truncated" if is_open else "json-syntax"


def _check_structure(text: str) -> None:
    """Bounds nesting before a recursive parser sees it."""
    depth = count = 0
    for match in _STRUCTURE.finditer(text):
        character = match.group()[0]
        if character in "[{":
            depth += 1
            count += 1
            if depth > MAXIMUM_DEPTH:
                raise Refusal("json-depth", f"nesting exceeds {MAXIMUM_DEPTH}")
            if count > MAXIMUM_CONTAINERS:
                raise Refusal("json-too-many", f"more than {MAXIMUM_CONTAINERS} arrays and objects")
        elif character in "]}":
            depth -= 1


def _members(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Refusal("json-duplicate-key", "a member occurs twice")
    if any("\0" in name for name in members):
        raise Refusal("json-nul-key", "a member's name contains NUL")
    return members


def _constant(word: str) -> NoReturn:
    raise Refusal("json-syntax", f"'{word}' is Python's, not JSON")


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 63:
        raise Refusal("json-integer-range", f"integer {digits[:40]} does not fit in 64 bits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Refusal("json-number-range", "a number does not fit in a double")
    return value
