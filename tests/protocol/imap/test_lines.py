"""The Fragmentizer: every input whole, byte by byte, at random splits; limits; random bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.lines import Chunk, Fragmentizer, Limits, Line, Literal, Overrun, announced

SMALL = Limits(line=40, literal=20, command=70)


def run(pieces: list[bytes], limits: Limits | None = None, refuse: bool = False) -> list[object]:
    """Events of the pieces, with neighbouring chunks of one literal joined so that splits don't show."""
    lines = Fragmentizer(limits)
    events: list[object] = []
    for piece in pieces:
        lines.receive(piece)
        while (event := lines.next_event()) is not None or lines.undecided:
            if event is None:
                (lines.refuse if refuse else lines.accept)()
            elif isinstance(event, Chunk) and events and isinstance(events[-1], Chunk) and not events[-1].last:
                events[-1] = Chunk(events[-1].data + event.data, event.last)
            else:
                events.append(event)
    return events


def sync(size: int) -> Literal:
    return Literal(size, True, False)


def plus(size: int) -> Literal:
    return Literal(size, False, False)


TABLE: list[tuple[bytes, list[object]]] = [
    (b"a NOOP\r\n", [Line(b"a NOOP\r\n", None)]),
    (b"a NOOP\nb NOOP\r\n", [Line(b"a NOOP\n", None), Line(b"b NOOP\r\n", None)]),
    (
        b"A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man\r\n",  # RFC 3501 section 7.5
        [
            Line(b"A001 LOGIN {11}\r\n", sync(11)),
            Chunk(b"FRED FOOBAR", True),
            Line(b" {7}\r\n", sync(7)),
            Chunk(b"fat man", True),
            Line(b"\r\n", None),
        ],
    ),
    (b"a X {3+}\r\n\r\n\n\r\n", [Line(b"a X {3+}\r\n", plus(3)), Chunk(b"\r\n\n", True), Line(b"\r\n", None)]),
    (b"a X {0}\r\n\r\n", [Line(b"a X {0}\r\n", sync(0)), Chunk(b"", True), Line(b"\r\n", None)]),
    (b"a X {0+}\r\n\r\n", [Line(b"a X {0+}\r\n", plus(0)), Chunk(b"", True), Line(b"\r\n", None)]),
    (b"a X ~{1+}\n\0\n", [Line(b"a X ~{1+}\n", Literal(1, False, True)), Chunk(b"\0", True), Line(b"\n", None)]),
    (b"a X {3-}\r\n", [Line(b"a X {3-}\r\n", None)]),
    (b"a X {}\r\n", [Line(b"a X {}\r\n", None)]),
    (b"a X {3} \r\n", [Line(b"a X {3} \r\n", None)]),
    (b"}\r\n}\n\n", [Line(b"}\r\n", None), Line(b"}\n", None), Line(b"\n", None)]),
]


@pytest.mark.parametrize("data, expected", TABLE)
def test_whole_and_byte_by_byte(data: bytes, expected: list[object]) -> None:
    assert run([data]) == expected
    assert run([data[i:i + 1] for i in range(len(data))]) == expected


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(TABLE), st.lists(st.integers(0, 60)))
def test_random_splits(row: tuple[bytes, list[object]], cuts: list[int]) -> None:
    data, expected = row
    edges = [0, *sorted(cuts), len(data)]
    assert run([data[a:b] for a, b in pairwise(edges)]) == expected


def test_refused_literal_is_not_awaited() -> None:
    assert run([b"a APPEND x {5}\r\n", b"b NOOP\r\n"], refuse=True) == [
        Line(b"a APPEND x {5}\r\n", sync(5)),
        Line(b"b NOOP\r\n", None),
    ]


LONG = b"a " + b"x" * 50
AFTER = Line(b"b NOOP\r\n", None)
OVER: list[tuple[bytes, Overrun]] = [
    (LONG + b"\r\n", Overrun(LONG + b"\r\n", "line", None)),
    (b"a X {21}\r\n", Overrun(b"a X {21}\r\n", "literal", sync(21))),
    (b"a X {21+}\r\n" + b"\n" * 21 + b" tail\r\n", Overrun(b"a X {21+}\r\n", "literal", plus(21))),
    (LONG + b"{3+}\r\n\n\n\n y {2+}\r\n\n\n\r\n", Overrun(LONG + b"{3+}\r\n", "line", plus(3))),
    (LONG + b"{3}\r\n", Overrun(LONG + b"{3}\r\n", "line", sync(3))),
]


@pytest.mark.parametrize("data, expected", OVER)
def test_an_overrun_is_told_once_and_skipped_in_step(data: bytes, expected: Overrun) -> None:
    assert run([data + b"b NOOP\r\n"], SMALL) == [expected, AFTER]
    told, after = run([(data + b"b NOOP\r\n")[i:i + 1] for i in range(len(data) + 8)], SMALL)
    assert isinstance(told, Overrun)
    assert (told.limit, told.start[:2], after) == (expected.limit, b"a ", AFTER)


def test_many_literals_add_up_to_the_command_limit() -> None:
    events = run([b"a X" + (b" {15+}\r\n" + b"y" * 15) * 3 + b"\r\nb NOOP\r\n"], SMALL)
    assert [type(e) for e in events] == [Line, Chunk, Line, Chunk, Overrun, Line]
    assert events[-2] == Overrun(b" {15+}\r\n", "command", plus(15))
    assert events[-1] == AFTER


def test_the_limit_is_each_commands_own() -> None:
    assert len(run([b"a NOOP " + b"x" * 30 + b"\r\n"] * 10, SMALL)) == 10
    assert len(run([b"a {19+}\r\n" + b"x" * 19 + b"\r\n"] * 10, SMALL)) == 30


def test_an_endless_line_takes_no_memory() -> None:
    lines = Fragmentizer(SMALL)
    overruns = 0
    for _ in range(2000):
        lines.receive(b"x" * 1000)
        overruns += isinstance(lines.next_event(), Overrun)
        assert len(lines.take_rest()) <= 40
    assert overruns == 1


def test_the_rest_is_handed_on() -> None:
    lines = Fragmentizer()
    lines.receive(b"a STARTTLS\r\nb LOGIN x y\r\n")
    assert lines.next_event() == Line(b"a STARTTLS\r\n", None)
    assert lines.between_commands
    assert lines.take_rest() == b"b LOGIN x y\r\n"
    assert lines.next_event() is None
    lines.receive(b"c NOOP\r\n")
    assert lines.next_event() == Line(b"c NOOP\r\n", None)


def test_huge_number_is_no_integer_bomb() -> None:
    assert announced(b"a {" + b"9" * 20 + b"}\r\n") == sync(int("9" * 20))
    assert announced(b"a {" + b"9" * 21 + b"}\r\n") is None


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"{2}\r\n", b"{3+}\r\n", b"\r\n", b"a X "]), max_size=12))
def test_random_bytes_are_all_accounted_for(pieces: list[bytes]) -> None:
    generous = Limits(line=10**6, literal=10**25, command=10**26)
    whole = b"".join(pieces)
    given_out = b"".join(e.data for e in run(pieces, generous))  # type: ignore[attr-defined]
    assert whole.startswith(given_out)
    assert run(pieces, SMALL) is not None
