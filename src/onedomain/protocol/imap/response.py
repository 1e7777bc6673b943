"""What an IMAP server says (RFC 9051 section 7, RFC 3501 too): bytes -> responses, for the side that asks.

Knows the grammar, literals and limits. Does not know which command an answer belongs to. Values come as plain Python:
atom -> str, number -> int, string or literal -> bytes, NIL -> None, parenthesised list -> list; `BODY[...]<n>` is an
atom.

A literal above `stream_above` isn't collected: Big, its Chunks, and then the response with that Big in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

from onedomain.protocol.imap.lines import Chunk, announced


class ResponseError(ValueError):
    """What came is no IMAP, or breaks a limit; the connection can't be used any more."""


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """Bytes of a line, of a collected literal, of all that one response makes us hold; depth of nested lists."""

    line: int = 4 * 1024 * 1024
    response: int = 16 * 1024 * 1024
    depth: int = 64
    stream_above: int | None = None


class Code(NamedTuple):
    """`[NAME values]` in a status response; name in capitals."""

    name: str
    values: list[Any]


class Tagged(NamedTuple):
    tag: str
    status: str  # OK, NO or BAD
    code: Code | None
    text: str


class Untagged(NamedTuple):
    """`* [number] NAME values`; for OK, NO, BAD, BYE and PREAUTH `code` and `text` instead of values."""

    name: str
    number: int | None
    values: list[Any]
    code: Code | None
    text: str


class Continuation(NamedTuple):
    text: str


class Big(NamedTuple):
    """A literal that is streamed; `before` is the response's line up to it, `{n}` included."""

    size: int
    before: bytes


LARGE = 1024 * 1024
"""Octets from which on a literal is never in memory twice, as pieces and as a whole; a BytesIO gives its own away."""

Response = Tagged | Untagged | Continuation
Event = Response | Big | Chunk

_STATUS = frozenset(("OK", "NO", "BAD", "BYE", "PREAUTH"))
_HAS_TEXT = re.compile(rb"(?i)\* (?:OK|NO|BAD|BYE|PREAUTH)(?: |\r?\n)")
_CODE = re.compile(rb'\[([^\]"]*(?:"(?:[^"\\]|\\.)*"[^\]"]*)*)\] ?')
_TOKEN = re.compile(
    rb' *(?:(\()|(\))|"((?:[^"\\\r\n]|\\[^\r\n])*)"|(~?\{\d+\+?\}\r?\n)'
    rb'|((?i:BODY|BINARY(?:\.SIZE)?)\[[^\]\r\n]*\](?:<\d+>)?|[^ ()"{\r\n][^ ()"\r\n]*))'
)
_NEEDS_CARE = re.compile(rb'["{\[]|\r[^\n]')
_ESCAPED = re.compile(rb"\\(.)")


