"""What a server says, as bytes: strings, flags, dates, names, ENVELOPE and BODYSTRUCTURE (RFC 3501 section 7).

Knows how values are written. Does not know when they are sent.
"""

from __future__ import annotations

import datetime
import re

from onedomain.protocol.imap import mutf7
from onedomain.protocol.imap.cursor import MONTHS
from onedomain.protocol.message.addresses import parse_addresses
from onedomain.protocol.message.structure import Buffer, Parameters, Part, count_lines

NIL = b"NIL"
MAX_QUOTED = 1024

_QUOTABLE = re.compile(rb"[\x20-\x7e]*")
_ATOM = re.compile(rb"[A-Za-z0-9.,/&+=_$#!'^~:;@?<>|`-]+")
_ENVELOPE_ADDRESSES = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")


def string(value: bytes) -> bytes:
    """Quoted where that can be, else a literal."""
    if len(value) <= MAX_QUOTED and _QUOTABLE.fullmatch(value):
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return literal(value)


def literal(value: bytes) -> bytes:
    return b"{%d}\r\n" % len(value) + value


def nstring(value: bytes | None) -> bytes:
    return NIL if value is None else string(value)


def mailbox(name: str) -> bytes:
    """In modified UTF-7; an atom where that can be."""
    spelled = mutf7.encode(name).encode("ascii")
    return spelled if _ATOM.fullmatch(spelled) and spelled.upper() != NIL else string(spelled)


def flags(canonical: str, recent: bool = False) -> bytes:
    text = canonical.encode("ascii")
    if recent:
        text = text + rb" \Recent" if text else rb"\Recent"
    return b"(" + text + b")"


def internal_date(seconds: int) -> bytes:
    """A date-time in UTC: the instant is what is kept."""
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f'"{moment.day:2d}-{MONTHS[moment.month - 1]}-{moment.year:04d} {moment:%H:%M:%S} +0000"'.encode("ascii")


def envelope(fields: dict[bytes, bytes]) -> bytes:
    """RFC 3501 section 7.4.2; `fields` by name in lower case, unfolded."""
    lists = {name: _addresses(fields.get(name)) for name in _ENVELOPE_ADDRESSES}
    for name in (b"sender", b"reply-to"):
        if lists[name] == NIL:
            lists[name] = lists[b"from"]
    parts = [nstring(fields.get(b"date")), nstring(fields.get(b"subject")), *lists.values()]
    parts += [nstring(fields.get(b"in-reply-to")), nstring(fields.get(b"message-id"))]
    return b"(" + b" ".join(parts) + b")"


def _addresses(value: bytes | None) -> bytes:
    if not value:
        return NIL
    found = parse_addresses(value)
    if not found:
        return NIL
    return b"(" + b"".join(b"(" + b" ".join(map(nstring, each)) + b")" for each in found) + b")"


def body_structure(buffer: Buffer, part: Part, extended: bool) -> bytes:
    """BODYSTRUCTURE, or without `extended` BODY."""
    if part.type == b"multipart":
        inner = b"".join(body_structure(buffer, child, extended) for child in part.children)
        rest = [string(part.subtype)]
        if extended:
            rest += [_parameters(part.parameters), *_extension(part)]
        return b"(" + inner + b" " + b" ".join(rest) + b")"
    fields = [
        string(part.type), string(part.subtype), _parameters(part.parameters),
        nstring(part.fields.get(b"content-id")), nstring(part.fields.get(b"content-description")),
        string(part.encoding), b"%d" % part.size,
    ]
    if part.message is not None:
        fields += [envelope(part.message.fields), body_structure(buffer, part.message, extended)]
    if part.message is not None or part.type == b"text":
        fields.append(b"%d" % count_lines(buffer, part.body))
    if extended:
        fields += [nstring(part.fields.get(b"content-md5")), *_extension(part)]
    return b"(" + b" ".join(fields) + b")"


def _extension(part: Part) -> list[bytes]:
    disposition = NIL
    if part.disposition is not None:
        value, parameters = part.disposition
        disposition = b"(" + string(value) + b" " + _parameters(parameters) + b")"
    languages = _languages(part.fields.get(b"content-language"))
    return [disposition, languages, nstring(part.fields.get(b"content-location"))]


def _languages(value: bytes | None) -> bytes:
    tags = [tag.strip() for tag in (value or b"").split(b",") if tag.strip()]
    if len(tags) < 2:
        return string(tags[0]) if tags else NIL
    return b"(" + b" ".join(map(string, tags)) + b")"


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return NIL
    return b"(" + b" ".join(string(each) for pair in parameters for each in pair) + b")"
