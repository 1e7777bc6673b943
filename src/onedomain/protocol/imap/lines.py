"""Where IMAP commands end: bytes from a client -> lines and literals, before anything is parsed.

Knows line ends, literals (RFC 9051 section 4.3, RFC 7888, RFC 3516) and limits. Does not know what any command means,
nor what is answered. A command that breaks a limit is poisoned: reported once, then skipped to its end, so that the
one after it is read in step.

    lines = Fragmentizer()
    lines.receive(data)
    while (event := lines.next_event()) is not None: ...

For each command come: Line, and for each literal that a Line announces its Chunks (the last one marked) and then the
next Line. A Line without a literal ends the command. After a Line with a synchronising literal nothing comes until
`accept()` (the caller sends "+") or `refuse()` (the caller answers NO or BAD: the client won't send the literal).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes: of a line, of a literal, and of a command with all its lines and literals."""

    line: int = 65_536
    literal: int = 128 * 1024 * 1024
    command: int = 129 * 1024 * 1024


class Literal(NamedTuple):
    """`size` in bytes; `sync`: the client waits for "+"; `binary`: it was `~{n}` (RFC 3516), NULs allowed."""

    size: int
    sync: bool
    binary: bool


class Line(NamedTuple):
    """A line with its end (CRLF, or a bare LF, which servers take too); `literal` is what it announces."""

    data: bytes
    literal: Literal | None


class Chunk(NamedTuple):
    """The next bytes of a literal. An empty literal is one empty last chunk."""

    data: bytes
    last: bool


class Overrun(NamedTuple):
    """A limit was broken. `start` is the beginning of the line, for its tag; `limit` is "line", "literal" or "command".

    `literal` is the one that broke it, if one did. The rest of the command is skipped.
    """

    start: bytes
    limit: str
    literal: Literal | None


Event = Line | Chunk | Overrun

_ANNOUNCEMENT = re.compile(rb"(~?)\{(\d{1,20})(\+?)\}\r?\n\Z")
_LONGEST_ANNOUNCEMENT = 26
_START_KEPT = 256


def announced(line: bytes) -> Literal | None:
    """The literal that a whole line, with its end, announces."""
    if line[-3:-2] != b"}" and line[-2:-1] != b"}":
        return None
    found = _ANNOUNCEMENT.search(line, max(0, len(line) - _LONGEST_ANNOUNCEMENT))
    if found is None:
        return None
    return Literal(int(found[2]), not found[3], bool(found[1]))


class Fragmentizer:
    """Bytes in, events out. Drain `next_event()` after each `receive()`, or what it holds grows."""

    __slots__ = (
        "_at", "_data", "_in_literal", "_limits", "_literal_left", "_searched",
        "_skipping", "_tail", "_undecided", "_used",
    )

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._data = b""
        self._at = 0            # first byte of _data not yet given out
        self._searched = 0      # no LF before this index
        self._literal_left = 0
        self._in_literal = False
        self._undecided: Literal | None = None
        self._used = 0          # bytes of the command so far
        self._skipping = False
        self._tail = b""        # end of a skipped line, which may announce a literal

    def receive(self, data: bytes) -> None:
        if self._at == len(self._data):
            self._data, self._searched = data, 0
        else:
            self._searched -= self._at
            self._data = self._data[self._at:] + data
        self._at = 0

    def next_event(self) -> Event | None:
        while self._undecided is None:
            if self._in_literal:
                if self._literal_left and self._at == len(self._data):
                    return None
                chunk = self._take_literal()
                if not self._skipping:
                    return chunk
                continue
            end = self._data.find(b"\n", max(self._searched, self._at)) + 1
            if not end:
                self._searched = len(self._data)
                return self._partial_line()
            line = self._data[self._at:end]
            self._at = self._searched = end
            if self._skipping:
                self._end_skipped_line(self._tail + line)
                continue
            return self._whole_line(line)
        return None

    def accept(self) -> None:
        """The synchronising literal is wanted."""
        literal, self._undecided = self._undecided, None
        if literal is not None:
            self._begin_literal(literal)

    def refuse(self) -> None:
        """It is not: the command is over, the client sends the next one (RFC 9051 section 4.3)."""
        self._undecided = None
        self._begin_command()

    @property
    def undecided(self) -> Literal | None:
        """The synchronising literal that waits for `accept` or `refuse`."""
        return self._undecided

    @property
    def between_commands(self) -> bool:
        """Nothing of a command has been read; unread bytes may be there."""
        return not (self._used or self._in_literal or self._skipping or self._undecided)

    @property
    def unread(self) -> int:
        """Bytes received and not given out."""
        return len(self._data) - self._at

    def take_rest(self) -> bytes:
        """Bytes received and not given out; they are forgotten here (hand-over to a relay, STARTTLS)."""
        rest = self._data[self._at:]
        self._data, self._at, self._searched = b"", 0, 0
        return rest

    def _whole_line(self, line: bytes) -> Event:
        literal = announced(line)
        self._used += len(line)
        if len(line) > self._limits.line or self._used > self._limits.command:
            return self._poison(line, "line" if len(line) > self._limits.line else "command", literal)
        if literal is None:
            self._used = 0
            return Line(line, None)
        if literal.size > self._limits.literal:
            return self._poison(line, "literal", literal)
        if literal.size + self._used > self._limits.command:
            return self._poison(line, "command", literal)
        if literal.sync:
            self._undecided = literal
        else:
            self._begin_literal(literal)
        return Line(line, literal)

    def _partial_line(self) -> Event | None:
        size = len(self._data) - self._at
        if self._skipping:
            self._tail = (self._tail + self._data[self._at:])[-_LONGEST_ANNOUNCEMENT:]
            self._at = len(self._data)
        elif size > self._limits.line or self._used + size > self._limits.command:
            limit = "line" if size > self._limits.line else "command"
            start = self._data[self._at:self._at + _START_KEPT]
            self._skipping = True
            self._tail = self._data[-_LONGEST_ANNOUNCEMENT:]
            self._at = len(self._data)
            return Overrun(start, limit, None)
        return None

    def _poison(self, line: bytes, limit: str, literal: Literal | None) -> Overrun:
        self._skipping = True
        self._end_skipped_line(line)
        return Overrun(line[:_START_KEPT], limit, literal)

    def _end_skipped_line(self, line: bytes) -> None:
        # A client that announced a synchronising literal sees the BAD and starts over; any other sends it regardless.
        self._tail = b""
        literal = announced(line)
        if literal is None or literal.sync:
            self._begin_command()
        else:
            self._begin_literal(literal)

    def _begin_literal(self, literal: Literal) -> None:
        self._in_literal = True
        self._literal_left = literal.size
        self._used += literal.size

    def _take_literal(self) -> Chunk:
        data = self._data
        if self._at or len(data) > self._literal_left:
            data = data[self._at:self._at + self._literal_left]
        self._at += len(data)
        self._searched = self._at
        self._literal_left -= len(data)
        self._in_literal = self._literal_left > 0
        return Chunk(data, not self._in_literal)

    def _begin_command(self) -> None:
        self._used = 0
        self._skipping = False