class ResponseParser:
    """`receive(data)`, then `next_event()` until it is None. Raises ResponseError, and goes on raising it."""

    def __init__(self, limits: ResponseLimits | None = None) -> None:
        self._limits = limits or ResponseLimits()
        self._data = b""
        self._at = 0
        self._searched = 0
        self._pieces: list[bytes] = []       # finished lines of a response with literals
        self._literals: list[bytes | Big] = []
        self._collecting: list[bytes] = []
        self._large: BytesIO | None = None
        self._literal_left = 0
        self._in_literal = False
        self._streaming = False
        self._held = 0
        self._broken: ResponseError | None = None

    def receive(self, data: bytes) -> None:
        if self._at == len(self._data):
            self._data, self._searched = data, 0
        else:
            self._searched -= self._at
            self._data = self._data[self._at:] + data
        self._at = 0

    @property
    def holding(self) -> bool:
        """Whether bytes have come that were not given out."""
        return self._at < len(self._data) or bool(self._pieces)

    def next_event(self) -> Event | None:
        if self._broken is not None:
            raise self._broken
        try:
            return self._next()
        except ResponseError as error:
            self._broken = error
            self._data, self._at = b"", 0
            raise

    def take_rest(self) -> bytes:
        """Bytes received and not given out; forgotten here (hand-over to a relay, STARTTLS)."""
        rest = self._data[self._at:]
        self._data, self._at, self._searched = b"", 0, 0
        return rest

    def _next(self) -> Event | None:
        while True:
            if self._in_literal:
                if self._literal_left and self._at == len(self._data):
                    return None
                chunk = self._take_literal()
                if chunk is not None:
                    return chunk
                continue
            end = self._data.find(b"\n", max(self._searched, self._at)) + 1
            if not end:
                self._searched = len(self._data)
                if len(self._data) - self._at > self._limits.line:
                    raise ResponseError("line longer than the limit")
                return None
            line = self._data[self._at:end]
            self._at = self._searched = end
            event = self._line(line)
            if event is not None:
                return event

    def _line(self, line: bytes) -> Event | None:
        self._held += len(line)
        if len(line) > self._limits.line or self._held > self._limits.response:
            raise ResponseError("response longer than the limit")
        if not self._pieces:
            if not line.startswith(b"* "):
                self._held = 0
                return _continuation(line) if line.startswith(b"+") else _tagged(line)
            if _HAS_TEXT.match(line):  # free text may end in what looks like a literal
                self._held = 0
                return _status(line)
        literal = announced(line)
        self._pieces.append(line)
        if literal is not None:
            return self._begin_literal(literal.size, line)
        pieces, literals = self._pieces, self._literals
        self._pieces, self._literals, self._held = [], [], 0
        return _data_response(pieces, literals, self._limits.depth)

    def _begin_literal(self, size: int, line: bytes) -> Big | None:
        self._in_literal = True
        self._literal_left = size
        above = self._limits.stream_above
        self._streaming = above is not None and size > above
        if self._streaming:
            big = Big(size, line)
            self._literals.append(big)
            return big
        self._held += size
        if self._held > self._limits.response:
            raise ResponseError("literal larger than the limit")
        if size > LARGE:
            self._large = BytesIO()
        return None

    def _take_literal(self) -> Chunk | None:
        data = self._data
        if self._at or len(data) > self._literal_left:
            data = data[self._at:self._at + self._literal_left]
        self._at += len(data)
        self._searched = self._at
        self._literal_left -= len(data)
        last = self._literal_left == 0
        self._in_literal = not last
        if self._streaming:
            return Chunk(data, last)
        if self._large is not None:
            self._large.write(data)
            if last:
                self._literals.append(self._large.getvalue())
                self._large = None
            return None
        self._collecting.append(data)
        if last:
            self._literals.append(b"".join(self._collecting))
            self._collecting = []
        return None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _code_and_text(rest: bytes) -> tuple[Code | None, str]:
    rest = rest.strip(b"\r\n")
    found = _CODE.match(rest) if rest.startswith(b"[") else None
    if found is None:
        return None, _text(rest)
    name, _, values = found[1].partition(b" ")
    code = _text(name).upper()
    # At each log-in, and names only.
    parsed: list[Any] = _text(values).split() if code == "CAPABILITY" else _code_values(values)
    return Code(code, parsed), _text(rest[found.end():])


def _code_values(data: bytes) -> list[Any]:
    # A code may hold anything but "]" (resp-text-code's last alternative): what is no list of values stays one text.
    try:
        return parse_values([data], [], 8)
    except ResponseError:
        return [_text(data)]


def _tagged(line: bytes) -> Tagged:
    words = line.split(b" ", 2)
    status = _text(words[1].strip()).upper() if len(words) > 1 else ""
    if status not in ("OK", "NO", "BAD") or not words[0]:
        raise ResponseError(f"neither a tagged answer nor a response: {line[:80]!r}")
    code, text = _code_and_text(words[2] if len(words) > 2 else b"")
    return Tagged(_text(words[0]), status, code, text)


def _continuation(line: bytes) -> Continuation:
    if line[1:2] not in (b" ", b"\r", b"\n"):
        raise ResponseError(f"malformed continuation: {line[:80]!r}")
    return Continuation(_text(line[2:].rstrip(b"\r\n")) if line[1:2] == b" " else "")


