"""Bodies on the wire: dots, line ends, TOP; whole, byte by byte and at random splits."""

from __future__ import annotations

import poplib
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.pop3.body import BodyWriter


def write(pieces: list[bytes], lines: int | None = None) -> bytes:
    writer = BodyWriter(lines)
    return b"".join(writer.write(piece) for piece in pieces) + writer.finish()


TABLE: list[tuple[bytes, int | None, bytes]] = [
    (b"A: b\r\n\r\nhi\r\n", None, b"A: b\r\n\r\nhi\r\n.\r\n"),
    (b"A: b\r\n\r\nhi", None, b"A: b\r\n\r\nhi\r\n.\r\n"),
    (b"", None, b".\r\n"),
    (b".", None, b"..\r\n.\r\n"),
    (b".\r\n..\r\nx.\r\n", None, b"..\r\n...\r\nx.\r\n.\r\n"),
    (b"a\nb\n\n.\nc", None, b"a\r\nb\r\n\r\n..\r\nc\r\n.\r\n"),
    (b"a\r\nb\r\r\nc\r", None, b"a\r\nb\r\r\nc\r\r\n.\r\n"),
    (b"a\r\r", None, b"a\r\r\r\n.\r\n"),
    (b"A: b\r\n\r\n1\r\n2\r\n3\r\n", 0, b"A: b\r\n\r\n.\r\n"),
    (b"A: b\n\n1\n2\n3\n", 2, b"A: b\r\n\r\n1\r\n2\r\n.\r\n"),
    (b"A: b\r\n\r\n1\r\n\r\n.3\r\n4", 3, b"A: b\r\n\r\n1\r\n\r\n..3\r\n.\r\n"),
    (b"A: b\r\n\r\n1", 9, b"A: b\r\n\r\n1\r\n.\r\n"),
    (b"\r\n1\r\n2\r\n", 1, b"\r\n1\r\n.\r\n"),
    (b"A: b\r\n", 0, b"A: b\r\n.\r\n"),
]


@pytest.mark.parametrize("body, lines, wire", TABLE)
def test_whole_and_byte_by_byte(body: bytes, lines: int | None, wire: bytes) -> None:
    assert write([body], lines) == wire
    assert write([body[i:i + 1] for i in range(len(body))], lines) == wire


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"a", b"\r\n.\r\n", b"\0"]), max_size=20).map(b"".join),
    st.lists(st.integers(0, 40), max_size=5),
    st.none() | st.integers(0, 4),
)
def test_random_bodies_and_splits(body: bytes, cuts: list[int], lines: int | None) -> None:
    edges = [0, *sorted(cuts), len(body)]
    wire = write([body[a:b] for a, b in pairwise(edges)], lines)
    assert wire == write([body], lines)
    assert wire.endswith(b".\r\n") and b"\r\n.\r\n" not in wire[:-5]
    if lines is None:
        read = b"".join(unstuff(wire))
        assert read.replace(b"\r\n", b"\n").rstrip(b"\n") == body.replace(b"\r\n", b"\n").rstrip(b"\n")


def unstuff(wire: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in wire.split(b"\n")[:-1]]
    assert lines.pop() == b".\r\n"
    return [line[1:] if line.startswith(b".") else line for line in lines]


def test_poplib_reads_it_back() -> None:
    class Reader(poplib.POP3):
        def __init__(self, data: bytes) -> None:
            self.file = BytesIO(data)
            self._debugging = 0

    reader = Reader(b"+OK\r\n" + write([b".a\n..\n\nx"]))
    assert reader._getlongresp()[1] == [b".a", b"..", b"", b"x"]  # type: ignore[attr-defined]
