"""Long lists of FETCH lines, `* 7 FETCH (UID 9 FLAGS (\\Seen) INTERNALDATE "…" MODSEQ (12))`, read without detours.

Knows that one shape, in any order of its items, and INTERNALDATE; and lines of LIST and STATUS that it has read before.
Every other response is the ordinary parser's. A first copy reads all lines of a mailbox: with one regular expression a
line costs two microseconds, not twenty. A look at an account in which nothing has changed reads the same lines again.
"""

from __future__ import annotations

import datetime
import re
from functools import lru_cache
from typing import Any

from onedomain.model.replica import Row
from onedomain.protocol.imap.cursor import MONTHS
from onedomain.protocol.imap.flags import SYSTEM
from onedomain.protocol.imap.response import Event, ResponseError, ResponseLimits, ResponseParser

MAX_ROWS = 2_000_000
MAX_CACHED = 10_000
MAX_REPEATED = 4000
_REPEATED = (b"* LIST ", b"* STATUS ")

_ROW = re.compile(
    rb'\* \d{1,10} FETCH \((?: ?UID (\d{1,10})| ?FLAGS \(([^()"{\r\n]*)\)| ?INTERNALDATE "([^"\r\n]{26})"'
    rb"| ?MODSEQ \((\d{1,20})\))+\)\r?\n"
)
_DATE = re.compile(r" ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_MONTH = {name.lower(): number for number, name in enumerate(MONTHS, 1)}
_SYSTEM = {flag.lower(): flag for flag in SYSTEM}


class RowParser(ResponseParser):
    """While `collecting`, lines with UID, FLAGS and INTERNALDATE become `rows`; all other responses are events.

    `highest` is the largest MODSEQ among them. A line of LIST or STATUS that comes again becomes the same event.
    """

    def __init__(self, limits: ResponseLimits | None = None) -> None:
        super().__init__(limits)
        self.collecting = False
        self.rows: list[Row] = []
        self.highest = 0
        self._flags: dict[bytes, frozenset[str]] = {}
        self._seen: dict[bytes, Event] = {}

    def collect(self) -> None:
        self.collecting, self.rows, self.highest = True, [], 0

    def collected(self) -> list[Row]:
        rows, self.rows = self.rows, []
        self.collecting = False
        return rows

    def _line(self, line: bytes) -> Event | None:
        if self._pieces:
            return super()._line(line)
        if line.startswith(_REPEATED):
            return self._seen.get(line) or self._repeated(line)
        if not self.collecting:
            return super()._line(line)
        found = _ROW.fullmatch(line)
        if found is None:
            return super()._line(line)
        uid, flags, date, modseq = found.groups()
        if uid is None or flags is None or date is None:
            return super()._line(line)
        known = self._flags.get(flags)
        if known is None:
            known = self._learn(flags)
        if modseq is not None and (number := int(modseq)) > self.highest:
            self.highest = number
        self.rows.append(Row(int(uid), known, internal_date(date)))
        if len(self.rows) > MAX_ROWS:
            raise ResponseError("more messages than anybody has")
        return None

    def _repeated(self, line: bytes) -> Event | None:
        event = super()._line(line)
        if event is not None:  # else a literal follows
            if len(self._seen) >= MAX_REPEATED:
                self._seen.clear()
            self._seen[line] = event
        return event

    def _learn(self, flags: bytes) -> frozenset[str]:
        if len(self._flags) >= MAX_CACHED:
            self._flags.clear()
        known = self._flags[flags] = message_flags(flags.decode("utf-8", "replace").split())
        return known


def message_flags(values: Any) -> frozenset[str]:
    r"""The list of a FLAGS item -> flags in one spelling, without \Recent, which belongs to a session."""
    spelled = {_SYSTEM.get(text.lower(), text) for text in map(str, values)}
    return frozenset(flag for flag in spelled if flag.lower() != "\\recent")


def internal_date(date: bytes) -> int:
    """`29-Nov-2026 02:52:18 +0000` -> seconds since 1970. Raises ResponseError."""
    try:
        zone = _zone(date[20:])
        return _day(date[:11]) + int(date[12:14]) * 3600 + int(date[15:17]) * 60 + int(date[18:20]) - zone
    except ValueError:
        return _odd_date(date)


@lru_cache(maxsize=4096)
def _day(date: bytes) -> int:
    number, month, year = date.decode("ascii").split("-")
    moment = datetime.date(int(year), _MONTH.get(month.lower(), 0), int(number))
    return (moment - datetime.date(1970, 1, 1)).days * 86400


@lru_cache(maxsize=256)
def _zone(zone: bytes) -> int:
    if len(zone) != 6 or zone[:1] != b" ":
        raise ValueError(zone)
    seconds = int(zone[2:4]) * 3600 + int(zone[4:6]) * 60
    return {b"+": seconds, b"-": -seconds}.get(zone[1:2], 0)


def _odd_date(date: bytes) -> int:
    """One digit for the day without the blank (RFC 2060 servers)."""
    found = _DATE.fullmatch(date.decode("latin-1"))
    try:
        if found is None:
            raise ValueError
        day, month, year, hour, minute, second, sign, east, minutes = found.groups()
        number = datetime.date(int(year), _MONTH[month.lower()], int(day))
    except (ValueError, KeyError):
        raise ResponseError(f"no date: {date[:40]!r}") from None
    zone = (int(east) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
    days = (number - datetime.date(1970, 1, 1)).days
    return days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second) - zone