def _status(line: bytes) -> Untagged:
    name, _, rest = line[2:].partition(b" ")
    code, text = _code_and_text(rest)
    return Untagged(_text(name.strip()).upper(), None, [], code, text)


def _data_response(pieces: list[bytes], literals: list[bytes | Big], depth: int) -> Untagged:
    line = pieces[0]
    if len(pieces) == 1 and not _NEEDS_CARE.search(line):
        values = _simple_values(line, depth)
    else:
        values = parse_values([line[2:], *pieces[1:]], literals, depth)
    number: int | None = None
    if values and isinstance(values[0], int):
        number = values.pop(0)
    if not values or not isinstance(values[0], str):
        raise ResponseError(f"response without a name: {pieces[0][:80]!r}")
    return Untagged(values[0].upper(), number, values[1:], None, "")


def _atom(data: bytes) -> Any:
    # "007" stays text, so that str() gives back a mailbox name that only looks like a number.
    if data.isdigit() and len(data) <= 20 and (data[:1] != b"0" or len(data) == 1):
        return int(data)
    if len(data) == 3 and data.upper() == b"NIL":
        return None
    return _text(data)


def parse_values(
    pieces: Sequence[bytes], literals: Iterable[bytes | Big], max_depth: int, atom: Callable[[bytes], Any] = _atom
) -> list[Any]:
    """Lines, all but the last ending in a literal's `{n}` -> values; `atom` makes one's value. Raises ResponseError."""
    top: list[Any] = []
    current = top
    outer: list[list[Any]] = []
    waiting = iter(literals)
    match = _TOKEN.match
    for piece in pieces:
        at, end = 0, len(piece.rstrip(b" \r\n"))
        while at < end:
            token = match(piece, at)
            if token is None:
                raise ResponseError(f"malformed response at {piece[at:at + 40]!r}")
            at = token.end()
            kind = token.lastindex
            if kind == 5:
                current.append(atom(token[5]))
            elif kind == 3:
                string = token[3]
                current.append(_ESCAPED.sub(rb"\1", string) if b"\\" in string else string)
            elif kind == 1:
                inner: list[Any] = []
                current.append(inner)
                outer.append(current)
                if len(outer) > max_depth:
                    raise ResponseError("lists nested too deep")
                current = inner
            elif kind == 2:
                if not outer:
                    raise ResponseError("unexpected )")
                current = outer.pop()
            elif kind == 4:
                current.append(next(waiting, b""))
    if outer:
        raise ResponseError("missing )")
    if next(waiting, None) is not None:
        raise ResponseError("a literal where none can be")
    return top


def _simple_values(line: bytes, max_depth: int) -> list[Any]:
    """What parse_values makes of a line without strings, literals and sections, three times as fast: nearly all
    lines of a large FETCH are such."""
    current: list[Any] = []
    outer: list[list[Any]] = []
    words = _text(line[2:].rstrip(b"\r\n")).replace("(", " ( ").replace(")", " ) ").split(" ")
    for word in words:
        if word == "(":
            if len(outer) == max_depth:
                raise ResponseError("lists nested too deep")
            outer.append(current)
            current = []
        elif word == ")":
            if not outer:
                raise ResponseError("unexpected )")
            inner, current = current, outer.pop()
            current.append(inner)
        elif word:
            if word.isdecimal() and word.isascii() and (word[0] != "0" or len(word) == 1) and len(word) <= 20:
                current.append(int(word))
            else:
                current.append(None if len(word) == 3 and word.upper() == "NIL" else word)
    if outer:
        raise ResponseError("missing )")
    return current


def fetched(values: list[Any]) -> dict[str, Any]:
    """The list of a FETCH response -> {"UID": 17, "FLAGS": ["\\Seen"], "BODY[]": b"..."}; names in capitals."""
    if len(values) != 1 or not isinstance(values[0], list) or len(values[0]) % 2:
        raise ResponseError("FETCH without pairs of names and values")
    items = values[0]
    return {str(items[i]).upper(): items[i + 1] for i in range(0, len(items), 2)}
