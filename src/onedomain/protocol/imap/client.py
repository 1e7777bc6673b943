"""Commands as a client writes them: tags, and the spelling of strings that the server's capabilities allow.

Knows RFC 9051 section 4 and RFC 7888. Does not know what comes back (response.py) nor when to send.

Arguments mirror the values that response.py gives: str stands as it is (atoms, sets, item names), bytes is a string and
is spelt as atom, quoted or literal, int, None (NIL), and a list or tuple is parenthesised.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

Argument = str | bytes | int | None | Iterable["Argument"]

LITERAL_MINUS_MAX = 4096  # RFC 7888 section 5
_ATOM = re.compile(rb"[A-Za-z0-9._@/$=:;,<>?!|~`^&'#+-]+\Z")
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]{0,1000}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Command:
    """`pieces` are sent one by one; before each but the first, a Continuation has to have come.

    A tagged answer instead of the Continuation is the server's refusal: the rest isn't sent.
    """

    tag: str
    pieces: tuple[bytes, ...] = field(repr=False)

    @property
    def data(self) -> bytes:
        """All of it, where nothing has to be waited for."""
        if len(self.pieces) != 1:
            raise ValueError("the server has to be waited for")
        return self.pieces[0]


class Commands:
    """Makes commands for one connection. `capabilities` may be replaced when the server names new ones."""

    def __init__(self, capabilities: Collection[str] = (), prefix: str = "a") -> None:
        self.capabilities = capabilities
        self._prefix = prefix
        self._count = 0

    def tag(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    def make(self, name: str, *arguments: Argument) -> Command:
        """Raises ValueError for what can't be said in IMAP: controls in an atom, NUL in a string."""
        tag = self.tag()
        written = _Writer(self.capabilities)
        written.raw(f"{tag} {name}")
        for argument in arguments:
            written.raw(" ")
            written.argument(argument)
        return Command(tag, written.finish())


class _Writer:
    def __init__(self, capabilities: Collection[str]) -> None:
        self._capabilities = capabilities
        self._pieces: list[bytes] = []
        self._current: list[bytes] = []

    def raw(self, text: str) -> None:
        if _CONTROL.search(text):
            raise ValueError("control or non-ASCII character in an atom")
        self._current.append(text.encode("ascii"))

    def argument(self, value: Argument) -> None:
        if value is None:
            self.raw("NIL")
        elif isinstance(value, int):
            self.raw(str(value))
        elif isinstance(value, str):
            self.raw(value)
        elif isinstance(value, bytes):
            self.string(value)
        else:
            self.raw("(")
            for position, item in enumerate(value):
                if position:
                    self.raw(" ")
                self.argument(item)
            self.raw(")")

    def string(self, value: bytes) -> None:
        short = quoted(value)
        if short is not None:
            self._current.append(short)
            return
        if b"\0" in value:
            raise ValueError("NUL in a string")
        announcement, wait = _announce(len(value), self._capabilities)
        self._current.append(announcement)
        if wait:
            self._pieces.append(b"".join(self._current))
            self._current = []
        self._current.append(value)

    def finish(self) -> tuple[bytes, ...]:
        self._current.append(b"\r\n")
        return (*self._pieces, b"".join(self._current))


def quoted(value: bytes) -> bytes | None:
    """The value as an atom or quoted string; None where only a literal will do (CR, LF, NUL, 8-bit, long)."""
    if _ATOM.match(value) and value.upper() != b"NIL":
        return value
    if _QUOTABLE.match(value):
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return None


def _announce(size: int, capabilities: Collection[str]) -> tuple[bytes, bool]:
    """How a literal is announced, and whether "+" must be waited for."""
    plus = "LITERAL+" in capabilities or (size <= LITERAL_MINUS_MAX and "LITERAL-" in capabilities)
    return b"{%d%s}\r\n" % (size, b"+" if plus else b""), not plus
