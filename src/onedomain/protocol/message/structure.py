"""What a message is made of: a tree of MIME parts with the spans of their headers and bodies (RFC 2045, 2046).

Knows headers, boundaries, nesting. Does not know IMAP, nor how a part is decoded. Nothing is an error: a message that
breaks the rules gets the tree that Dovecot and others give it. The message is any buffer with `find` and slices:
bytes or an mmap, so that a big one needs no memory; of a part nothing but spans is kept.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

Buffer = bytes | mmap.mmap
Span = tuple[int, int]

MAX_DEPTH = 50
MAX_PARTS = 10_000
MAX_HEADER = 1024 * 1024
"""Bytes of a header that are looked at; what is beyond still belongs to it."""

_BLANK_LINE = re.compile(rb"\n\r?\n")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:(.*(?:\n[ \t].*)*)", re.MULTILINE)
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_TOKEN = rb"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?=]+"
_TYPE = re.compile(rb"\s*(%b)\s*/\s*(%b)" % (_TOKEN, _TOKEN))
_VALUE = re.compile(rb"\s*([^\s;()]+)")
_PARAMETER = re.compile(
    rb'\s*;\s*(?:\([^()]*\)\s*)*(%b)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;()]*))' % _TOKEN, re.DOTALL
)
_STRAY = re.compile(rb"\s*(?:\([^()]*\)|[^;]*)")
_BLOCK = 1024 * 1024

Parameters = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Part:
    """One part. `header` includes the blank line, `body` ends before the line end that belongs to the boundary.

    `children` of a multipart; `message` of a message/rfc822. Type, subtype and encoding in lower case.
    """

    header: Span
    body: Span
    type: bytes = b"text"
    subtype: bytes = b"plain"
    parameters: Parameters = ((b"charset", b"us-ascii"),)
    encoding: bytes = b"7bit"
    disposition: tuple[bytes, Parameters] | None = None
    fields: dict[bytes, bytes] = field(default_factory=dict)  # by name in lower case: its first value, unfolded
    children: list[Part] = field(default_factory=list)
    message: Part | None = None

    @property
    def size(self) -> int:
        return self.body[1] - self.body[0]

    def parameter(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.parameters if key == name), None)

    def walk(self) -> Iterator[Part]:
        yield self
        for child in self.children:
            yield from child.walk()
        if self.message is not None:
            yield from self.message.walk()


def header_fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name as written, value unfolded and stripped) of each field, in order."""
    for found in _FIELD.finditer(header):
        yield found[1], _FOLD.sub(b"", found[2]).strip()


