#!/usr/bin/env python3
"""Every `package` declaration of Sources has a `///` comment, as swift-format asks of `public` ones.

    scripts/check-comments.py
"""
import pathlib
import re
import sys

DECLARATION = re.compile(
    r"\s*(?:@\w+(?:\([^)]*\))?\s+)*package\s+(?:[\w()]+\s+)*?"
    r"(?:func|var|let|init|struct|enum|final class|class|actor|protocol|typealias|subscript|static|indirect)\b")
ATTRIBUTE = re.compile(r"\s*@\w+(?:\([^)]*\))?\s*$")

faults = []
for path in sorted(pathlib.Path("Sources").rglob("*.swift")):
    lines = path.read_text(encoding="utf-8").splitlines()
    for index, line in enumerate(lines):
        if not DECLARATION.match(line):
            continue
        before = index - 1
        while before >= 0 and (ATTRIBUTE.match(lines[before]) or lines[before].lstrip().startswith("//swift")):
            before -= 1
        if before < 0 or not lines[before].lstrip().startswith("///"):
            faults.append(f"{path}:{index + 1}: {line.strip()}")
if faults:
    print("\n".join(faults), file=sys.stderr)
    sys.exit(f"{len(faults)} package declarations have no '///' comment")
