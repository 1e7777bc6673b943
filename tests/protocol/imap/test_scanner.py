"""What a relay learns from the client's bytes: every command, in pieces too; literals wanted and refused; noise."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap.scanner import UNKNOWN, Scanner, Touch, refused_compress

SELECT = b"s SELECT Work\r\n"
TABLE: list[tuple[bytes, list[tuple[str, str]]]] = [
    (b"a NOOP\r\n", []),
    (b"a idle\r\nDONE\r\n", []),
    (b"a IDLE\r\ndone\r\nb CREATE x\r\n", [("CREATE", "x")]),
    (b"a LIST \"\" *\r\nb STATUS INBOX (UIDNEXT)\r\n\r\n", []),
    (b"a create Sent\r\n", [("CREATE", "Sent")]),
    (b'a DELETE "a b"\r\n', [("DELETE", "a b")]),
    (b'a DELETE "a \\"b\\" \\\\"\r\n', [("DELETE", 'a "b" \\')]),
    (b"a RENAME inbox {3}\r\nx y\r\n", [("RENAME", "INBOX"), ("RENAME", "x y")]),
    (b"a RENAME {1+}\r\na {1}\r\nb\r\n", [("RENAME", "a"), ("RENAME", "b")]),
    (b"a SUBSCRIBE &U,BTFw-\r\nb UNSUBSCRIBE x\r\n", [("SUBSCRIBE", "&U,BTFw-"), ("UNSUBSCRIBE", "x")]),
    (b"a SETACL x joe lrs\r\nb DELETEACL x joe\r\n", [("SETACL", "x"), ("DELETEACL", "x")]),
    (b'a SETMETADATA "" (/shared/comment "x")\r\n', [("SETMETADATA", "")]),
    (b"a SETMETADATA x (/shared/comment {5}\r\na {2})\r\n", [("SETMETADATA", "x")]),
    (b"a APPEND Sent (\\Seen) {12}\r\nb DELETE x\r\n\r\nc NOOP\r\n", [("APPEND", "Sent")]),
    (b"a APPEND {4+}\r\nSent (\\Seen) {3+}\r\na\n\n {2+}\r\n\r\n\r\n", [("MULTIAPPEND", "Sent")]),
    (b"a APPEND {4}\r\nSent ~{3}\r\na\0b\r\n", [("APPEND", "Sent")]),
    (b"a APPEND x CATENATE (URL \"/y\" TEXT {2+}\r\nhi)\r\n", [("APPEND", "x")]),
    (b"a STORE 1 +FLAGS (\\Seen)\r\n", [("STORE", "")]),
    (SELECT + b"a STORE 1 +FLAGS (\\Seen)\r\n", [("STORE", "Work")]),
    (SELECT + b"a uid store 1:* -FLAGS.SILENT ($x)\r\n", [("STORE", "Work")]),
    (SELECT + b"a EXPUNGE\r\nb UID EXPUNGE 1:9\r\n", [("EXPUNGE", "Work"), ("EXPUNGE", "Work")]),
    (SELECT + b"a COPY 1:2 Sent\r\nb UID COPY 7 \"S t\"\r\n", [("COPY", "Sent"), ("COPY", "S t")]),
    (SELECT + b"a MOVE 1 Trash\r\nb UID MOVE 1 Work\r\n",
     [("COPY", "Trash"), ("EXPUNGE", "Work"), ("COPY", "Work"), ("EXPUNGE", "Work")]),
    (SELECT + b"a UID REPLACE 3 Drafts {2+}\r\nhi\r\n", [("REPLACE", "Drafts"), ("REPLACE", "Work")]),
    (SELECT + b"a CLOSE\r\nb STORE 1 FLAGS ()\r\n", [("CLOSE", "Work"), ("STORE", "")]),
    (SELECT + b"a UNSELECT\r\nb STORE 1 FLAGS ()\r\n", [("STORE", "")]),
    (b"a EXAMINE x\r\nb CLOSE\r\n", []),
    (b'a SELECT "In box" (QRESYNC (1 2))\r\nb EXPUNGE\r\n', [("EXPUNGE", "In box")]),
    (b"a SELECT {5+}\r\ninbox (CONDSTORE)\r\nb EXPUNGE\r\n", [("EXPUNGE", "INBOX")]),
    (SELECT + b"a FETCH 1 (FLAGS BODY.PEEK[] RFC822.SIZE RFC822.HEADER BODYSTRUCTURE)\r\n", []),
    (SELECT + b"a FETCH 1 BODY[]\r\n", [("FETCH", "Work")]),
    (SELECT + b"a UID FETCH 1 (UID binary[1])\r\nb FETCH 1 rfc822.text\r\nc FETCH 1 RFC822\r\n",
     [("FETCH", "Work")] * 3),
    (b"a EXAMINE x\r\na FETCH 1 BODY[]\r\n", []),
    (b"a SEARCH HEADER X {12}\r\nb CREATE no\r\n\r\n", []),
    (b"a XFOO bar\r\nb\r\n", [("UNKNOWN", ""), ("UNKNOWN", "")]),
    (b"a CREATE\r\n", [("CREATE", "")]),
    (b"a UNAUTHENTICATE\r\n", [("UNAUTHENTICATE", "")]),
    (b"a CREATE x\nb CREATE {1+}\ny\n", [("CREATE", "x"), ("CREATE", "y")]),
    (b"a NOOP\r\na1 noop\nb CREATE {8+}\r\nc NOOP\r\n\r\nd CHECK\r\n", [("CREATE", "c NOOP\r\n")]),
    (b"NOOP\r\n NOOP\r\na\tb NOOP\r\na NOOP NOOP\r\na  NOOP\r\n", [("UNKNOWN", "")] * 3),
]


def run(pieces: list[bytes]) -> list[Touch]:
    """A server that wants every literal."""
    scanner = Scanner()
    touches: list[Touch] = []
    for piece in pieces:
        touches += scanner.scan(piece)
        while scanner.waiting:
            rest = scanner.take_unread()
            scanner.decided(True)
            touches += scanner.scan(rest)
    return touches


def seen(touches: Iterable[Touch]) -> list[tuple[str, str]]:
    return [(touch.command, touch.folder) for touch in touches]


@pytest.mark.parametrize("data, expected", TABLE)
def test_whole_and_byte_by_byte(data: bytes, expected: list[tuple[str, str]]) -> None:
    assert seen(run([data])) == expected
    assert seen(run([data[i:i + 1] for i in range(len(data))])) == expected
    assert seen(run(data.splitlines(keepends=True))) == expected


@settings(deadline=None, max_examples=80)
@given(st.lists(st.sampled_from(TABLE), max_size=4), st.lists(st.integers(0, 300), max_size=8))
def test_random_splits(rows: list[tuple[bytes, list[tuple[str, str]]]], cuts: list[int]) -> None:
    whole = b"".join(b"u UNSELECT\r\n" + row[0] for row in rows)
    edges = [0, *sorted(cuts), len(whole)]
    assert seen(run([whole[a:b] for a, b in pairwise(edges)])) == [touch for row in rows for touch in row[1]]


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("waits", [True, False])
def test_a_refused_literal_is_no_literal(refused: bool, waits: bool) -> None:
    scanner = Scanner()
    announcement, more = b"a APPEND Sent {14}\r\n", b"b CREATE yes\r\n\r\n"
    assert seen(scanner.scan(announcement if waits else announcement + more)) == []
    assert scanner.waiting
    assert scanner.asked == [b"a"]
    assert scanner.take_unread() == (b"" if waits else more)
    scanner.decided(not refused)
    assert not scanner.waiting
    assert seen(scanner.scan(more)) == ([("CREATE", "yes")] if refused else [("APPEND", "Sent")])


def test_who_waits_for_a_plus() -> None:
    scanner = Scanner()
    scanner.scan(b"a IDLE\r\nDONE\r\nb RENAME {1}\r\n")
    assert scanner.asked == [b"a", b"b"]
    assert scanner.take_unread() == b""
    scanner.asked.clear()
    scanner.decided(True)
    assert scanner.scan(b"x {1}\r\ny") == []
    assert scanner.asked == [b"b"]
    scanner.asked.clear()
    assert scanner.take_unread() == b"y"
    scanner.decided(True)
    assert seen(scanner.scan(b"y\r\n")) == [("RENAME", "x"), ("RENAME", "y")]
    for nameless in (b"{5}\r\n", b"  \t{0}\r\n"):
        scanner.scan(nameless)
        scanner.decided(False)
    assert scanner.asked == [b"*", b"*"], "that is what servers answer to"


def test_compress_is_named_and_does_not_blind() -> None:
    scanner = Scanner()
    assert seen(scanner.scan(b"a COMPRESS DEFLATE\r\n")) == [("COMPRESS", "")]
    assert seen(scanner.scan(b"b UNAUTHENTICATE\r\n")) == [("UNAUTHENTICATE", "")]


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        (b"a COMPRESS DEFLATE\r\n", b"a COMPRESS DEFLATE-\r\n"),
        (b"a NOOP\r\nb compress DEFLATE\r\n", b"a NOOP\r\nb compress DEFLATE-\r\n"),
        (b"LATE\r\n", b"LATE-\r\n"),  # the end of one that came in pieces
        (b"\n", b"-\r\n"),
        (b"a COMPRESS DEFLATE\r\nb NOOP\r\n", None),
        (b"a COMPRESS DEFLATE\r\nb NO", None),
        (b"a COMPRESS {7+}\r\nDEFLATE\r\n", None),
    ],
)
def test_a_compress_that_every_server_refuses(data: bytes, refused: bytes | None) -> None:
    assert refused_compress(data) == refused


def test_an_endless_line_is_unknown_and_takes_no_memory() -> None:
    scanner = Scanner()
    touches = [touch for _ in range(40) for touch in scanner.scan(b"x" * 65_536)]
    assert seen(touches) == [(UNKNOWN.command, UNKNOWN.folder)]
    assert seen(scanner.scan(b"\r\nb CREATE yes\r\n")) == [("CREATE", "yes")]


def test_a_big_append_takes_no_memory() -> None:
    scanner = Scanner()
    scanner.scan(b"a APPEND Sent {655360+}\r\n")
    for _ in range(10):
        scanner.scan(b"y" * 65_536)
        assert sum(map(len, scanner._command)) < 100
        assert not scanner._literal
    assert seen(scanner.scan(b"\r\n")) == [("APPEND", "Sent")]


def test_a_command_of_very_many_literals_takes_no_memory() -> None:
    scanner = Scanner()
    scanner.scan(b"a SETMETADATA x (")
    for _ in range(2000):
        scanner.scan(b" {100+}\r\n" + b"y" * 100)
        assert sum(map(len, scanner._command)) < 20_000
    assert seen(scanner.scan(b")\r\n")) == [("SETMETADATA", "x")]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"{2}\r\n", b"{3+}\r\n", b"\r\n", b"a COPY ", b'"'])))
def test_noise_never_fails_and_splits_do_not_matter(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert run([whole[i:i + 1] for i in range(len(whole))]) == run(pieces) == run([whole])


def test_an_ordinary_command_is_cheap() -> None:
    scanner = Scanner()
    scan = scanner.scan
    started = time.process_time()
    for _ in range(5000):
        scan(b"a0001 NOOP\r\n")
    # Some 1 µs; the limit only catches what is of another order, on a busy machine too.
    assert (time.process_time() - started) / 5000 < 50e-6


def test_the_tag_of_the_command_goes_with_each_touch() -> None:
    touches = run([SELECT + b"a1 MOVE 1 Trash\r\nb2 APPEND Sent {2+}\r\nhi\r\nc3 FOO\r\nDONE x\r\n"])
    assert [touch.tag for touch in touches] == [b"a1", b"a1", b"b2", b"c3", b"DONE"]


@pytest.mark.parametrize(("messages", "most"), [
    (b"7", 1), (b"1,3,5", 3), (b"5:9", 5), (b"9:5,1", 6), (b"1:*", 0), (b"*", 0), (b"$", 0), (b"1:", 0), (b"1e9", 0),
    (b"1," * 999 + b"1", 1000), (b"1," * 1000 + b"1", 0), (b"4294967295:1", 4294967295),
])  # fmt: skip
def test_how_many_messages_a_copy_can_name(messages: bytes, most: int) -> None:
    for command in (b"COPY", b"UID MOVE"):
        copy, *_ = Scanner().scan(b"a " + command + b" " + messages + b" Trash\r\n")
        assert copy == Touch("COPY", "Trash", b"a", most)
