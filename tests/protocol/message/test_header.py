"""The header filter: what goes, what stays byte by byte the same, what is noted; whole and in pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.failure import Failed
from onedomain.protocol.message.header import Facts, HeaderFilter


def filtered(*chunks: bytes, limit: int = 10_000) -> tuple[bytes, Facts]:
    filter = HeaderFilter(limit)
    out = b"".join(filter.feed(chunk) for chunk in chunks) + filter.end()
    assert filter.facts is not None
    return out, filter.facts


TABLE = [
    (b"Subject: x\r\n\r\nbody\r\n", b"Subject: x\r\n\r\nbody\r\n", Facts()),
    (b"X-OneDomain-Delivery: 1\r\nSubject: x\r\n\r\nb", b"Subject: x\r\n\r\nb", Facts()),
    (b"A: 1\r\nx-onedomain-DELIVERY : 1\r\n 2\r\n\t3\r\nB: 2\r\n\r\nb", b"A: 1\r\nB: 2\r\n\r\nb", Facts()),
    (b"A: 1\r\nX-OneDomain-Delivery:\r\n 1\r\n\r\n", b"A: 1\r\n\r\n", Facts()),
    (b"X-OneDomain-Delivery: 1\r\nX-OneDomain-Delivery: 2\r\n\r\n", b"\r\n", Facts()),
    (b"A: 1\r\nX-OneDomain-Delivery: 1", b"A: 1\r\n", Facts()),
    (b"A: 1\r\n\r\nX-OneDomain-Delivery: 1\r\n", b"A: 1\r\n\r\nX-OneDomain-Delivery: 1\r\n", Facts()),
    (b"\r\nX-OneDomain-Delivery: 1\r\n", b"\r\nX-OneDomain-Delivery: 1\r\n", Facts()),
    (b"\nX-OneDomain-Delivery: 1\n", b"\nX-OneDomain-Delivery: 1\n", Facts()),
    (b"no header\r\nX-OneDomain-Delivery: 1\r\n\r\n", b"no header\r\n\r\n", Facts()),
    (b"A: 1\nX-OneDomain-Delivery: 1\n 2\nB: 2\n\nX", b"A: 1\nB: 2\n\nX", Facts()),
    (b"X-OneDomain-Delivery-Else: 1\r\n\r\n", b"X-OneDomain-Delivery-Else: 1\r\n\r\n", Facts()),
    (b"", b"", Facts()),
    (b"a: \x83\x81\x8c\x8e\r\n\r\n\x1b$B", b"a: \x83\x81\x8c\x8e\r\n\r\n\x1b$B", Facts()),
    (b"Message-Id: <a@b>\r\n\r\n", b"Message-Id: <a@b>\r\n\r\n", Facts("<a@b>")),
    (b"Message-ID:\r\n  <a\r\n @b>\r\nDate: x\r\n\r\n", b"Message-ID:\r\n  <a\r\n @b>\r\nDate: x\r\n\r\n",
     Facts("<a @b>", True)),
    (b"Received: a\r\nreceived:\r\n b\r\nReceived-SPF: c\r\n\r\nReceived: d\r\n",
     b"Received: a\r\nreceived:\r\n b\r\nReceived-SPF: c\r\n\r\nReceived: d\r\n", Facts(received=2)),
    (b"X-OneDomain-Trace: cluster=Example.com; edge=e; id=1\r\nX-OneDomain-Trace: v\r\n\r\n",
     b"X-OneDomain-Trace: cluster=Example.com; edge=e; id=1\r\nX-OneDomain-Trace: v\r\n\r\n",
     Facts(hops=("example.com",))),
]


@pytest.mark.parametrize(("message", "expected", "facts"), TABLE)
def test_whole_and_byte_by_byte(message: bytes, expected: bytes, facts: Facts) -> None:
    assert filtered(message) == (expected, facts)
    assert filtered(*(message[i:i + 1] for i in range(len(message)))) == (expected, facts)


PARTS = [b"X-OneDomain-Delivery: ", b"\r\n", b" ", b"A", b":", b"\n", b"\r", b"Received:", b"Message-ID: <x>", b"\xff"]


@given(st.lists(st.sampled_from(PARTS), max_size=25), st.data())
@settings(max_examples=200, deadline=None)
def test_random_messages_at_random_cuts(parts: list[bytes], data: st.DataObject) -> None:
    message = b"".join(parts)
    whole = filtered(message)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(message)), max_size=6)))
    assert filtered(*(message[a:b] for a, b in pairwise([0, *cuts, len(message)]))) == whole
    if b"X-OneDomain-Delivery" not in message:
        assert whole[0] == message


def test_header_section_has_a_limit() -> None:
    fits = b"A: " + b"x" * 90 + b"\r\n"
    assert filtered(fits + b"\r\n" + b"y" * 1000, limit=100)[0].endswith(b"y")
    for chunks in ((fits * 2 + b"\r\n",), (fits, b"B: 1\r\n", b"C: 1\r\n"), tuple([b"x"] * 200)):
        with pytest.raises(Failed) as caught:
            filtered(*chunks, limit=100)
        assert caught.value.failure.code == 552


def test_body_is_handed_on_without_a_copy() -> None:
    filter = HeaderFilter()
    filter.feed(b"A: 1\r\n\r\n")
    chunk = b"x" * 1000
    assert filter.feed(chunk) is chunk
