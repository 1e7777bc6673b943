"""Answers found and held in a home's bytes: whole, in pieces of any size, with messages that look like answers."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.answers import MAX_AWAITED, MAX_TAG, Answers

Waited = list[tuple[bytes, bool]]  # tag, to be held

FETCH = b"* 1 FETCH (UID 7 BODY[] {%d}\r\n%b BODY[1] {%d}\r\n%b)\r\n"
TRAP = b"Hi\r\na1 OK not this one\r\n* 2 FETCH (BODY[] {99}\r\n"

# What the home says, what is waited for -> where it is held (how many bytes have been passed by then), what was done.
TABLE: list[tuple[bytes, Waited, list[int], list[bytes]]] = [
    (b"a1 OK [APPENDUID 1 2] done\r\n", [(b"a1", True)], [0], []),
    (b"* 3 EXISTS\r\na1 ok done\r\nb NO x\r\n", [(b"a1", True), (b"b", True)], [12], [b"b"]),
    (b"a1 NO [OVERQUOTA] full\r\nb OK\r\n", [(b"a1", True)], [], [b"a1"]),
    (b"a1 BAD what\r\n", [(b"a1", True)], [], [b"a1"]),
    (b"a1 OK\r\na2 OK\r\na3 OK\r\n", [(b"a1", True), (b"a2", False), (b"a3", True)], [0, 14], [b"a2"]),
    (b"a11 OK\r\na OK\r\na1 OK\r\n", [(b"a1", True)], [14], []),
    (b"+ go on\r\n* OK [ALERT] a1 OK\r\na1 OK\r\n", [(b"a1", True)], [29], []),
    (FETCH % (len(TRAP), TRAP, 6, b"a1 OK\n") + b"a1 OK\r\n", [(b"a1", True)],
     [len(FETCH % (len(TRAP), TRAP, 6, b"a1 OK\n"))], []),
    (FETCH % (0, b"", 6, b"\na1 OK") + b"b OK\r\n", [(b"a1", True)], [], []),
    # Text may end in what looks like a literal, and is none.
    (b"* OK five {5}\r\na1 OK {5}\r\na1 OK b\r\n", [(b"a1", True), (b"a1", True)], [15, 26], []),
    (b"* NO {3}\r\nx NO {9}\r\na1 OK\r\n", [(b"a1", True)], [20], []),
    (b'* LIST () "/" {6}\r\na1 OK \r\na1 OK\r\n', [(b"a1", True)], [27], []),
    (b"* 1 FETCH (BINARY[] ~{4}\r\n\r\na1)\r\na1 OK\r\n", [(b"a1", True)], [33], []),
    (b"* 3 EXISTS\na1 OK\nb OK\n", [(b"a1", True), (b"b", False)], [11], [b"b"]),
    (b"* 1 FETCH (FLAGS (\\Seen $a1))\r\n" * 30 + b"a1 OK\r\n", [(b"a1", True)], [930], []),
    (b"a1 OK\r\n", [], [], []),
]


class Heard:
    """What becomes of the pieces. A held answer is let go at once, or `later`: when the whole has come."""

    def __init__(self, waited: Waited, *, later: bool = False, skip: bool = False) -> None:
        self.answers: Answers[bytes] = Answers()
        for tag, hold in waited:
            assert self.answers.expect(tag, tag, hold=hold)
        self.passed = b""
        self.held: list[int] = []
        self.done: list[bytes] = []
        self._later = later
        self._skip = skip
        self._unseen = 0

    def feed(self, piece: bytes) -> None:
        if self._unseen:
            self.passed += piece[:self._unseen]
            piece, self._unseen = piece[self._unseen:], max(0, self._unseen - len(piece))
            if not piece:
                return
        heard = self.answers.hear(piece)
        self.passed += piece if heard is None else heard
        self._look()
        if self._skip:
            self._unseen = self.answers.literal
            self.answers.skip()

    def _look(self) -> None:
        self.done += [awaited.what for awaited in self.answers.take_done()]
        while not self._later and self.answers.held is not None:
            self.held.append(len(self.passed))
            self.passed += self.answers.release()
            self.done += [awaited.what for awaited in self.answers.take_done()]

    def end(self) -> None:
        self._later = False
        self._look()


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("said, waited, held, done", TABLE)
def test_whole_and_byte_by_byte(
    said: bytes, waited: Waited, held: list[int], done: list[bytes], later: bool, skip: bool
) -> None:
    for pieces in ([said], [said[i:i + 1] for i in range(len(said))], said.splitlines(keepends=True)):
        heard = Heard(waited, later=later, skip=skip)
        for piece in pieces:
            heard.feed(piece)
        heard.end()
        assert (heard.passed, heard.held, heard.done) == (said, held, done)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("said, waited, held, done", TABLE)
def test_in_two_pieces(said: bytes, waited: Waited, held: list[int], done: list[bytes], skip: bool) -> None:
    for cut in range(1, len(said)):
        heard = Heard(waited, skip=skip)
        heard.feed(said[:cut])
        heard.feed(said[cut:])
        assert (heard.passed, heard.held, heard.done) == (said, held, done), said[:cut]


# What the home says to a client that waits for "+" for these commands -> what becomes of the last of them.
ASKED: list[tuple[bytes, list[bytes], bool | None]] = [
    (b"+ OK\r\n", [b"a"], True),
    (b"+\n", [b"a"], True),
    (b"* 3 EXISTS\r\n+ \r\n", [b"a"], True),
    (b"a NO [OVERQUOTA] full\r\n", [b"a"], False),
    (b"a bad\r\n", [b"a"], False),
    (b"* BAD what\r\n", [b"*"], False),
    (b"x" * MAX_TAG + b" BAD no\r\n", [b"x" * MAX_TAG], False),
    (b"a OK to an earlier one of the same tag\r\n", [b"a"], None),
    (b"aa NO\r\nb NO\r\n* NO\r\n* OK +\r\na NOT\r\n", [b"a"], None),
    (b"+ idling\r\n", [b"i", b"a"], None),
    (b"+ idling\r\n+ OK\r\n", [b"i", b"a"], True),
    (b"i BAD not now\r\n+ OK\r\n", [b"i", b"a"], True),
    (b"+ idling\r\n* 1 EXISTS\r\ni OK\r\na NO\r\n", [b"i", b"a"], False),
    (b"a BAD\r\n", [b"a", b"a"], None),
    (FETCH % (len(TRAP), TRAP, 7, b"\n+ OK\r\n"), [b"a"], None),
    (FETCH % (len(TRAP), TRAP, 7, b"\na NO\r\n"), [b"a"], None),
    (FETCH % (7, b"\na NO\r\n", 0, b"") + b"+ OK\r\n", [b"a"], True),
    (FETCH % (4, b"\n+\r\n", 9, b"a NO\r\n+\r\n") + b"a NO no\r\n", [b"a"], False),
    (b"* 1 FETCH (X {2}\r\n\r\n\n", [b"a"], None),
]


@pytest.mark.parametrize("before", [b"", b"* OK {7}\r\n", FETCH % (9, b"+ \r\na NO\n", 5, b"a {9}")])
@pytest.mark.parametrize("said, asked, wanted", ASKED)
def test_a_plus(said: bytes, asked: list[bytes], wanted: bool | None, before: bytes) -> None:
    """The client may begin to wait at any moment of what the home says to an earlier command."""
    for begins in range(len(before) + 1):
        for cut in range(len(before) + len(said)):
            answers: Answers[int] = Answers()
            if before[:begins]:
                assert answers.hear(before[:begins]) is None
            for tag in asked:
                assert answers.ask(tag)
            rest = before[begins:] + said
            for piece in (rest[:cut], rest[cut:]):
                if piece:
                    assert answers.hear(piece) is None
            assert answers.take_wanted() is wanted
            assert answers.take_wanted() is None


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [FETCH % (3, b"\n+\n", 9, b"* 1 X {7}"), b"* OK {4}\r\n", b'* LIST () "/" {2}\r\na\n\r\n', b"a OK {3}\r\n",
             b"* 1 FETCH (A {1}\nx B {1}\r\n\n C ~{0}\r\n)\r\n", b"* X {2} {1}\r\n}\r\n", b"}\r\n", b"* 2 EXISTS\r\n"]),
        max_size=6),
    st.lists(st.integers(0, 300), max_size=12),
)
def test_nothing_waited_for_is_followed_as_well(said: list[bytes], cuts: list[int]) -> None:
    """From literal to literal, or line by line: both know where they are."""
    whole = b"".join(said)
    quick: Answers[int] = Answers()
    slow: Answers[int] = Answers()
    slow.ask(b"never")
    for a, b in pairwise([0, *sorted(cuts), len(whole)]):
        slow._asked = [b"never"]  # a "+" has no other meaning here
        for answers in (quick, slow) if whole[a:b] else ():
            assert answers.hear(whole[a:b]) is None
        assert (quick._literal, quick._continued, quick._begun) == (slow._literal, slow._continued, slow._begun)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(TABLE), max_size=4), st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_random_splits(rows: list[tuple[bytes, Waited, list[int], list[bytes]]], cuts: list[int], skip: bool) -> None:
    said = b"".join(row[0] for row in rows)
    waited = [one for row in rows for one in row[1]]
    edges = [0, *sorted(cuts), len(said)]
    whole, split = Heard(waited, skip=skip), Heard(waited, skip=skip)
    whole.feed(said) if said else None
    for a, b in pairwise(edges):
        if said[a:b]:
            split.feed(said[a:b])
    assert (whole.passed, whole.held, whole.done) == (split.passed, split.held, split.done)
    assert whole.passed == said


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([row for row in TABLE if len(row[1]) == len(row[2]) + len(row[3])]),
            st.sampled_from([b"", b"z OK done\r\n", b"* 3 EXISTS\r\n", b"* OK {7}\r\n", FETCH % (3, b"\nz ", 1, b"}")]),
            st.integers(1, 400),
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_what_is_waited_for_from_the_middle_on(
    rows: list[tuple[tuple[bytes, Waited, list[int], list[bytes]], bytes, int]], skip: bool
) -> None:
    """Between the answers that somebody waits for the home says what nobody does."""
    heard = Heard([], skip=skip)
    expected = b""
    for (said, waited, held, done), before, cut in rows:
        heard.held, heard.done = [], []
        if before:
            heard.feed(before)
        expected += before
        for tag, hold in waited:
            assert heard.answers.expect(tag, tag, hold=hold)
        for piece in (said[:cut], said[cut:]):
            if piece:
                heard.feed(piece)
        assert ([at - len(expected) for at in heard.held], heard.done) == (held, done)
        expected += said
        assert heard.passed == expected
        assert heard.answers.between


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([b"{2}\r\n", b"* 1 X {3}\r\n", b"\r\n", b"a1 OK", b"a1", b" O"])),
    st.booleans(),
)
def test_noise_never_fails_and_nothing_is_lost(pieces: list[bytes], skip: bool) -> None:
    whole = b"".join(pieces)
    results = []
    for split in (pieces, [whole[i:i + 1] for i in range(len(whole))]):
        heard = Heard([(b"a1", True), (b"a1", False)], skip=skip)
        for piece in split:
            if piece:
                heard.feed(piece)
        results.append((heard.held, heard.done))
        assert heard.passed + heard.answers._kept == whole
    assert results[0] == results[1]


def test_what_comes_behind_a_held_answer_waits() -> None:
    heard = Heard([(b"a1", True)], later=True)
    heard.feed(b"* 1 EXISTS\r\na1 OK\r\n* 2 EX")
    heard.feed(b"ISTS\r\n")
    assert heard.passed == b"* 1 EXISTS\r\n"
    assert heard.answers.held is not None
    assert heard.answers.held.what == b"a1"
    heard.end()
    assert heard.passed == b"* 1 EXISTS\r\na1 OK\r\n* 2 EXISTS\r\n"


def test_an_answer_is_kept_only_until_it_is_known_which() -> None:
    heard = Heard([(b"a1", True)])
    for piece, passed in ((b"a", 0), (b"1 ", 0), (b"O", 0), (b"h dear\r\n", 12), (b"a1 O", 16)):
        heard.feed(piece)
        assert len(heard.passed) == passed
    assert heard.held == []


def test_what_was_never_answered_is_told_at_the_end() -> None:
    heard = Heard([(b"a1", True), (b"a2", False), (b"a3", True)], later=True)
    heard.feed(b"a1 OK\r\n")
    assert [awaited.what for awaited in heard.answers.take_open()] == [b"a1", b"a2", b"a3"]


def test_limits() -> None:
    answers: Answers[int] = Answers()
    assert not answers.expect(b"", 0)
    assert not answers.expect(b"x" * (MAX_TAG + 1), 0)
    assert all(answers.expect(b"x" * MAX_TAG, n) for n in range(MAX_AWAITED))
    assert not answers.expect(b"a", 0)
    assert not answers.ask(b"")
    assert not answers.ask(b"x" * (MAX_TAG + 1))
    assert all(answers.ask(b"x" * MAX_TAG) for n in range(MAX_AWAITED))
    assert not answers.ask(b"a")
    answers.hear(b"y" * 10_000_000)
    assert len(answers._begun) + len(answers._tail) + len(answers._kept) < 1000


def test_a_chunk_without_literals_is_cheap() -> None:
    answers: Answers[int] = Answers()
    started = time.process_time()
    for _ in range(5000):
        answers.hear(b"a0001 OK NOOP completed.\r\n")
    assert (time.process_time() - started) / 5000 < 50e-6


def test_neither_are_many_small_literals() -> None:
    answers: Answers[int] = Answers()
    said = b"".join(FETCH % (40, b"Subject: 12345678901234567890123456789\r\n"[:40], 0, b"") for _ in range(500))
    started = time.process_time()
    for _ in range(10):
        assert answers.hear(said) is None
    # Some 2 µs for each of two literals.
    assert (time.process_time() - started) / 10_000 < 50e-6
