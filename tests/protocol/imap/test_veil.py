"""Names hidden from capabilities, and commands that ask for what is hidden: whole, in pieces, among literals."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.capability import through_relay
from onedomain.protocol.imap.veil import HIDDEN, MAX_KEPT, Veil, asks, refused

TRAP = b"\r\n* CAPABILITY QRESYNC CONDSTORE\r\n"
FETCH = b"* 1 FETCH (BODY[] {%d}\r\n%b)\r\n" % (len(TRAP), TRAP)

SAID: list[tuple[bytes, bytes]] = [
    (b"* CAPABILITY IMAP4rev1 CONDSTORE IDLE QRESYNC\r\n", b"* CAPABILITY IMAP4rev1 IDLE\r\n"),
    (b"* capability condstore objectid xcondstore\r\na OK\r\n", b"* capability xcondstore\r\na OK\r\n"),
    (b"* CAPABILITY QRESYNC\n", b"* CAPABILITY\n"),
    (b"a1 OK [CAPABILITY IMAP4rev1 QRESYNC] QRESYNC is here\r\n", b"a1 OK [CAPABILITY IMAP4rev1] QRESYNC is here\r\n"),
    (b"* OK [CAPABILITY CONDSTORE ID] hi {5}\r\n", b"* OK [CAPABILITY ID] hi {5}\r\n"),
    (b"* LIST () \"/\" QRESYNC\r\n+ CONDSTORE\r\n", b"* LIST () \"/\" QRESYNC\r\n+ CONDSTORE\r\n"),
    (FETCH, FETCH),
    (b"* 1 FETCH (BODY[1] {0}\r\n BODY[2] {2}\r\n\r\n)\r\n* CAPABILITY QRESYNC X\r\n",
     b"* 1 FETCH (BODY[1] {0}\r\n BODY[2] {2}\r\n\r\n)\r\n* CAPABILITY X\r\n"),
    (b"* 2 FETCH (FLAGS (" + b"$x " * 500 + b"))\r\n* CAPABILITY QRESYNC\r\n",
     b"* 2 FETCH (FLAGS (" + b"$x " * 500 + b"))\r\n* CAPABILITY\r\n"),
    (b"* CAPABILITY " + b"AUTH=X " * 200 + b"QRESYNC A\r\n", b"* CAPABILITY " + b"AUTH=X " * 200 + b"A\r\n"),
]


def hidden(pieces: list[bytes]) -> bytes:
    veil = Veil()
    return b"".join(veil.hide(piece) for piece in pieces)


@pytest.mark.parametrize("said, shown", SAID)
def test_what_is_said_whole_and_byte_by_byte(said: bytes, shown: bytes) -> None:
    assert hidden([said]) == shown
    assert hidden([said[i:i + 1] for i in range(len(said))]) == shown


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(SAID), max_size=4), st.lists(st.integers(0, 600), max_size=8))
def test_random_splits(rows: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    said = b"".join(row[0] for row in rows)
    edges = [0, *sorted(cuts), len(said)]
    assert hidden([said[a:b] for a, b in pairwise(edges)]) == b"".join(row[1] for row in rows)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"{2}\r\n", b"* 1 X {3}\r\n", b"\r\n", b"* CAPABILITY ID "])))
def test_noise_passes_unharmed(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    veil = Veil()
    shown = b"".join(veil.hide(whole[i:i + 1]) for i in range(len(whole)))
    assert shown + veil._kept == whole
    assert hidden(pieces) == hidden([whole]) == shown


def test_an_endless_line_takes_no_memory() -> None:
    veil = Veil()
    veil.hide(b"* CAPABILITY ")
    for _ in range(100):
        veil.hide(b"X" * 10_000)
        assert len(veil._kept) + len(veil._passing) <= 2 * MAX_KEPT


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
