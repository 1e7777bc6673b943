"""Commands that ask for what is hidden, and the capabilities at the log-in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.capability import through_relay
from onedomain.protocol.imap.veil import HIDDEN, asks, refused

ASKED: list[tuple[bytes, bytes]] = [
    (b"a ENABLE CONDSTORE\r\n", b"a ENABLE XONDSTORE\r\n"),
    (b"a enable utf8=accept qresync condstore\r\n", b"a enable utf8=accept Xresync Xondstore\r\n"),
    (b"a SELECT INBOX (CONDSTORE)\r\n", b"a SELECT INBOX (XONDSTORE)\r\n"),
    (b"a EXAMINE x (QRESYNC (1 2 3:4))\r\n", b"a EXAMINE x (XRESYNC (1 2 3:4))\r\n"),
    (b"a SELECT x (FOO QRESYNC (1 2))\r\n", b"a SELECT x (FOO XRESYNC (1 2))\r\n"),
    (b"a UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12 VANISHED)\r\n",
     b"a UID FETCH 1:* (FLAGS) (XHANGEDSINCE 12 XANISHED)\r\n"),
    (b"a FETCH 1 (FLAGS MODSEQ)\r\n", b"a FETCH 1 (FLAGS XODSEQ)\r\n"),
    (b"a FETCH 1 MODSEQ\r\n", b"a FETCH 1 XODSEQ\r\n"),
    (b"a STORE 1 (UNCHANGEDSINCE 5) FLAGS ()\r\n", b"a STORE 1 (XNCHANGEDSINCE 5) FLAGS ()\r\n"),
    (b"a SEARCH MODSEQ 12\r\n", b"a SEARCH XODSEQ 12\r\n"),
    (b'a UID SEARCH OR SEEN MODSEQ "/flags/\\\\Seen" all 5\r\n',
     b'a UID SEARCH OR SEEN XODSEQ "/flags/\\\\Seen" all 5\r\n'),
    (b"a STATUS x (MESSAGES HIGHESTMODSEQ)\r\n", b"a STATUS x (MESSAGES XIGHESTMODSEQ)\r\n"),
    (b'a LIST "" * RETURN (STATUS (HIGHESTMODSEQ UIDNEXT))\r\n',
     b'a LIST "" * RETURN (STATUS (XIGHESTMODSEQ UIDNEXT))\r\n'),
]
ALLOWED = [
    b"a SELECT CONDSTORE\r\n", b'a SELECT "x (CONDSTORE) y"\r\n', b"a SELECT QRESYNC\r\n", b"a ENABLE UTF8=ACCEPT\r\n",
    b'a SEARCH SUBJECT "MODSEQ 12"\r\n', b"a FETCH 1 (FLAGS BODY[HEADER.FIELDS (MODSEQX)])\r\n", b"a NOOP\r\n", b"\r\n",
    b"a STATUS x (MESSAGES)\r\n", b"DONE\r\n", b"a CAPABILITY\r\n",
]


@pytest.mark.parametrize("asked, sent", ASKED)
def test_what_asks_for_something_hidden(asked: bytes, sent: bytes) -> None:
    assert asks(asked)
    assert refused(asked) == sent
    assert refused(b"x NOOP\r\n" + asked + asked) == b"x NOOP\r\n" + sent + sent
    assert not asks(sent)


@pytest.mark.parametrize("allowed", ALLOWED)
def test_what_does_not(allowed: bytes) -> None:
    assert not asks(allowed)
    assert refused(allowed) == allowed


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_refusing_noise_keeps_its_length(data: bytes) -> None:
    assert len(refused(data)) == len(data)


def test_the_greeting_of_a_relay() -> None:
    names = ("IMAP4REV1", "CONDSTORE", "Qresync", "OBJECTID", "IDLE", "COMPRESS=DEFLATE")
    assert through_relay(names) == ("IMAP4rev1", "CONDSTORE", "Qresync", "OBJECTID", "IDLE")
    assert through_relay(names, HIDDEN) == ("IMAP4rev1", "IDLE")
