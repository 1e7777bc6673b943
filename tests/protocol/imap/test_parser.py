"""Commands: what a client may say, in tables; what it may not; and that nothing it sends breaks the parser."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onedomain.protocol.imap import command as c
from onedomain.protocol.imap import mutf7
from onedomain.protocol.imap.flags import Mode
from onedomain.protocol.imap.parser import (
    BadCharset,
    BadCommand,
    BadName,
    is_append,
    parse,
    parse_append,
    parse_append_more,
    tag_of,
)
from onedomain.protocol.imap.sequence import SequenceSet

ALL = SequenceSet(((1, 0),))
ONE = SequenceSet(((1, 1),))


def section(label: bytes, text: str = "", part: tuple[int, ...] = (), **more: object) -> c.Section:
    given: dict[str, object] = {"fields": (), "partial": None, "peek": True, **more}
    return c.Section(part, text, label=label, **given)  # type: ignore[arg-type]


GOOD: list[tuple[bytes, c.Arguments]] = [
    (b"NOOP", c.Plain("NOOP")),
    (b"noop", c.Plain("NOOP")),
    (b"UID EXPUNGE 3:*", c.UidExpunge(SequenceSet(((3, 0),)))),
    (b"LOGIN u p", c.Login("u", "p")),
    (b'LOGIN "a\\"b" "p\\\\w"', c.Login('a"b', "p\\w")),
    (b"LOGIN {3}\r\na b {2+}\r\nc\x22", c.Login("a b", 'c"')),
    (b"LOGIN u [p]", c.Login("u", "[p]")),
    (b"AUTHENTICATE PLAIN", c.Authenticate("PLAIN", None)),
    (b"AUTHENTICATE plain AGIAYw==", c.Authenticate("PLAIN", b"AGIAYw==")),
    (b"AUTHENTICATE PLAIN =", c.Authenticate("PLAIN", b"=")),
    (b"ID NIL", c.Id({})),
    (b'ID ("name" "x" "Version" NIL)', c.Id({"name": "x", "version": ""})),
    (b"ENABLE CONDSTORE x", c.Enable(("CONDSTORE", "X"))),
    (b"SELECT inbox", c.Select("INBOX", False)),
    (b"EXAMINE " + mutf7.encode("請求").encode(), c.Select("請求", True)),
    (b'SELECT "a b"', c.Select("a b", False)),
    (b"SELECT {3}\r\na\"b", c.Select('a"b', False)),
    (b"SELECT InBox/x", c.Select("INBOX/x", False)),
    (b"CREATE a/b/", c.Create("a/b")),
    (b"CREATE Sent (USE (\\sent))", c.Create("Sent", "\\Sent")),
    (b"SELECT x (CONDSTORE)", c.Select("x", False, True)),
    (b"EXAMINE x (QRESYNC (7 9))", c.Select("x", True, False, c.Resync(7, 9))),
    (b"SELECT x (QRESYNC (7 9 1:3,5))", c.Select("x", False, False, c.Resync(7, 9, SequenceSet(((1, 3), (5, 5)))))),
    (b"SELECT x (QRESYNC (7 9 1:3 (1 2)) condstore)",
     c.Select("x", False, True, c.Resync(7, 9, SequenceSet(((1, 3),)), (ONE, SequenceSet(((2, 2),)))))),
    (b"SELECT x (QRESYNC (7 9 (1 1)))", c.Select("x", False, False, c.Resync(7, 9, None, (ONE, ONE)))),
    (b"DELETE x", c.Delete("x")),
    (b"RENAME a b", c.Rename("a", "b")),
    (b"SUBSCRIBE a", c.Subscribe("a", True)),
    (b"UNSUBSCRIBE a", c.Subscribe("a", False)),
    (b'LIST "" *', c.List("", ("*",))),
    (b'LIST "" "%"', c.List("", ("%",))),
    (b'LIST a/ "b%c"', c.List("a/", ("b%c",))),
    (
        b'LIST (SUBSCRIBED RECURSIVEMATCH) "" (a b*) RETURN (CHILDREN STATUS (MESSAGES UNSEEN))',
        c.List("", ("a", "b*"), frozenset({"SUBSCRIBED", "RECURSIVEMATCH"}), frozenset({"CHILDREN", "STATUS"}),
               ("MESSAGES", "UNSEEN"), True),
    ),
    (b'LSUB "" *', c.Lsub("", "*")),
    (b"STATUS x (MESSAGES UIDNEXT)", c.Status("x", ("MESSAGES", "UIDNEXT"))),
    (b"FETCH 1 ALL", c.Fetch(ONE, False, ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"))),
    (b"UID FETCH 1:* (UID FLAGS)", c.Fetch(ALL, True, ("UID", "FLAGS"))),
    (b"FETCH 1 BODY", c.Fetch(ONE, False, ("BODY",))),
    (b"FETCH 1 BODY[]", c.Fetch(ONE, False, (section(b"BODY[]", peek=False),))),
    (b"FETCH 1 body.peek[1.2.mime]<0.10>",
     c.Fetch(ONE, False, (section(b"BODY[1.2.MIME]", "MIME", (1, 2), partial=(0, 10)),))),
    (b'FETCH 1 (BODY.PEEK[HEADER.FIELDS (From "to" a:b)])',
     c.Fetch(ONE, False, (section(b"BODY[HEADER.FIELDS (From to a:b)]", "HEADER.FIELDS",
                                  fields=(b"From", b"to", b"a:b")),))),
    (b"FETCH 1 RFC822.HEADER", c.Fetch(ONE, False, (section(b"RFC822.HEADER", "HEADER"),))),
    (b"FETCH 1 (RFC822.TEXT)", c.Fetch(ONE, False, (section(b"RFC822.TEXT", "TEXT", peek=False),))),
    (b"FETCH 1 (FLAGS MODSEQ) (CHANGEDSINCE 5)", c.Fetch(ONE, False, ("FLAGS", "MODSEQ"), 5)),
    (b"UID FETCH 1:* FLAGS (changedsince 5 vanished)", c.Fetch(ALL, True, ("FLAGS",), 5, True)),
    (b"FETCH 1 FAST (CHANGEDSINCE 0)", c.Fetch(ONE, False, ("FLAGS", "INTERNALDATE", "RFC822.SIZE"), 0)),
    (b"STORE 1 (UNCHANGEDSINCE 0) +FLAGS.SILENT (a)", c.Store(ONE, False, Mode.ADD, True, "a", 0)),
    (b'SEARCH MODSEQ "/flags/\\\\draft" all 7 SEEN',
     c.Search(False, c.And((c.Modified(7), c.Flag("\\Seen"))), None)),
    (b"SEARCH MODSEQ 7", c.Search(False, c.Modified(7), None)),
    (b"STORE 1 FLAGS (\\seen)", c.Store(ONE, False, Mode.SET, False, "\\Seen")),
    (b"UID STORE 1 +FLAGS.SILENT (b \\Deleted A)", c.Store(ONE, True, Mode.ADD, True, "\\Deleted A b")),
    (b"STORE 1 -FLAGS \\Seen x", c.Store(ONE, False, Mode.REMOVE, False, "\\Seen x")),
    (b"STORE 1 FLAGS (\\Recent)", c.Store(ONE, False, Mode.SET, False, "")),
    (b"COPY 1 x", c.Copy(ONE, False, "x", False)),
    (b"UID MOVE 1 x", c.Copy(ONE, True, "x", True)),
    (b"SEARCH ALL", c.Search(False, c.All(), None)),
    (b"UID SEARCH RETURN () 1:* NOT SEEN",
     c.Search(True, c.And((c.Among(ALL, False), c.Not(c.Flag("\\Seen")))), frozenset({"ALL"}))),
    (b"SEARCH RETURN (MIN COUNT) UNSEEN", c.Search(False, c.Not(c.Flag("\\Seen")), frozenset({"MIN", "COUNT"}))),
    (b"SEARCH OR (FROM a TO b) NEW",
     c.Search(False, c.Or(c.And((c.HeaderText("from", "a"), c.HeaderText("to", "b"))),
                          c.And((c.Flag("\\Recent"), c.Not(c.Flag("\\Seen"))))), None)),
    (b"SEARCH CHARSET UTF-8 SUBJECT {6}\r\n\xe8\xab\x8b\xe6\xb1\x82",
     c.Search(False, c.HeaderText("subject", "請求"), None)),
    (b"SEARCH CHARSET iso-2022-jp TEXT \"\x1b$BMt=\x29\x1b(B\"",
     c.Search(False, c.BodyText(b"\x1b$BMt=\x29\x1b(B".decode("iso2022_jp"), True), None)),
    (b"SEARCH HEADER X-OneDomain-Delivery abc BODY x",
     c.Search(False, c.And((c.HeaderText("x-onedomain-delivery", "abc"), c.BodyText("x", False))), None)),
    (b'SEARCH SENTSINCE "1-feb-2026" BEFORE 02-Mar-2026 LARGER 5 OLDER 60 KEYWORD $x UID 3',
     c.Search(False, c.And((c.Day("SINCE", datetime.date(2026, 2, 1), True),
                            c.Day("BEFORE", datetime.date(2026, 3, 2), False), c.Size(5, True), c.Age(60, True),
                            c.Flag("$x"), c.Among(SequenceSet(((3, 3),)), True))), None)),
]  # fmt: skip


@pytest.mark.parametrize(("line", "arguments"), GOOD, ids=[repr(line[:40]) for line, _ in GOOD])
def test_what_may_be_said(line: bytes, arguments: c.Arguments) -> None:
    command = parse(b"a1 " + line)
    assert (command.tag, command.arguments) == ("a1", arguments)


BAD = [
    b"", b"NOOP", b"a1", b"a1 ", b"a1  NOOP", b"a+1 NOOP", b"a1 NOOP x", b"a1 NOSUCH", b"a1 UID", b"a1 UID NOOP",
    b"a1 LOGIN u", b'a1 LOGIN "u p', b"a1 LOGIN u\x00 p", b"a1 LOGIN {10}\r\nshort", b"a1 LOGIN \xff p",
    b"a1 ID x", b'a1 ID ("a")', b"a1 ENABLE", b"a1 SELECT", b"a1 SELECT a b", b"a1 CREATE a (USE (\\Nope))",
    b'a1 LIST ""', b'a1 LIST (NOPE) "" *', b'a1 LIST (RECURSIVEMATCH) "" *', b'a1 LIST "" * RETURN (NOPE)',
    b"a1 STATUS x ()", b"a1 STATUS x (NOPE)", b"a1 FETCH 0 ALL", b"a1 FETCH 1", b"a1 FETCH 1 ()", b"a1 FETCH 1 (ALL",
    b"a1 FETCH 1 (ALL)", b"a1 FETCH 1 NOPE", b"a1 FETCH 1 BODY[", b"a1 FETCH 1 BODY[MIME]", b"a1 FETCH 1 BODY[0]",
    b"a1 FETCH 1 BODY[1.]", b"a1 FETCH 1 BODY[]<1>", b"a1 FETCH 1 BODY[]<1.0>", b"a1 FETCH 1 BODY[HEADER.FIELDS ()]",
    b"a1 FETCH 1 BODY[HEADER.FIELDS ({3}\r\na\r\n)]", b"a1 FETCH 4294967296 ALL", b"a1 FETCH 1: ALL",
    b"a1 STORE 1 FLAGS", b"a1 STORE 1 NOPE (x)", b"a1 STORE 1 FLAGS (\\Nope)", b"a1 STORE 1 FLAGS (a",
    b"a1 COPY x 1", b"a1 SEARCH", b"a1 SEARCH NOPE x", b"a1 SEARCH (ALL", b"a1 SEARCH ON 31-Feb-2026",
    b"a1 SEARCH ON 1-Xyz-2026", b"a1 SEARCH RETURN (NOPE) ALL", b"a1 SEARCH LARGER 99999999999999999999",
    b"a1 SEARCH " + b"(" * 100 + b"ALL" + b")" * 100, b"a1 SEARCH" + b" ALL" * 2001, b"a1 SEARCH NOT" * 60,
    b"a1 FETCH " + b",".join([b"1"] * 20_001) + b" ALL", b"a1 FETCH 1 (" + b"FLAGS " * 300 + b")",
]  # fmt: skip


@pytest.mark.parametrize("line", BAD, ids=[repr(line[:40]) for line in BAD])
def test_what_may_not_be_said(line: bytes) -> None:
    with pytest.raises(BadCommand):
        parse(line)


def test_a_name_that_is_no_modified_utf_7_is_told_apart() -> None:
    for name in (b"&", b"&itxsQg", b"&AGE-"):
        with pytest.raises(BadName):
            parse(b"a SELECT " + name)
    with pytest.raises(BadName):
        parse(b"a SELECT {2}\r\n\xc3\xa4")


def test_an_unknown_charset_is_told_apart() -> None:
    with pytest.raises(BadCharset):
        parse(b"a SEARCH CHARSET X-NOPE ALL")


def test_passwords_do_not_show() -> None:
    assert "sesame" not in repr(parse(b"a LOGIN u sesame")) + repr(parse(b"a AUTHENTICATE PLAIN sesame"))


APPENDS: list[tuple[bytes, tuple[str, c.NewMessage] | None]] = [
    (b"a APPEND x {10}\r\n", ("x", c.NewMessage("", None))),
    (b"a append inbox (\\Seen k) {10+}\r\n", ("INBOX", c.NewMessage("\\Seen k", None))),
    (b'a APPEND x " 1-Jan-2026 00:00:00 +0900" {1}\r\n', ("x", c.NewMessage("", 1767193200))),
    (b'a APPEND "a b" () "21-Nov-2026 09:30:01 -0130" {1}\r\n', ("a b", c.NewMessage("", 1795258801))),
    (b"a APPEND {3}\r\n", None),
    (b"a APPEND {3+}\r\n", None),
    (b"a APPEND {3}\r\nx y {10}\r\n", ("x y", c.NewMessage("", None))),
]


@pytest.mark.parametrize(("data", "found"), APPENDS)
def test_append_up_to_its_literal(data: bytes, found: tuple[str, c.NewMessage] | None) -> None:
    assert is_append(data) and parse_append(data) == found


@pytest.mark.parametrize(
    "data",
    [b"a APPEND x y {3}\r\n", b"a APPEND x (\\Nope) {3}\r\n", b'a APPEND x "nonsense" {3}\r\n', b"a APPEND x\r\n"],
)
def test_append_that_is_none(data: bytes) -> None:
    with pytest.raises(BadCommand):
        parse_append(data)


def test_what_follows_an_appended_message() -> None:
    assert parse_append_more(b"\r\n") is None
    assert parse_append_more(b" (\\Seen) {5}\r\n") == c.NewMessage("\\Seen", None)
    with pytest.raises(BadCommand):
        parse_append_more(b" nonsense\r\n")


@pytest.mark.parametrize(
    ("data", "tag"), [(b"a1 NOOP", "a1"), (b"a1", "a1"), (b"", "*"), (b"\xff x", "*"), (b"* x", "*"), (b"x" * 99, "*")]
)
def test_the_tag_of_anything(data: bytes, tag: str) -> None:
    assert tag_of(data) == tag


_PIECES = [b" ", b"(", b")", b'"', b"{3}\r\n", b"\\", b"*", b"%", b"[", b"]", b"<", b"1.2", b"&"]
_WORDS = [line for line, _ in GOOD] + _PIECES


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(_WORDS), max_size=6).map(b"".join)))
@example(b"SEARCH ()")
def test_nothing_breaks_the_parser(data: bytes) -> None:
    for line in (data, b"a " + data):
        try:
            parse(line)
            parse_append(line)
            parse_append_more(line)
        except (BadCommand, BadName, BadCharset):
            continue


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([line for line, _ in GOOD]), st.data())
def test_nothing_cut_short_breaks_it(line: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(line)))
    try:
        parse(b"a " + line[:end])
    except (BadCommand, BadName, BadCharset):
        pass
