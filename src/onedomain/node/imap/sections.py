"""What FETCH asks of one message's bytes: ENVELOPE, BODYSTRUCTURE, BODY[...], cut out and written for the wire.

Knows sections (RFC 3501 section 6.4.5) and how little of a body each needs. Runs in a reader's thread. Small bodies
are read whole; of large ones only spans are returned, to be sent piece by piece.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field

from onedomain.node.store.bodies import LARGE, BodyFile
from onedomain.node.store.readers import Reading
from onedomain.node.store.values import Message
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap import render
from onedomain.protocol.message.structure import Buffer, Part, Span, header_end, header_fields, parse, raw_fields

_HEADER_STEP = 16 * 1024
_MAX_HEADER = 16 * 1024 * 1024


@dataclass(slots=True)
class Pieces:
    """The answer in order: bytes, and spans of `file`, which is open only where there are spans."""

    pieces: list[bytes | Span] = field(default_factory=list)
    file: BodyFile | None = None


def cut(reading: Reading, message: Message, items: Sequence[str | c.Section]) -> Pieces | None:
    """`item value item value …`; None where the message is gone. The caller closes `file`."""
    file = reading.body(message.body)
    if file is None:
        return None
    keep = False
    try:
        with _Source(file) as source:
            pieces = Pieces()
            for number, item in enumerate(items):
                if number:
                    pieces.pieces.append(b" ")
                pieces.pieces += _item(source, item)
            keep = any(not isinstance(piece, bytes) for piece in pieces.pieces)
            pieces.file = file if keep else None
            return pieces
    finally:
        if not keep:
            file.close()


class _Source:
    """One message, read as far as the items need it."""

    def __init__(self, file: BodyFile) -> None:
        self.file = file
        self.size = file.size
        self._data: Buffer | None = None
        self.base = 0  # where the message begins in `buffer`
        self._header: bytes | None = None
        self._root: Part | None = None

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    @property
    def buffer(self) -> Buffer:
        """The body as one buffer; a large one is mapped."""
        if self._data is None:
            if self.size <= LARGE:
                self._data = self.file.read(0, self.size)
            else:
                self._data, self.base = self.file.map()
        return self._data

    @property
    def root(self) -> Part:
        if self._root is None:
            buffer = self.buffer
            self._root = parse(buffer, self.base, self.base + self.size)
        return self._root

    @property
    def header(self) -> bytes:
        """The message's own header with its blank line, without reading the rest of a message."""
        if self._header is None:
            if self._data is not None and isinstance(self._data, bytes):
                return self._data[:header_end(self._data, 0, self.size)]
            size = _HEADER_STEP
            while True:
                data = self.file.read(0, size)
                end = header_end(data, 0, len(data))
                if end < len(data) or size >= min(self.size, _MAX_HEADER):
                    break
                size *= 4
            self._header = data[:end]
        return self._header

    def fields(self) -> dict[bytes, bytes]:
        fields: dict[bytes, bytes] = {}
        for name, value in header_fields(self.header):
            fields.setdefault(name.lower(), value)
        return fields


def _item(source: _Source, item: str | c.Section) -> list[bytes | Span]:
    if isinstance(item, c.Section):
        return _section(source, item)
    if item == "ENVELOPE":
        return [b"ENVELOPE " + render.envelope(source.fields())]
    root = source.root
    return [item.encode() + b" " + render.body_structure(source.buffer, root, extended=item == "BODYSTRUCTURE")]


def _section(source: _Source, section: c.Section) -> list[bytes | Span]:
    label = section.label
    if section.partial is not None:
        label += b"<%d>" % section.partial[0]
    found = _bytes_or_span(source, section)
    if found is None:
        return [label + b" NIL"]
    if isinstance(found, bytes):
        if section.partial is not None:
            first, length = section.partial
            found = found[first:first + length]
        return [label + b" " + render.literal(found)]
    start, end = found
    if section.partial is not None:
        first, length = section.partial
        start = min(end, start + first)
        end = min(end, start + length)
    if end - start <= LARGE:
        return [label + b" " + render.literal(source.file.read(start, end - start))]
    return [label + b" {%d}\r\n" % (end - start), (start, end)]


def _bytes_or_span(source: _Source, section: c.Section) -> bytes | Span | None:
    """Spans are offsets in the message."""
    if not section.part:
        match section.text:
            case "":
                return (0, source.size)
            case "HEADER":
                return source.header
            case "TEXT":
                return (len(source.header), source.size)
        return _some_fields(source.header, section)
    part = _find(source.root, section.part)
    if part is None:
        return None
    if section.text == "MIME":
        return _within(source, part.header)
    if not section.text:
        return _within(source, part.body)
    message = part.message  # RFC 3501: HEADER and TEXT of a part are those of the message in it
    if message is None:
        return None
    if section.text == "TEXT":
        return _within(source, message.body)
    if section.text == "HEADER":
        return _within(source, message.header)
    start, end = _within(source, message.header)
    return _some_fields(source.file.read(start, min(end - start, _MAX_HEADER)), section)


def _within(source: _Source, span: Span) -> Span:
    return (span[0] - source.base, span[1] - source.base)


def _find(root: Part, path: Sequence[int]) -> Part | None:
    """RFC 3501 section 6.4.5: every message has at least part 1, its body where it is no multipart."""
    part, is_message = root, True
    for number in path:
        if not is_message and part.message is not None:
            part, is_message = part.message, True
        if part.children:
            if number > len(part.children):
                return None
            part, is_message = part.children[number - 1], False
        elif is_message and number == 1:
            is_message = False
        else:
            return None
    return part


def _some_fields(header: bytes, section: c.Section) -> bytes:
    wanted = {name.lower() for name in section.fields}
    keep = section.text == "HEADER.FIELDS"
    return b"".join(raw for name, raw in raw_fields(header) if (name in wanted) is keep) + b"\r\n"
