"""Whether one message fits a search key (RFC 3501 section 6.4.4): its flags, dates and words.

Knows what a key means. Does not know how messages are found: it is given one, and reads its body only if a key asks.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_tz

from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.node.store.bodies import LARGE, BodyFile
from onedomain.node.store.values import NO_DOUBT, Doubt, Message
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap.flags import has
from onedomain.protocol.message.structure import Buffer, Part, header_end, header_fields, parse
from onedomain.protocol.message.text import decode_header, fold, part_text

DELIVERY = DELIVERY_ID_HEADER.lower()
MAX_HEADER = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """One message as a key sees it. `body` opens its bytes, None where it is gone; the caller's to close."""

    number: int
    message: Message
    recent: bool
    body: Callable[[], BodyFile | None]


@dataclass(frozen=True, slots=True)
class Question:
    """A key with what is found out once for all messages: the numbers behind its sets, ids looked up, the time."""

    key: c.Key
    now: int
    sets: Mapping[c.Among, frozenset[int]]
    deliveries: Mapping[str, frozenset[int]]
    doubt: Doubt = NO_DOUBT


def needs_body(key: c.Key) -> bool:
    match key:
        case c.And(keys=keys):
            return any(map(needs_body, keys))
        case c.Or(left=left, right=right):
            return needs_body(left) or needs_body(right)
        case c.Not(key=inner):
            return needs_body(inner)
        case c.HeaderText(name=name, text=text):
            return name != DELIVERY or not text
        case c.BodyText() | c.Day(sent=True):
            return True
    return False


def matches(question: Question, candidate: Candidate) -> bool:
    """Raises OSError where the body can't be read."""
    return _Matching(question, candidate).fits(question.key)


class _Matching:
    def __init__(self, question: Question, candidate: Candidate) -> None:
        self._question = question
        self._candidate = candidate
        self._header: list[tuple[str, bytes]] | None = None

    def fits(self, key: c.Key) -> bool:
        message = self._candidate.message
        match key:
            case c.All():
                return True
            case c.And(keys=keys):
                # What is in memory first: the body is read only where all of that fits
                return all(map(self.fits, sorted(keys, key=needs_body)))
            case c.Or(left=left, right=right):
                first, second = sorted((left, right), key=needs_body)
                return self.fits(first) or self.fits(second)
            case c.Not(key=inner):
                return not self.fits(inner)
            case c.Flag(flag=flag):
                return self._candidate.recent if flag == r"\Recent" else has(message.flags, flag)
            case c.Among(uid=uid):
                return (message.uid if uid else self._candidate.number) in self._question.sets[key]
            case c.Size(size=size, larger=larger):
                return message.size > size if larger else message.size < size
            case c.Modified(modseq=modseq):
                return message.modseq > self._question.doubt.since(modseq - 1)
            case c.Age(seconds=seconds, older=older):
                return (message.date <= self._question.now - seconds) is older
            case c.Day(sent=False):
                return _on_day(key, datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=message.date))
            case c.Day():
                sent = self._sent()
                return sent is not None and _on_day(key, sent)
            case c.HeaderText(name=name, text=text):
                if name == DELIVERY and text:
                    return message.uid in self._question.deliveries[text]
                return self._in_header(name, fold(text))
            case c.BodyText(text=text, header=header):
                return self._in_text(fold(text), header)

    def _fields(self) -> list[tuple[str, bytes]]:
        """Of the header. Values are decoded where they are looked at: most searches want one field of many messages."""
        if self._header is None:
            file = self._candidate.body()
            if file is None:
                self._header = []
            else:
                with file:
                    self._header = _fields(_read_header(file))
        return self._header

    def _sent(self) -> datetime.datetime | None:
        """RFC 3501: the Date header's day as it is written, without its zone."""
        text = next((value for name, value in self._fields() if name == "date"), b"")
        parsed = parsedate_tz(_shown(text))
        if parsed is None:
            return None
        try:
            return datetime.datetime(*parsed[:3])
        except (ValueError, OverflowError):
            return None

    def _in_header(self, name: str, text: str) -> bool:
        return any(field == name and text in _shown(value) for field, value in self._fields())

    def _in_text(self, text: str, header: bool) -> bool:
        if header and any(text in _shown(value) for _, value in self._fields()):
            return True
        file = self._candidate.body()
        if file is None:
            return False
        with file:
            if file.size <= LARGE:
                data = file.read(0, file.size)
                return _in_parts(data, parse(data, 0, len(data)), text)
            mapped, base = file.map()
            with mapped:
                return _in_parts(mapped, parse(mapped, base, base + file.size), text)


def _in_parts(buffer: Buffer, root: Part, text: str) -> bool:
    for part in root.walk():
        if part.type == b"text" and text in fold(part_text(buffer, part)):
            return True
        if part.message is not None:
            start, end = part.message.header
            if any(text in _shown(value) for _, value in _fields(buffer[start:min(end, start + MAX_HEADER)])):
                return True
    return False


def _fields(header: bytes) -> list[tuple[str, bytes]]:
    """(name in lower case, value as it is written) of each."""
    return [(name.decode("ascii").lower(), value) for name, value in header_fields(header)]


def _shown(value: bytes) -> str:
    """Decoded and folded, to be compared."""
    return fold(decode_header(value))


def _read_header(file: BodyFile) -> bytes:
    size = 16 * 1024
    while True:
        data = file.read(0, size)
        end = header_end(data, 0, len(data))
        if end < len(data) or size >= min(file.size, MAX_HEADER):
            return data[:end]
        size *= 4


def _on_day(key: c.Day, moment: datetime.datetime) -> bool:
    day = moment.date()
    match key.relation:
        case "BEFORE":
            return day < key.day
        case "ON":
            return day == key.day
    return day >= key.day
