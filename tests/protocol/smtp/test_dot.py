"""Dot-stuffing: undone by a naive receiver it gives the body back, however it was cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.smtp.dot import DotStuffer

TABLE = [
    (b"", b".\r\n"),
    (b"a", b"a\r\n.\r\n"),
    (b"a\r\n", b"a\r\n.\r\n"),
    (b".", b"..\r\n.\r\n"),
    (b".\r\n", b"..\r\n.\r\n"),
    (b"..a\r\n.b\r\n", b"...a\r\n..b\r\n.\r\n"),
    (b"a\r\n.\r\nMAIL FROM:<x@y>\r\n", b"a\r\n..\r\nMAIL FROM:<x@y>\r\n.\r\n"),
    (b"\r\n\r\n.", b"\r\n\r\n..\r\n.\r\n"),
    (b"a\n.\r\n", b"a\n.\r\n.\r\n"),
    (b"a\r.\r\n", b"a\r.\r\n.\r\n"),
    (b"a\r", b"a\r\r\n.\r\n"),
    (b"a\n", b"a\n\r\n.\r\n"),
]


def stuffed(*chunks: bytes) -> bytes:
    stuffer = DotStuffer()
    return b"".join(stuffer.stuff(chunk) for chunk in chunks) + stuffer.end()


@pytest.mark.parametrize(("body", "wire"), TABLE)
def test_whole_and_at_every_cut(body: bytes, wire: bytes) -> None:
    assert stuffed(body) == wire
    assert stuffed(*(body[i:i + 1] for i in range(len(body)))) == wire
    for cut in range(len(body) + 1):
        assert stuffed(body[:cut], b"", body[cut:]) == wire


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"\r\n.", b""])))
@settings(max_examples=300)
def test_a_receiver_gets_the_body_back(chunks: list[bytes]) -> None:
    wire = stuffed(*chunks)
    lines = wire.split(b"\r\n")
    assert lines.index(b".") == len(lines) - 2  # the end comes once, at the end
    received = b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines[:-2])
    body = b"".join(chunks)
    assert received == body if body.endswith(b"\r\n") or not body else received == body + b"\r\n"
