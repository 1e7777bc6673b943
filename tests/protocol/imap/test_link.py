"""XLINK: what it may say, in tables, and that nothing breaks its parser."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap import link
from onedomain.protocol.imap import link_command as c
from onedomain.protocol.imap.cursor import BadCommand, BadName
from onedomain.protocol.imap.sequence import SequenceSet

REF = c.FolderRef("u@x.jp", "ab-1", 7)

GOOD: list[tuple[bytes, c.LinkCommand]] = [
    (b"CHANGES 0", c.Changes(0, None)),
    (b"changes 12 ()", c.Changes(12, ())),
    (b'CHANGES 12 (u@x.jp "a b")', c.Changes(12, ("u@x.jp", "a b"))),
    (b"MESSAGES u@x.jp ab-1 7 0", c.Messages(REF, 0, None)),
    (b"MESSAGES u@x.jp ab-1 7 5 (BODIES 3 65536)", c.Messages(REF, 5, (3, 65536))),
    (b"BODIES u@x.jp ab-1 7 1:3,9", c.Bodies(REF, SequenceSet(((1, 3), (9, 9))))),
    (b"IDENTITIES u@x.jp ab-1 7 5", c.Identities(REF, SequenceSet(((5, 5),)))),
    (b'FIND u@x.jp (a "b\\"c")', c.Find("u@x.jp", ("a", 'b"c'))),
    (b"ACCOUNT u@x.jp", c.GiveAccount("u@x.jp")),
    (b"FOLDER u@x.jp ab-1 7 inbox 1 1 NIL", c.GiveFolder(REF, "INBOX", 1, 1, "")),
    (b'FOLDER u@x.jp ab-1 7 &MEI- 9 10 "\\\\Sent"', c.GiveFolder(REF, "あ", 9, 10, "\\Sent")),
    (b"DELETE u@x.jp ab-1 7", c.DropFolder(REF)),
    (b"SUBSCRIPTIONS u@x.jp (a INBOX)", c.GiveSubscriptions("u@x.jp", ("a", "INBOX"))),
    (b"DELIVERED u@x.jp (d)", c.GiveDelivered("u@x.jp", ("d",))),
    (b"FLAGS u@x.jp ab-1 7 (1 2 (\\seen b a)) (3 4 ())",
     c.GiveFlags(REF, (c.FlagsOf(1, 2, "\\Seen a b"), c.FlagsOf(3, 4, "")))),
    (b"EXPUNGE u@x.jp ab-1 7 (1:2 5)", c.GiveExpunges(REF, (c.Gone(SequenceSet(((1, 2),)), 5),))),
    (b"CHANGES 3 COUNTED", c.Changes(3, None, counted=True)),
    (b"MESSAGES u@x.jp ab-1 7 5 (BODIES 3 9) COUNTED", c.Messages(REF, 5, (3, 9), counted=True)),
    (b"MESSAGES u@x.jp ab-1 7 5 FROM 9", c.Messages(REF, 5, None, first=9)),
    (b"MESSAGES u@x.jp ab-1 7 0 FROM 2 (BODIES 3 9) COUNTED", c.Messages(REF, 0, (3, 9), counted=True, first=2)),
    (b"GAP u@x.jp (ab-1 7 100 50 0) (c 8 9 10 5)",
     c.GiveGaps((c.Gap(REF, 100, 50, 0), c.Gap(c.FolderRef("u@x.jp", "c", 8), 9, 10, 5)))),
]  # fmt: skip


@pytest.mark.parametrize(("line", "command"), GOOD, ids=[repr(line[:30]) for line, _ in GOOD])
def test_what_may_be_said(line: bytes, command: c.LinkCommand) -> None:
    assert link.is_link(b"a1 xlink " + line)
    assert link.parse_link(b"a1 xlink " + line) == command


@pytest.mark.parametrize("line", [line for line, _ in GOOD])
def test_cut_short_it_is_bad_or_another_command(line: bytes) -> None:
    for end in range(len(line)):
        try:
            assert link.parse_link(b"a1 XLINK " + line[:end]) != link.parse_link(b"a1 XLINK " + line)
        except (BadCommand, BadName):
            pass


def test_append() -> None:
    start = b"a XLINK APPEND u@x.jp ab-1 7 (1 2 -3 (\\seen) NIL) {5+}\r\n"
    assert link.is_link_append(start) and not link.is_link_append(b"a APPEND x {1}\r\n")
    assert link.parse_link_append(start) == (REF, c.GivenMessage(1, 2, -3, "\\Seen", ""))
    more = link.parse_link_append_more(b' (2 3 4 () "d-1") {1}\r\n')
    assert more == c.GivenMessage(2, 3, 4, "", "d-1")
    assert link.parse_link_append_more(b"\r\n") is None
    assert link.parse_link_append_more(b" (0 0 4 () NIL) {1}\r\n") == c.GivenMessage(0, 0, 4, "", "")
    for bad in (b" (-1 3 4 () NIL) {1}", b" (1 -1 4 () NIL) {1}", b" (1 3 4 () NIL)", b" (1 3 4 x NIL) {1}", b" x",
                b" (4294967295 3 4 () NIL) {1}", b" (1 3 4 () NIL) ~{1}"):  # fmt: skip
        with pytest.raises(BadCommand):
            link.parse_link_append_more(bad + b"\r\n")


WORDS = st.sampled_from([*b" ".join(line for line, _ in GOOD).split(b" "), b"(", b")", b"*", b"{3}\r\nabc", b"\x00"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(WORDS, max_size=12).map(b" ".join), st.binary(max_size=60)))
def test_whatever_comes_is_a_command_or_bad(line: bytes) -> None:
    for read in (link.parse_link, link.parse_link_append):
        try:
            read(b"a1 XLINK " + line)
        except (BadCommand, BadName):
            pass
    link.is_link_append(line)
