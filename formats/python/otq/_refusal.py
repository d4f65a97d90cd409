"""Why an input was refused."""
from __future__ import annotations

from typing import Any, Optional, Tuple, Type


class Refusal(ValueError):
    """A file, or what was asked of it, breaks a rule; nothing was written.

    The same five facts as the refusals of the Swift library and of the command's messages.
    """

    def __init__(self, rule: str, message: str, *, file: Optional[str] = None, tensor: Optional[str] = None,
                 offset: Optional[int] = None, remedy: Optional[str] = None) -> None:
        #: The rule that was broken, in kebab case (``otq-checksum``); stable.
        self.rule = rule
        #: The fault in words, without the file's name.
        self.message = message
        #: Path of the offending file, as it was given.
        self.file = file
        #: Name of the offending tensor.
        self.tensor = tensor
        #: Position in the file, in bytes from its start.
        self.offset = offset
        #: Something that can be done about it.
        self.remedy = remedy
        super().__init__(rule, message)

    def __reduce__(self) -> Tuple[Any, ...]:
        # Type and members survive pickling, for processes that send exceptions to each other.
        return _blank, (type(self), self.args), dict(self.__dict__)

    def __str__(self) -> str:
        """One line, control characters escaped: ``FILE: tensor 'T': byte 12: MESSAGE [RULE]; REMEDY``."""
        parts = [] if self.file is None else [self.file]
        if self.tensor is not None:
            parts.append(f"tensor '{self.tensor}'")
        if self.offset is not None:
            parts.append(f"byte {self.offset}")
        line = ": ".join([*parts, f"{self.message} [{self.rule}]"])
        if self.remedy is not None:
            line += f"; {self.remedy}"
        # A name of an untrusted file can neither break the line nor drive the terminal.
        return "".join(f"\\u{{{ord(c):X}}}" if is_control(c) else c for c in line)


def _blank(kind: Type[Refusal], arguments: Tuple[Any, ...]) -> Refusal:
    return kind.__new__(kind, *arguments)


def is_control(character: str) -> bool:
    """True for U+0000 to U+001F and U+007F to U+009F."""
    return ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F
