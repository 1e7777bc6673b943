"""Lists of FETCH lines: what becomes a row, and that everything else is read as it always is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedomain.model.replica import Row
from onedomain.protocol.imap.response import ResponseError, Tagged, Untagged
from onedomain.protocol.imap.rows import RowParser, internal_date, message_flags

SEEN = frozenset({"\\Seen"})
DATES = [
    (b"01-Jan-1970 00:00:00 +0000", 0),
    (b" 1-Jan-1970 00:00:00 +0000", 0),
    (b"29-Nov-2026 02:52:18 +0000", 1795920738),
    (b"29-nov-2026 11:52:18 +0900", 1795920738),
    (b"28-Nov-2026 21:22:18 -0530", 1795920738),
    (b"31-Dec-1959 23:00:00 -0100", -315619200),
    (b"1-Jan-1970 00:00:07 +0000", 7),
]


@pytest.mark.parametrize(("text", "seconds"), DATES)
def test_dates(text: bytes, seconds: int) -> None:
    assert internal_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [b"", b"x" * 26, b"31-Feb-2026 00:00:00 +0000", b"01-Foo-2026 00:00:00 +0000", b"01-Jan-2026 00:00:00", b"\xff"],
)
def test_no_dates(text: bytes) -> None:
    with pytest.raises(ResponseError):
        internal_date(text)


def test_flags() -> None:
    assert message_flags(["\\seen", "\\RECENT", "Work", "\\Odd"]) == {"\\Seen", "Work", "\\Odd"}


STREAM = (
    b'* 1 FETCH (UID 5 FLAGS (\\Seen \\Recent) INTERNALDATE "01-Jan-1970 00:00:09 +0000" MODSEQ (12))\r\n'
    b'* 2 FETCH (FLAGS () INTERNALDATE " 1-Jan-1970 00:00:01 +0000" UID 6)\r\n'
    b"* VANISHED (EARLIER) 1:4\r\n"
    b"* 2 FETCH (UID 6 FLAGS (\\Seen))\r\n"
    b'* 3 FETCH (UID 7 INTERNALDATE "01-Jan-1970 00:00:02 +0000" FLAGS ({4}\r\nodd!) MODSEQ (9))\r\n'
    b'* 4 FETCH (MODSEQ (30) UID 8 FLAGS (Work) INTERNALDATE "01-Jan-1970 00:00:03 +0000")\r\n'
    b"* OK FETCH (UID 9 FLAGS () INTERNALDATE \"01-Jan-1970 00:00:03 +0000\")\r\n"
    b"a1 OK done\r\n"
)


def read(parser: RowParser, data: bytes, size: int) -> list[object]:
    events: list[object] = []
    for start in range(0, len(data), size):
        parser.receive(data[start : start + size])
        while (event := parser.next_event()) is not None:
            events.append(event)
    return events


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_rows_and_everything_else(size: int) -> None:
    parser = RowParser()
    parser.collect()
    events = read(parser, STREAM, size)
    assert parser.highest == 30
    assert parser.collected() == [Row(5, SEEN, 9), Row(6, frozenset(), 1), Row(8, frozenset({"Work"}), 3)]
    names = [event.name if isinstance(event, Untagged) else "" for event in events]
    assert names == ["VANISHED", "FETCH", "FETCH", "OK", ""]
    assert isinstance(events[-1], Tagged) and parser.collected() == []


def test_without_being_asked_it_is_the_ordinary_parser() -> None:
    parser = RowParser()
    assert len(read(parser, STREAM, 10_000)) == 8 and not parser.rows


@given(st.binary(max_size=300))
def test_random_bytes(noise: bytes) -> None:
    parser = RowParser()
    parser.collect()
    try:
        read(parser, STREAM[:100] + noise + b"\r\n", 50)
    except ResponseError:
        pass
