"""IMAP conversations with a running node, one session and several at once."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest

from onedomain.node.server import Node
from tests.lab.tls import Authority
from tests.node.lab import Imap, Notes, imap, lmtp, message, start_node

MIME = (
    b"Date: Wed, 11 Feb 2026 10:00:00 +0900\r\nFrom: Taro <taro@example.com>\r\n"
    b"Subject: =?iso-2022-jp?B?GyRCQEE1YRsoQg==?=\r\n"
    b"To: a@example.com\r\nMessage-ID: <1@x>\r\nX-OneDomain-Delivery: did-1\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx\r\nContent-Type: text/plain; charset=iso-2022-jp\r\n\r\n"
    + "請求書です".encode("iso-2022-jp")
    + b"\r\n--xx\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninside\r\n--xx--\r\n"
)


async def put(node: Node, *messages: bytes, account: str = "u@example.com") -> None:
    sender = await lmtp(node)
    for each in messages:
        assert (await sender.deliver(each, account))[0].startswith(b"250 ")
    await sender.close()


async def append(client: Imap, folder: str, data: bytes, flags: str = "") -> bytes:
    return (await client(b"APPEND %b %b{%d+}\r\n%b" % (folder.encode(), flags.encode(), len(data), data)))[-1]


async def test_a_first_session(node: Node) -> None:
    await put(node, MIME)
    client = await imap(node)
    assert (await client("SELECT INBOX"))[-1] == b"OK [READ-WRITE] Select completed"
    answer = await client("FETCH 1 (UID FLAGS RFC822.SIZE BODY[])")
    stored = b"Return-Path: <a@example.org>\r\n" + MIME
    assert answer == [
        b"* 1 FETCH (UID 1 FLAGS (\\Seen \\Recent) RFC822.SIZE %d" % len(stored)
        + b" BODY[] {%d}\r\n%b)" % (len(stored), stored),
        b"OK Fetch completed",
    ]
    assert (await client("LOGOUT")) == [b"* BYE Logging out", b"OK Logout completed"]
    assert await client.line() == b""


async def test_flags_of_what_is_new_are_asked_for(node: Node) -> None:
    """Told of one new message by its flags, mbsync takes all below it for known."""
    one, other = await imap(node), await imap(node)
    await append(one, "INBOX", b"Subject: 1\r\n\r\n")
    for client in (one, other):
        await client("SELECT INBOX")
    for number in (2, 3, 4):
        await append(other, "INBOX", b"Subject: %d\r\n\r\n" % number)
    await other("UID STORE 1,3 +FLAGS (\\Flagged)")
    answer = await one("UID FETCH 1 (UID FLAGS)")
    assert b"* 4 EXISTS" in answer
    assert [line for line in answer if b" FETCH " in line and b"UID 1 " not in line] == []
    await other("UID STORE 3 +FLAGS (\\Answered)")
    assert b"* 3 FETCH (UID 3 FLAGS (\\Answered \\Flagged))" in await one("NOOP"), "it has been announced"


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("BODY.PEEK[1]", b"BODY[1] {16}\r\n\x1b$B@A5a=q$G$9\x1b(B"),
        ("BODY.PEEK[1]<3.4>", b"BODY[1]<3> {4}\r\n@A5a"),
        ("BODY.PEEK[1]<99.4>", b"BODY[1]<99> {0}\r\n"),
        ("BODY.PEEK[2.HEADER]", b"BODY[2.HEADER] {18}\r\nSubject: inner\r\n\r\n"),
        ("BODY.PEEK[2.TEXT]", b"BODY[2.TEXT] {6}\r\ninside"),
        ("BODY.PEEK[2.1]", b"BODY[2.1] {6}\r\ninside"),
        ("BODY.PEEK[2.MIME]", b"BODY[2.MIME] {32}\r\nContent-Type: message/rfc822\r\n\r\n"),
        ("BODY.PEEK[2.HEADER.FIELDS (subject x)]", b"BODY[2.HEADER.FIELDS (subject x)] {18}\r\nSubject: inner\r\n\r\n"),
        ("BODY.PEEK[HEADER.FIELDS (TO)]", b"BODY[HEADER.FIELDS (TO)] {21}\r\nTo: a@example.com\r\n\r\n"),
        ("BODY.PEEK[2.HEADER.FIELDS.NOT (subject)]", b"BODY[2.HEADER.FIELDS.NOT (subject)] {2}\r\n\r\n"),
        ("BODY.PEEK[3]", b"BODY[3] NIL"),
        ("BODY.PEEK[1.HEADER]", b"BODY[1.HEADER] NIL"),
        ("BODY.PEEK[1.1]", b"BODY[1.1] NIL"),
        (
            "ENVELOPE",
            b'ENVELOPE ("Wed, 11 Feb 2026 10:00:00 +0900" "=?iso-2022-jp?B?GyRCQEE1YRsoQg==?=" '
            + b'(("Taro" NIL "taro" "example.com")) ' * 3 +
            b'((NIL NIL "a" "example.com")) NIL NIL NIL "<1@x>")',
        ),
        (
            "BODY",
            b'BODY (("text" "plain" ("charset" "iso-2022-jp") NIL NIL "7bit" 16 0)'
            b'("message" "rfc822" NIL NIL NIL "7bit" 24 (NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL) '
            b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 0) 2) "mixed")',
        ),
    ],
)  # fmt: skip
async def test_fetch_items(node: Node, item: str, value: bytes) -> None:
    await put(node, MIME)
    client = await imap(node, select="INBOX")
    assert await client(f"FETCH 1 {item}") == [b"* 1 FETCH (" + value + b")", b"OK Fetch completed"]
    assert await client("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Recent))", b"OK Fetch completed"]


async def test_a_part_of_a_message_without_parts_is_its_body(node: Node) -> None:
    await put(node, b"Subject: x\r\n\r\nbody\r\n")
    client = await imap(node, select="INBOX")
    assert (await client("FETCH 1 BODY[1]"))[0] == b"* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[1] {6}\r\nbody\r\n)"
    assert (await client("FETCH 1 BODY[TEXT]"))[0] == b"* 1 FETCH (BODY[TEXT] {6}\r\nbody\r\n)"


SEARCHES = [
    ("ALL", "1 2 3"), ("2:*", "2 3"), ("UID 1,3", "1 3"), ("NOT 2", "1 3"), ("SEEN", "2"), ("UNSEEN", "1 3"),
    ("KEYWORD work", "2"), ("UNKEYWORD work", "1 3"), ("RECENT", "1 3"), ("NEW", "1 3"), ("OLD", "2"),
    ("SUBJECT {6+}\r\n請求", "1"), ("BODY {6+}\r\n書で", "1"), ("TEXT {6+}\r\n請求", "1"), ("TEXT {3+}\r\n㈱", "2"),
    ("SUBJECT {3+}\r\n髙", "2"), ("SUBJECT 2", "2 3"), ("FROM TARO", "1"), ("TEXT inner", "1"), ("BODY inner", "1"),
    ("SUBJECT inner", ""), ("HEADER message-id 1@x", "1"), ("HEADER Message-ID \"\"", "1"), ("HEADER nope \"\"", ""),
    ("HEADER X-OneDomain-Delivery did-1", "1"), ("HEADER x-onedomain-delivery DID", "1"),
    ("HEADER X-OneDomain-Delivery none", ""), ("SENTON 11-Feb-2026", "1"), ("SENTBEFORE 11-Feb-2026", ""),
    ("SENTSINCE 10-Feb-2026", "1"), ("SINCE 1-Jan-2020", "1 2 3"), ("BEFORE 1-Jan-2020", ""), ("LARGER 400", "1"),
    ("SMALLER 400", "2 3"), ("OLDER 100", ""), ("YOUNGER 100", "1 2 3"), ("OR SEEN FROM taro", "1 2"),
    ("(UNSEEN FROM taro)", "1"), ("NOT (UNSEEN FROM taro)", "2 3"), ("1:2 UNSEEN", "1"),
]  # fmt: skip


async def test_search(node: Node) -> None:
    nec = b"Subject: \x1b$B-j|b\x1b(B 2\r\nContent-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B-j\x1b(B\r\n"
    await put(node, MIME)
    other = await imap(node)
    assert (await append(other, "INBOX", nec, "(\\Seen Work) ")).startswith(b"OK [APPENDUID ")
    client = await imap(node, select="INBOX")
    await put(node, message(2))
    await client("NOOP")
    recent = await client("SEARCH RECENT")
    assert recent[0] == b"* SEARCH 1 2 3"
    await client("UNSELECT")
    client = await imap(node, select="INBOX")
    for query, found in SEARCHES:
        if query in ("RECENT", "NEW", "OLD"):
            continue
        answer = await client(f"SEARCH CHARSET UTF-8 {query}")
        assert answer == [f"* SEARCH {found}".rstrip().encode(), b"OK Search completed"], query


async def test_esearch(node: Node) -> None:
    await put(node, *(message(n) for n in range(5)))
    client = await imap(node, select="INBOX")
    await client("STORE 2,3,5 +FLAGS.SILENT (x)")
    assert (await client("UID SEARCH RETURN (MIN MAX COUNT ALL) KEYWORD x"))[0] == (
        b'* ESEARCH (TAG "t4") UID MIN 2 MAX 5 ALL 2:3,5 COUNT 3'
    )
    assert (await client("SEARCH RETURN () DELETED"))[0] == b'* ESEARCH (TAG "t5")'


async def test_store_copy_move_expunge(node: Node) -> None:
    await put(node, *(message(n) for n in range(4)))
    client = await imap(node, select="INBOX")
    assert await client("STORE 1:2 +FLAGS (\\Deleted work)") == [
        b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work)",
        b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work \\*)] Flags permitted",
        b"* 1 FETCH (UID 1 FLAGS (\\Deleted work \\Recent))",
        b"* 2 FETCH (UID 2 FLAGS (\\Deleted work \\Recent))",
        b"OK Store completed",
    ]
    assert await client("STORE 2 -FLAGS.SILENT (WORK)") == [b"OK Store completed"]
    copied = (await client("COPY 1:2 Archive"))[-1]
    assert re.fullmatch(rb"OK \[COPYUID \d+ 1:2 1:2\] Copy completed", copied)
    assert await client("UID EXPUNGE 2:9") == [b"* 2 EXPUNGE", b"OK Expunge completed"]
    assert await client("EXPUNGE") == [b"* 1 EXPUNGE", b"OK Expunge completed"]
    moved = await client("UID MOVE 4,77 Trash")
    assert re.fullmatch(rb"\* OK \[COPYUID \d+ 4 1\] Moved", moved[0])
    assert moved[1:] == [b"* 2 EXPUNGE", b"OK Move completed"]
    assert (await client("COPY 1 Nowhere"))[-1] == b"NO [TRYCREATE] No such mailbox"
    assert (await client("COPY 5 Archive"))[-1] == b"BAD Message number out of range"
    await client("SELECT Archive")
    assert (await client("FETCH 1:* FLAGS"))[:2] == [
        b"* 1 FETCH (FLAGS (\\Deleted work \\Recent))", b"* 2 FETCH (FLAGS (\\Deleted \\Recent))",
    ]  # fmt: skip
    assert await client("CLOSE") == [b"OK Close completed"]
    assert (await client("STATUS Archive (MESSAGES UIDNEXT)"))[0] == b"* STATUS Archive (MESSAGES 0 UIDNEXT 3)"


async def test_append_with_flags_date_and_several_at_once(node: Node) -> None:
    client = await imap(node)
    answer = await client(
        b'APPEND Sent (\\Seen) "01-Feb-2026 09:00:00 +0900" {3+}\r\none (Draft2) {3+}\r\ntwo {5+}\r\nthree'
    )
    assert re.fullmatch(rb"OK \[APPENDUID \d+ 1:3\] Append completed", answer[-1])
    await client("SELECT Sent")
    lines = await client("FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])")
    assert lines[0] == (
        b'* 1 FETCH (FLAGS (\\Seen \\Recent) INTERNALDATE " 1-Feb-2026 00:00:00 +0000" BODY[] {3}\r\none)'
    )
    assert b"Draft2" in lines[1] and lines[2].endswith(b"BODY[] {5}\r\nthree)")


async def test_append_asks_before_it_takes_a_literal(node: Node) -> None:
    client = await imap(node)
    await client.send(b"a APPEND Nowhere {10}\r\n")
    assert await client.line() == b"a NO [TRYCREATE] No such mailbox\r\n"
    await client.send(b"b APPEND {4}\r\n")
    assert await client.line() == b"+ Ready\r\n"
    await client.send(b"Sent {3}\r\n")
    assert await client.line() == b"+ Ready\r\n"
    await client.send(b"abc\r\n")
    assert (await client.line()).startswith(b"b OK [APPENDUID ")
    assert await client(b"APPEND Nowhere {5+}\r\nabcde") == [b"NO [TRYCREATE] No such mailbox"]
    assert await client(b"APPEND Sent {5+}\r\nabcde nonsense") == [b"BAD Expected the message as a literal"]
    assert await client(b"APPEND Sent nonsense {5+}\r\nabcde") == [b"BAD Expected the message as a literal"]
    assert await client(b"APPEND &bad {5+}\r\nabcde") == [b"NO [CANNOT] Mailbox name is not modified UTF-7"]
    assert (await client("STATUS Sent (MESSAGES)"))[0] == b"* STATUS Sent (MESSAGES 1)"


async def test_a_mailbox_deleted_while_a_message_comes_in(node: Node, tmp_path: Path) -> None:
    client, other = await imap(node), await imap(node)
    await other("CREATE f")
    await client.send(b"a APPEND f {600000+}\r\n" + b"x" * 300_000)
    while not list((tmp_path / "node" / "bodies").iterdir()):
        await other("NOOP")
    await other("DELETE f")
    await client.send(b"x" * 300_000 + b"\r\n")
    assert (await client.line()).startswith(b"a NO [TRYCREATE] ")
    assert list((tmp_path / "node" / "bodies").iterdir()) == []
    assert (await append(client, "INBOX", b"x")).startswith(b"OK ")


async def test_a_session_is_told_what_others_do_at_the_right_time(node: Node) -> None:
    await put(node, *(message(n) for n in range(4)))
    one, two = await imap(node, select="INBOX"), await imap(node, select="INBOX")
    await one("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await one("EXPUNGE")
    await one("STORE 1 +FLAGS.SILENT (\\Flagged)")
    await put(node, message(5))
    # FETCH, STORE and SEARCH may not be told of expunges: their numbers would shift (RFC 3501 section 7.4.1)
    answer = await two("FETCH 2 UID")
    assert answer[0] == b"* 2 FETCH (UID 2)"
    assert not any(b"EXPUNGE" in line for line in answer[:-1])
    assert b"* 5 EXISTS" in answer and b"* 2 FETCH (UID 2 FLAGS (\\Flagged))" in answer
    assert (await two("FETCH 1 UID"))[-1] == b"NO [EXPUNGEISSUED] Some messages were expunged meanwhile"
    assert (await two("STORE 1 +FLAGS (x)"))[-1].startswith(b"NO [EXPUNGEISSUED]")
    assert await two("SEARCH ALL") == [b"* SEARCH 2 3 4 5", b"OK Search completed"]
    assert await two("NOOP") == [b"* 1 EXPUNGE", b"OK NOOP completed"]
    assert (await two("UID FETCH 1:* UID"))[:-1] == [b"* %d FETCH (UID %d)" % (n, n + 1) for n in range(1, 5)]
    assert (await one("NOOP"))[0] == b"* 4 EXISTS"


async def test_idle(node: Node) -> None:
    watcher, other = await imap(node, select="INBOX"), await imap(node, select="INBOX")
    await watcher.send(b"i IDLE\r\n")
    assert await watcher.line() == b"+ idling\r\n"
    await put(node, message(1))
    assert await watcher.line() == b"* 1 EXISTS\r\n"
    assert await watcher.line() == b"* 1 RECENT\r\n"
    await other("NOOP")
    await other("STORE 1 +FLAGS (\\Deleted)")
    assert await watcher.line() == b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))\r\n"
    await other("EXPUNGE")
    assert await watcher.line() == b"* 1 EXPUNGE\r\n"
    await watcher.send(b"DONE\r\n")
    assert await watcher.line() == b"i OK Idle completed\r\n"
    assert await watcher("NOOP") == [b"OK NOOP completed"]


async def test_a_mailbox_deleted_under_a_session(node: Node) -> None:
    one, two = await imap(node), await imap(node)
    await one("CREATE f")
    await append(one, "f", b"x")
    await two("SELECT f")
    await one("DELETE f")
    assert await two("NOOP") == [b"* 1 EXPUNGE", b"OK NOOP completed"]
    assert (await two("FETCH 1:* FLAGS")) == [b"OK Fetch completed"]
    assert (await two("SELECT f"))[-1] == b"NO [NONEXISTENT] No such mailbox"


async def test_folders_and_lists(node: Node) -> None:
    client = await imap(node)
    assert await client('LIST "" ""') == [b'* LIST (\\Noselect) "/" ""', b"OK List completed"]
    for name in ("a/b/c", "&MEI-", '"sp ace"', "inbox/x"):
        assert (await client(f"CREATE {name}"))[-1] == b"OK Create completed"
    assert (await client('LIST "" %'))[:-1] == [
        b'* LIST (\\HasChildren) "/" INBOX',
        b'* LIST (\\HasNoChildren \\Archive) "/" Archive',
        b'* LIST (\\HasNoChildren \\Drafts) "/" Drafts',
        b'* LIST (\\HasNoChildren \\Junk) "/" Junk',
        b'* LIST (\\HasNoChildren \\Sent) "/" Sent',
        b'* LIST (\\HasNoChildren \\Trash) "/" Trash',
        b'* LIST (\\Noselect \\HasChildren) "/" a',
        b'* LIST (\\HasNoChildren) "/" "sp ace"',
        b'* LIST (\\HasNoChildren) "/" &MEI-',
    ]
    assert (await client('LIST "a/" %'))[:-1] == [b'* LIST (\\Noselect \\HasChildren) "/" a/b']
    assert (await client('LIST "" iNbOx'))[:-1] == [b'* LIST (\\HasChildren) "/" INBOX']
    assert (await client('LIST (SPECIAL-USE) "" *'))[0] == b'* LIST (\\HasNoChildren \\Archive) "/" Archive'
    await client("SUBSCRIBE a/b/c")
    await client("DELETE a/b/c")
    assert (await client('LSUB "" a*'))[:-1] == [b'* LSUB () "/" a/b/c']
    assert (await client('LSUB "" %'))[-2] == b'* LSUB (\\Noselect) "/" a'
    assert (await client('LIST (SUBSCRIBED) "" a*'))[:-1] == [
        b'* LIST (\\NonExistent \\Noselect \\HasNoChildren \\Subscribed) "/" a/b/c'
    ]
    assert (await client('LIST (SUBSCRIBED RECURSIVEMATCH) "" a'))[0] == (
        b'* LIST (\\NonExistent \\Noselect \\HasNoChildren) "/" a ("CHILDINFO" ("SUBSCRIBED"))'
    )
    assert (await client('LIST (SUBSCRIBED RECURSIVEMATCH) "" a*')) == [
        b'* LIST (\\NonExistent \\Noselect \\HasNoChildren \\Subscribed) "/" a/b/c', b"OK List completed",
    ]  # fmt: skip
    await client("UNSUBSCRIBE a/b/c")
    assert (await client('LSUB "" a*')) == [b"OK Lsub completed"]
    listed = await client('LIST "" (INBOX Sent) RETURN (STATUS (MESSAGES UNSEEN))')
    assert b"* STATUS INBOX (MESSAGES 0 UNSEEN 0)" in listed and b"* STATUS Sent (MESSAGES 0 UNSEEN 0)" in listed
    assert (await client("RENAME &MEI- &MEQ-"))[-1] == b"OK Rename completed"
    assert (await client("DELETE INBOX"))[-1].startswith(b"NO [CANNOT]")
    assert (await client("DELETE nope"))[-1].startswith(b"NO [NONEXISTENT]")
    assert (await client("CREATE Sent"))[-1].startswith(b"NO [ALREADYEXISTS]")
    assert (await client("SELECT &bad"))[-1].startswith(b"NO [CANNOT]")
    assert (await client("NAMESPACE"))[0] == b'* NAMESPACE (("" "/")) NIL NIL'


async def test_examine_changes_nothing(node: Node) -> None:
    await put(node, message(1))
    client = await imap(node)
    assert (await client("EXAMINE INBOX"))[-1] == b"OK [READ-ONLY] Examine completed"
    for command in ("STORE 1 +FLAGS (x)", "EXPUNGE", "UID EXPUNGE 1", "MOVE 1 Trash"):
        assert (await client(command))[-1].startswith(b"NO [READ-ONLY]"), command
    await client("FETCH 1 BODY[]")
    await client("CLOSE")
    client = await imap(node, select="INBOX")
    assert (await client("FETCH 1 FLAGS"))[0] == b"* 1 FETCH (FLAGS (\\Recent))"


async def test_recent_is_for_the_first_session_that_is_told(node: Node) -> None:
    await put(node, message(1))
    one, two = await imap(node, select="INBOX"), await imap(node, select="INBOX")
    assert (await one("FETCH 1 FLAGS"))[0] == b"* 1 FETCH (FLAGS (\\Recent))"
    assert (await two("FETCH 1 FLAGS"))[0] == b"* 1 FETCH (FLAGS ())"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"SELECT INBOX", b"x BAD Log in first\r\n"),
        (b"FETCH 1 FLAGS", b"x BAD Log in first\r\n"),
        (b"APPEND INBOX {5+}\r\nabcde", b"x BAD Log in first\r\n"),
        (b"APPEND INBOX {5}", b"x BAD Log in first\r\n"),
        (b"NOSUCH", b"x BAD Unknown command NOSUCH\r\n"),
        (b"STARTTLS", b"x BAD TLS is not offered\r\n"),
        (b"AUTHENTICATE GSSAPI", b"x NO [CANNOT] No such mechanism\r\n"),
        (b"AUTHENTICATE PLAIN !!!", b"x BAD Invalid base64\r\n"),
        (b"LOGIN {5000}", b"x BAD Literal too large\r\n"),
        (b"x" * 9000, b"x BAD Command too long\r\n"),
    ],
)
async def test_before_log_in(node: Node, line: bytes, answer: bytes) -> None:
    client = await imap(node, account="")
    await client.send(b"x " + line + b"\r\n")
    assert await client.line() == answer


async def test_log_in_with_ones_own_password(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.node.imap.login.WRONG_DELAY", 0.0)
    await node.store.create_account("own@example.com", "secret")
    client = await imap(node, account="")
    assert (await client("LOGIN own@example.com wrong"))[-1] == b"NO [AUTHENTICATIONFAILED] Wrong name or password"
    assert (await client("LOGIN nobody@example.com secret"))[-1].startswith(b"NO [AUTHENTICATIONFAILED]")
    assert (await client('LOGIN OWN@Example.com "secret"'))[-1].startswith(b"OK [CAPABILITY ")
    again = await imap(node, account="")
    await again.send(b"a AUTHENTICATE LOGIN\r\n")
    assert await again.line() == b"+ VXNlcm5hbWU6\r\n"
    await again.send(b"b3duQGV4YW1wbGUuY29t\r\n")
    assert await again.line() == b"+ UGFzc3dvcmQ6\r\n"
    await again.send(b"c2VjcmV0\r\n")
    assert (await again.line()).startswith(b"a OK ")
    worn = await imap(node, account="")
    for _ in range(2):
        await worn("LOGIN edge sesame")
    assert (await worn("LOGIN edge sesame"))[0] == b"* BYE Too many wrong passwords"
    assert await worn.line() == b""


async def test_many_mistakes_end_a_session(node: Node) -> None:
    client = await imap(node, account="")
    for _ in range(4):
        await client("NOSUCH")
    assert (await client("NOSUCH"))[0] == b"* BYE Too many bad commands"
    assert await client.line() == b""


async def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate = authority.issue()
    notes = Notes()
    node = await start_node(
        tmp_path / "node", notes, certificate=certificate.cert, key=certificate.key, imaps=("127.0.0.1:0",),
        trusted=("192.0.2.0/24",),
    )  # fmt: skip
    client = await imap(node, account="")
    assert (await client("LOGIN a b"))[-1] == b"NO [PRIVACYREQUIRED] Not without TLS"
    assert b" LOGINDISABLED" in (await client("CAPABILITY"))[0]
    await client.send(b"s STARTTLS\r\ni NOOP\r\n")  # what is injected behind STARTTLS is never answered
    assert (await client.line()).startswith(b"s OK ")
    await client.writer.start_tls(certificate.client_context(), server_hostname="localhost")
    assert b" LOGINDISABLED" not in (await client("CAPABILITY"))[0]
    assert [event for event, _ in notes.events].count("injected") == 1
    reader, writer = await asyncio.open_connection(
        *node.addresses["imaps"][0], ssl=certificate.client_context(), server_hostname="localhost"
    )
    assert (await reader.readline()).startswith(b"* OK ")
    writer.close()
    await client.close()
    await node.close()


async def test_a_large_message_streams_in_and_out(node: Node) -> None:
    head = b"Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
    data = head + b"x" * 76 * 30_000 + b"\r\n--b--\r\n"
    client = await imap(node)
    assert (await append(client, "INBOX", data)).startswith(b"OK ")
    await client("SELECT INBOX")
    assert (await client("FETCH 1 BODY.PEEK[]"))[0] == b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(data), data)
    assert (await client("FETCH 1 BODY.PEEK[1]"))[0] == b"* 1 FETCH (BODY[1] {2280000}\r\n" + b"x" * 2_280_000 + b")"
    assert (await client("FETCH 1 BODY.PEEK[1]<2279998.9>"))[0] == b"* 1 FETCH (BODY[1]<2279998> {2}\r\nxx)"
    assert b'7bit" 2280000 0' in (await client("FETCH 1 BODYSTRUCTURE"))[0]
    assert (await client("SEARCH BODY xxx")) == [b"* SEARCH 1", b"OK Search completed"]


class Mirror:
    """What a client believes is in the folder, from nothing but what it was told. None: a UID it does not know yet."""

    def __init__(self) -> None:
        self.uids: list[int | None] = []

    def told(self, lines: list[bytes]) -> None:
        for line in lines:
            words = line.split()
            if words[0] != b"*" or not words[1].isdigit():
                continue
            number = int(words[1])
            match words[2]:
                case b"EXPUNGE":
                    del self.uids[number - 1]
                case b"EXISTS":
                    assert number >= len(self.uids)
                    self.uids += [None] * (number - len(self.uids))
                case b"FETCH":
                    uid = int(line.split(b"UID ")[1].split(b" ")[0].rstrip(b")"))
                    assert self.uids[number - 1] in (None, uid)
                    self.uids[number - 1] = uid


async def test_many_sessions_hammer_one_folder(node: Node) -> None:
    """Told of everything at the right moment, each client always knows which message has which number."""
    await put(node, *(message(n) for n in range(20)))

    async def one(k: int) -> list[int | None]:
        rng = random.Random(k)
        client = await imap(node)
        mirror = Mirror()
        mirror.told(await client("SELECT INBOX"))
        for _ in range(40):
            count = max(1, len(mirror.uids))
            body = b"x" * rng.randrange(100)
            mirror.told(await client(rng.choice([
                b"NOOP", b"EXPUNGE", b"CHECK", b"APPEND INBOX {%d+}\r\n%b" % (len(body), body),
                b"STORE %d +FLAGS (\\Deleted)" % rng.randint(1, count),
                b"FETCH %d (UID FLAGS)" % rng.randint(1, count),
                b"STORE %d FLAGS.SILENT (k%d)" % (rng.randint(1, count), k),
                b"UID FETCH 1:* (FLAGS)", b"SEARCH DELETED",
                b"MOVE %d Trash" % rng.randint(1, count), b"COPY %d INBOX" % rng.randint(1, count),
            ])))  # fmt: skip
        await everybody.wait()
        mirror.told(await client("NOOP"))
        mirror.told(await client("FETCH 1:* (UID)"))
        return mirror.uids

    everybody = asyncio.Barrier(8)
    first, *others = await asyncio.gather(*(one(k) for k in range(8)))
    assert first and None not in first
    for other in others:
        assert other == first