def raw_fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name in lower case, all the bytes of the field with its line ends) of each field, in order."""
    for found in _FIELD.finditer(header):
        # the expression stops before the last LF
        yield found[1].lower(), header[found.start():found.end() + 1]


def header_end(buffer: Buffer, start: int, end: int) -> int:
    """Where the body begins: after the first blank line; `end` where there is none."""
    if buffer[start:start + 1] == b"\n":
        return start + 1
    if buffer[start:start + 2] == b"\r\n":
        return start + 2
    found = _BLANK_LINE.search(buffer, start, end)
    return found.end() if found else end


def count_lines(buffer: Buffer, span: Span) -> int:
    """Line ends in a span."""
    return sum(buffer[at:min(at + _BLOCK, span[1])].count(b"\n") for at in range(span[0], span[1], _BLOCK))


def parse(buffer: Buffer, start: int, end: int) -> Part:
    """The tree of the message that is `buffer[start:end]`."""
    return _Parser(buffer).part(start, end, 0, digest=False)


def unquoted(value: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", value, flags=re.DOTALL)


def value_and_parameters(text: bytes) -> tuple[bytes, Parameters]:
    """`attachment; filename="a b"` -> (b"attachment", ((b"filename", b"a b"),)); names and value in lower case."""
    found = _VALUE.match(text)
    if found is None:
        return b"", ()
    return found[1].lower(), _parameters(text, found.end())


class _Parser:
    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._parts = 0

    def part(self, start: int, end: int, depth: int, digest: bool) -> Part:
        self._parts += 1
        middle = header_end(self._buffer, start, end)
        part = Part((start, middle), (middle, end))
        for name, value in header_fields(self._buffer[start:min(middle, start + MAX_HEADER)]):
            part.fields.setdefault(name.lower(), value)
        _describe(part, digest)
        if depth < MAX_DEPTH and self._parts < MAX_PARTS:
            if part.type == b"multipart":
                self._split(part, depth)
            elif part.type == b"message" and part.subtype in (b"rfc822", b"global") and part.encoding not in _ENCODED:
                part.message = self.part(middle, end, depth + 1, digest=False)
        elif part.type == b"multipart":
            part.type, part.subtype = b"application", b"octet-stream"
        if part.type == b"message" and part.subtype == b"rfc822" and part.message is None:
            part.type, part.subtype = b"application", b"octet-stream"  # nothing to describe: it is nobody's message
        return part

    def _split(self, part: Part, depth: int) -> None:
        boundary = part.parameter(b"boundary") or b""
        digest = part.subtype == b"digest"
        begin = -1
        for line, after, last in self._boundaries(boundary, part.body):
            if begin >= 0:
                part.children.append(self.part(begin, max(begin, line), depth + 1, digest))
            begin = -1 if last else after
            if last or self._parts >= MAX_PARTS:
                break
        if begin >= 0 and self._parts < MAX_PARTS:
            part.children.append(self.part(begin, part.body[1], depth + 1, digest))
        if not part.children:  # RFC 3501 wants at least one
            part.children.append(Part((part.body[1], part.body[1]), (part.body[1], part.body[1])))

    def _boundaries(self, boundary: bytes, span: Span) -> Iterator[tuple[int, int, bool]]:
        """(end of the part before, start of the part after, is it the last) of each boundary line."""
        if not boundary:
            return
        buffer, (start, end) = self._buffer, span
        mark = b"--" + boundary
        at = buffer.find(mark, start, end)
        while at >= 0:
            after = at + len(mark)
            newline = buffer.find(b"\n", after, end)
            line_end = newline + 1 if newline >= 0 else end
            rest = buffer[after:line_end].strip() if line_end - after < 256 else b"?"
            at_line_start = at == start or buffer[at - 1:at] == b"\n"
            if at_line_start and rest in (b"", b"--"):
                before = at - 1 if at > start else at
                if before > start and buffer[before - 1:before] == b"\r":
                    before -= 1
                yield before, line_end, rest == b"--"
                after = line_end
            at = buffer.find(mark, after, end)


_ENCODED = (b"base64", b"quoted-printable")


def _describe(part: Part, digest: bool) -> None:
    fields = part.fields
    if digest:
        part.type, part.subtype, part.parameters = b"message", b"rfc822", ()
    found = _TYPE.match(fields.get(b"content-type", b""))
    if found is not None:
        part.type, part.subtype = found[1].lower(), found[2].lower()
        part.parameters = _parameters(fields[b"content-type"], found.end())
    encoding = _VALUE.match(fields.get(b"content-transfer-encoding", b""))
    if encoding is not None:
        part.encoding = encoding[1].lower()
    if b"content-disposition" in fields:
        value, parameters = value_and_parameters(fields[b"content-disposition"])
        part.disposition = (value, parameters) if value else None


def _parameters(text: bytes, at: int) -> Parameters:
    parameters: list[tuple[bytes, bytes]] = []
    while at < len(text) and len(parameters) < 100:
        found = _PARAMETER.match(text, at)
        if found is not None:
            quoted = found[2]
            parameters.append((found[1].lower(), unquoted(quoted) if quoted is not None else found[3]))
            at = found.end()
            continue
        stray = _STRAY.match(text, at + 1 if text[at:at + 1] == b";" else at)
        at = max(at + 1, stray.end() if stray else at + 1)
    return tuple(parameters)
