"""What clients read instead of what a home says: whole, byte by byte, in random pieces, among literals and noise."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.validities import LARGEST, Validities, validities
from onedomain.protocol.imap.rewriter import MAX_KEPT, Rewriter, TooLong
from onedomain.protocol.imap.veil import HIDDEN, PREFIXES

SHOWN = Validities({5: 1700000001, 1790000000: 7, 9: 9}, floor=100)

TRAP = b"\r\n* CAPABILITY QRESYNC\r\n* OK [UIDVALIDITY 5] x\r\na OK [APPENDUID 5 1] x\r\n* STATUS x (UIDVALIDITY 5)\r\n"
FETCH = b"* 1 FETCH (BODY[] {%d}\r\n%b)\r\n" % (len(TRAP), TRAP)
WIDE = b"* 2 FETCH (FLAGS (" + b"$x " * 500 + b"))\r\n"
COPIED = b",".join(b"%d" % uid for uid in range(1, 60_001, 2))

SAID: list[tuple[bytes, bytes]] = [
    # capabilities
    (b"* CAPABILITY IMAP4rev1 CONDSTORE IDLE QRESYNC\r\n", b"* CAPABILITY IMAP4rev1 IDLE\r\n"),
    (b"* capability condstore objectid xcondstore\r\na OK\r\n", b"* capability xcondstore\r\na OK\r\n"),
    (b"* CAPABILITY QRESYNC\n", b"* CAPABILITY\n"),
    (b"a1 OK [CAPABILITY IMAP4rev1 QRESYNC] QRESYNC is here\r\n", b"a1 OK [CAPABILITY IMAP4rev1] QRESYNC is here\r\n"),
    (b"* OK [CAPABILITY CONDSTORE COMPRESS=DEFLATE ID] hi {5}\r\n", b"* OK [CAPABILITY ID] hi {5}\r\n"),
    (b"* LIST () \"/\" QRESYNC\r\n+ CONDSTORE\r\n", b"* LIST () \"/\" QRESYNC\r\n+ CONDSTORE\r\n"),
    (b"* CAPABILITY " + b"AUTH=X " * 200 + b"QRESYNC A\r\n", b"* CAPABILITY " + b"AUTH=X " * 200 + b"A\r\n"),
    (WIDE + b"* CAPABILITY QRESYNC\r\n", WIDE + b"* CAPABILITY\r\n"),
    # SELECT and EXAMINE
    (b"* 3 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 5] x\r\n* OK [HIGHESTMODSEQ 5]\r\na OK [READ-ONLY]\r\n",
     b"* 3 EXISTS\r\n* OK [UIDVALIDITY 1700000001] x\r\n* OK [UIDNEXT 5] x\r\n* OK [NOMODSEQ]\r\na OK [READ-ONLY]\r\n"),
    (b"* ok [uidvalidity 1790000000]\r\n", b"* ok [uidvalidity 7]\r\n"),
    (b"* OK [UIDVALIDITY 200] newer\r\n* OK [UIDVALIDITY 9] the same\r\n",
     b"* OK [UIDVALIDITY 200] newer\r\n* OK [UIDVALIDITY 9] the same\r\n"),
    (b"* NO [UIDVALIDITY 5] x\n", b"* NO [UIDVALIDITY 1700000001] x\n"),
    (b"* OK [UIDVALIDITY 6] unknown and too low\r\n", b"* OK [UIDVALIDITY 107] unknown and too low\r\n"),
    # text is text, whatever it says
    (b"* OK x [UIDVALIDITY 5]\r\na NO * STATUS x (UIDVALIDITY 5)\r\n* BYE UIDVALIDITY 5 {9}\r\n* BAD\r\n",
     b"* OK x [UIDVALIDITY 5]\r\na NO * STATUS x (UIDVALIDITY 5)\r\n* BYE UIDVALIDITY 5 {9}\r\n* BAD\r\n"),
    (b"+ OK [UIDVALIDITY 5]\r\n+ \r\n+\r\n", b"+ OK [UIDVALIDITY 5]\r\n+ \r\n+\r\n"),
    (b"a OK [UIDVALIDITY 5", b"a OK [UIDVALIDITY 5"),  # kept: the rest has not come
    # STATUS and LIST-STATUS
    (b"* STATUS INBOX (MESSAGES 5 UIDVALIDITY 5 UIDNEXT 5)\r\n",
     b"* STATUS INBOX (MESSAGES 5 UIDVALIDITY 1700000001 UIDNEXT 5)\r\n"),
    (b'* LIST () "/" "a (UIDVALIDITY 5)"\r\n* STATUS "a (UIDVALIDITY 5)" (UIDVALIDITY 5)\r\n',
     b'* LIST () "/" "a (UIDVALIDITY 5)"\r\n* STATUS "a (UIDVALIDITY 5)" (UIDVALIDITY 1700000001)\r\n'),
    (b'* status "x \\" (UIDVALIDITY 5" (uidvalidity 5)\r\n',
     b'* status "x \\" (UIDVALIDITY 5" (uidvalidity 1700000001)\r\n'),
    (b"* STATUS &itxsQg- (UIDVALIDITY 1790000000 MAILBOXID (UIDVALIDITY))\r\n",
     b"* STATUS &itxsQg- (UIDVALIDITY 7 MAILBOXID (UIDVALIDITY))\r\n"),
    ("* STATUS 請求 (UIDVALIDITY 5)\r\n".encode(), "* STATUS 請求 (UIDVALIDITY 1700000001)\r\n".encode()),
    (b"* STATUS {17}\r\n\" (UIDVALIDITY 5) (UNSEEN 5 UIDVALIDITY 5)\r\n* STATUS x (UNSEEN 5)\r\n",
     b"* STATUS {17}\r\n\" (UIDVALIDITY 5) (UNSEEN 5 UIDVALIDITY 1700000001)\r\n* STATUS x (UNSEEN 5)\r\n"),
    (b"* STATUS {0}\r\n (UIDVALIDITY 5)\r\n", b"* STATUS {0}\r\n (UIDVALIDITY 1700000001)\r\n"),
    (b"* STATUS UIDVALIDITY (UIDVALIDITY 55)\r\n", b"* STATUS UIDVALIDITY (UIDVALIDITY 156)\r\n"),
    # UIDPLUS
    (b"* 4 EXISTS\r\nA1 OK [APPENDUID 5 5] done\r\n", b"* 4 EXISTS\r\nA1 OK [APPENDUID 1700000001 5] done\r\n"),
    (b"* OK [APPENDUID 5 5] replaced\r\n* 3 EXPUNGE\r\n", b"* OK [APPENDUID 1700000001 5] replaced\r\n* 3 EXPUNGE\r\n"),
    (b"b OK [COPYUID 1790000000 5,6:7 5:7] done\r\n", b"b OK [COPYUID 7 5,6:7 5:7] done\r\n"),
    (b"* OK [COPYUID 5 5 5] moved\r\n* VANISHED 5\r\nb OK [HIGHESTMODSEQ 5] x\r\n",
     b"* OK [COPYUID 1700000001 5 5] moved\r\n* VANISHED 5\r\nb OK [NOMODSEQ] x\r\n"),
    (b"c OK [COPYUID 5 " + COPIED + b" 1:30000] long\r\n",
     b"c OK [COPYUID 1700000001 " + COPIED + b" 1:30000] long\r\n"),
    # literals
    (FETCH, FETCH),
    (b"* 1 FETCH (BODY[1] {0}\r\n BODY[2] {2}\r\n\r\n)\r\n* OK [UIDVALIDITY 5] x\r\n",
     b"* 1 FETCH (BODY[1] {0}\r\n BODY[2] {2}\r\n\r\n)\r\n* OK [UIDVALIDITY 1700000001] x\r\n"),
    (b"* 1 FETCH (BINARY[] ~{3}\r\n\0\r\n)\r\na OK [APPENDUID 5 1] {3}\r\nb OK [APPENDUID 5 2]\r\n",
     b"* 1 FETCH (BINARY[] ~{3}\r\n\0\r\n)\r\na OK [APPENDUID 1700000001 1] {3}\r\nb OK [APPENDUID 1700000001 2]\r\n"),
    (b"* 1 FETCH (ENVELOPE (\"x\" {3}\r\na}b \"{3}\" NIL))\r\n* STATUS a (UIDVALIDITY 5)\r\n",
     b"* 1 FETCH (ENVELOPE (\"x\" {3}\r\na}b \"{3}\" NIL))\r\n* STATUS a (UIDVALIDITY 1700000001)\r\n"),
]  # fmt: skip


def rewriter() -> Rewriter:
    return Rewriter(HIDDEN, SHOWN.shown, PREFIXES)


def heard(pieces: list[bytes], by: Rewriter | None = None) -> bytes:
    by = by or rewriter()
    return b"".join(by.hear(piece) for piece in pieces) + by._kept


@pytest.mark.parametrize("said, shown", SAID)
def test_what_is_said_whole_and_byte_by_byte(said: bytes, shown: bytes) -> None:
    assert heard([said]) == shown
    assert heard([said[i:i + 1] for i in range(len(said))]) == shown
    assert heard([said[:-1], said[-1:]]) == shown


WHOLE = [row for row in SAID if row[0].endswith(b"\n") and len(row[0]) < 10_000]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(WHOLE), max_size=5), st.lists(st.integers(0, 600), max_size=8))
def test_random_splits(rows: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    said = b"".join(row[0] for row in rows)
    edges = [0, *sorted(cuts), len(said)]
    assert heard([said[a:b] for a, b in pairwise(edges)]) == b"".join(row[1] for row in rows)


NOISE = st.binary(max_size=30) | st.sampled_from(
    [b"{2}\r\n", b"* 1 X {3}\r\n", b"\r\n", b"* CAPABILITY ID ", b"* STATUS ", b"{3}\r\n", b"* OK [", b"UIDVALIDITY ",
     b"a OK [COPYUID 5", b" (UIDVALIDITY 5)", b"\n", b"*", b" ", b"5", b'"']
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(st.lists(NOISE), st.lists(st.integers(0, 300), max_size=8))
def test_noise_is_read_alike_however_it_comes(pieces: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(pieces)
    edges = [0, *sorted(cuts), len(whole)]
    alike = heard([whole])
    assert heard(pieces) == alike
    assert heard([whole[i:i + 1] for i in range(len(whole))]) == alike
    assert heard([whole[a:b] for a, b in pairwise(edges)]) == alike


@settings(deadline=None, max_examples=300)
@given(st.lists(NOISE))
def test_where_all_is_as_it_is_noise_passes_unharmed(pieces: list[bytes]) -> None:
    assert heard(pieces, Rewriter(())) == b"".join(pieces)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=400), st.integers(1, 500))
def test_a_literal_may_go_past_it(body: bytes, heard_of_it: int) -> None:
    said = b"* 1 FETCH (BODY[] {%d}\r\n%b)\r\n* STATUS x (UIDVALIDITY 5)\r\n" % (len(body), body)
    by = rewriter()
    begun = said.index(b"\n") + 1 + min(heard_of_it, len(body))
    shown = by.hear(said[:begun])
    left = by.literal
    assert left == len(body) - min(heard_of_it, len(body))
    by.skip()
    assert shown + said[begun:begun + left] + by.hear(said[begun + left:]) == heard([said])


def test_nothing_is_copied_where_nothing_changes() -> None:
    by = rewriter()
    for said in (b"* 1 EXISTS\r\n* 1 FETCH (FLAGS ())\r\n", FETCH, b"a OK x\r\n", b"* 5 FETCH (BODY[] {5}\r\n"):
        assert by.hear(said) is said


def test_an_endless_line_takes_no_memory() -> None:
    by = rewriter()
    for begun in (b"* LIST (", b"a OK ", b"* 1 FETCH (FLAGS ("):
        by.hear(begun)
        for _ in range(100):
            by.hear(b"X" * 10_000)
            assert len(by._kept) + len(by._tail) < 100
        by.hear(b"\r\n")
    by.hear(b"* CAPABILITY ")
    with pytest.raises(TooLong):
        for _ in range(MAX_KEPT // 10_000 + 1):
            by.hear(b"X" * 10_000)


# -- which value is shown


def test_what_a_server_makes_later_is_shown_as_it_is() -> None:
    known = Validities({10: 1700000000, 11: 11}, floor=1700000000)
    made = [10, 11, 1700000001, 1800000000]
    assert list(map(known.shown, made)) == [1700000000, 11, 1700000001, 1800000000]


def test_what_is_below_the_floor_is_none_that_was_shown() -> None:
    known = Validities({10: 1700000000}, floor=1700000000)
    shown = [known.shown(value) for value in range(12, 2000)]
    assert min(shown) > 1700000000
    assert len(set(shown)) == len(shown)
    assert known.shown(LARGEST) == LARGEST
    assert 0 < Validities({}, LARGEST).shown(5) <= LARGEST


@given(st.dictionaries(st.integers(1, LARGEST), st.integers(1, LARGEST)), st.integers(0, LARGEST))
def test_its_text(pairs: dict[int, int], floor: int) -> None:
    assert validities(Validities(pairs, floor).spelt()) == Validities(pairs, floor)


@pytest.mark.parametrize("text", ["x", "5 6", "5 6:7:8", "5 6:x", "5  6:7"])
def test_no_text_of_it(text: str) -> None:
    with pytest.raises(ValueError):
        validities(text)
