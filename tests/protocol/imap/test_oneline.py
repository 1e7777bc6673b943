"""A log-in read in one look: what is found is what Front finds in the same bytes, in one piece and byte by byte."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onedomain.protocol.imap import oneline
from onedomain.protocol.imap.front import Front, FrontOptions, LogIn


def by_front(data: bytes, step: int) -> tuple[bytes, LogIn] | None:
    """The first log-in in it, and its tag."""
    front = Front(FrontOptions(), secure=True)
    for at in range(0, len(data), step):
        front.receive(data[at : at + step])
        while (event := front.next_event()) is not None:
            if not isinstance(event, LogIn):
                return None
            said = front.take_output()
            rest = front.take_rest() + data[at + step :]
            if said or rest:
                return None  # more than one line
            front.accept((), "in")
            return front.take_output().split(b" ")[0], event
    return None


def plain(*parts: bytes) -> bytes:
    return b64encode(b"\0".join(parts))


USUAL = [
    b"a LOGIN joe secret\r\n",
    b"a login joe@example.com secret\r\n",
    b'A001 LOGIN "joe@example.com" "pa ss%*(){3}"\r\n',
    b'1.2 Login joe "pa]ss"\n',
    b"x LOGIN \xe8\xab\x8b \xff\xfe\r\n",
    b"a LOGIN nil 007\r\n",
    b"a AUTHENTICATE PLAIN " + plain(b"", b"joe", b"se cret") + b"\r\n",
    b"a authenticate plain " + plain(b"joe", b"joe", b"secret") + b"\r\n",
]

FRONTS = [
    b"a LOGIN joe {6}\r\n",
    b"a LOGIN joe {6+}\r\nsecret\r\n",
    b'a LOGIN joe "se\\"cret"\r\n',
    b"a LOGIN joe secret\r\nb NOOP\r\n",
    b"a LOGIN joe secret\r\nb",
    b"a LOGIN joe secret",
    b"a  LOGIN joe secret\r\n",
    b"a LOGIN joe  secret\r\n",
    b"a LOGIN joe secret \r\n",
    b"a LOGIN joe\r\n",
    b'a LOGIN joe ""\r\n',
    b"a LOGIN joe BODY[a b]\r\n",
    b"+ LOGIN joe secret\r\n",
    b"a* LOGIN joe secret\r\n",
    b"a CAPABILITY\r\n",
    b"a AUTHENTICATE PLAIN\r\n",
    b"a AUTHENTICATE PLAIN =\r\n",
    b"a AUTHENTICATE PLAIN " + plain(b"", b"joe") + b"\r\n",
    b"a AUTHENTICATE PLAIN ====\r\n",
    b"a AUTHENTICATE LOGIN " + plain(b"joe") + b"\r\n",
    b"a LOGIN joe " + b"x" * 3000 + b"\r\n",
    b"a LOGIN jo\0e secret\r\n",
    b"",
]


@pytest.mark.parametrize("data", USUAL)
def test_what_is_usual_is_found_as_by_front(data: bytes) -> None:
    found = oneline.log_in(data)
    assert found is not None
    for step in (1, len(data)):
        by = by_front(data, step)
        assert by is not None and (found.tag, found.credentials) == (by[0], by[1].credentials)


@pytest.mark.parametrize("data", FRONTS)
def test_anything_else_is_fronts(data: bytes) -> None:
    assert oneline.log_in(data) is None


PIECES = st.sampled_from([
    b"a", b" ", b"LOGIN", b"login", b"AUTHENTICATE PLAIN", b'"', b"\\", b"{", b"}", b"3", b"+", b"*", b"%", b"(", b")",
    b"[", b"]", b"BODY[", b"joe", b"\0", b"\t", b"\r", b"\n", b"\r\n", b"\xff", b"\xc3\xbc", b"=", b"NIL", b"\x0b",
    plain(b"", b"joe", b"secret"), plain(b"", b"joe"),
])  # fmt: skip


@given(st.lists(PIECES, max_size=8).map(b"".join), st.booleans())
@example(b"joe se\rcret", True)
@example(b'"joe" "se\x0bcret"', True)
def test_whatever_is_found_front_finds(words: bytes, whole: bool) -> None:
    data = b"a LOGIN " + words + b"\r\n" if whole else words
    found = oneline.log_in(data)
    if found is not None:
        for step in (1, len(data)):
            by = by_front(data, step)
            assert by is not None and (found.tag, found.credentials) == (by[0], by[1].credentials)
