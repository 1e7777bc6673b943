"""XLINK: what a link asks and gives, as conversations; and a small link that keeps two nodes in step."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onedomain.node.server import Node
from onedomain.node.store import expunges
from onedomain.node.store.verify import verify
from tests.node.imap.test_session import append, put
from tests.node.lab import Imap, imap, message, start_node
from tests.node.replica import FOLDER, LARGEST, Link, Refused, ask, link_log_in

U = b'"u@example.com"'
F = U + b" ff 77"


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Node]:
    node = await start_node(tmp_path / "replica", replication_user="replica", replication_password="secret")
    yield node
    await node.close()
    assert verify(tmp_path / "replica").findings == ()


@pytest.fixture
async def primary(tmp_path: Path) -> AsyncIterator[Node]:
    node = await start_node(tmp_path / "primary", replication_user="replica", replication_password="secret")
    yield node
    await node.close()
    assert verify(tmp_path / "primary").findings == ()


async def linked(node: Node) -> Imap:
    return await link_log_in(node.addresses["imap"][0])


async def with_folder(node: Node) -> Imap:
    client = await linked(node)
    await ask(client, b"ACCOUNT " + U)
    await ask(client, b"FOLDER " + F + b" f 1 1 NIL")
    return client


async def give(client: Imap, *messages: bytes, folder: bytes = F) -> list[bytes]:
    """`b"uid modseq date (flags) delivery|body"` each."""
    given = b""
    for each in messages:
        head, _, body = each.partition(b"|")
        given += b" (%b) {%d+}\r\n%b" % (head, len(body), body)
    return await client(b"XLINK APPEND " + folder + given)


async def state(client: Imap, folder: bytes = F) -> list[bytes]:
    return await ask(client, b"MESSAGES " + folder + b" 0")


async def test_only_the_replication_log_in_is_told(primary: Node) -> None:
    user = await imap(primary)
    assert b"XLINK" not in (await user("CAPABILITY"))[0]
    assert (await user("XLINK CHANGES 0")) == [b"BAD Unknown command XLINK"]
    assert (await user(b"XLINK APPEND " + F + b" (1 1 1 () NIL) {3+}\r\nabc")) == [b"BAD Unknown command XLINK"]
    link = await linked(primary)
    assert b" XLINK=1" in (await link("CAPABILITY"))[0]
    for command in ("SELECT INBOX", "LIST \"\" *", "APPEND INBOX {1+}\r\nx"):
        assert (await link(command))[-1].startswith(b"BAD "), command
    assert (await link("NOOP")) == [b"OK NOOP completed"]


@pytest.mark.parametrize("log_in", ["LOGIN replica wrong", 'LOGIN replica ""', 'LOGIN "" secret'])
async def test_who_is_not_let_in(primary: Node, monkeypatch: pytest.MonkeyPatch, log_in: str) -> None:
    monkeypatch.setattr("onedomain.node.imap.login.WRONG_DELAY", 0.0)
    client = await imap(primary, account="")
    assert (await client(log_in))[-1].startswith((b"NO [AUTHENTICATIONFAILED]", b"BAD"))


async def test_without_a_secret_nobody_replicates(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.node.imap.login.WRONG_DELAY", 0.0)
    client = await imap(node, account="")
    assert (await client('LOGIN "" ""'))[-1].startswith((b"NO", b"BAD"))
    assert (await client('LOGIN replica ""'))[-1].startswith((b"NO", b"BAD"))


async def test_an_account_and_its_folders(replica: Node) -> None:
    client = await linked(replica)
    await ask(client, b"ACCOUNT " + U)
    await ask(client, b"ACCOUNT " + U)
    await ask(client, b"FOLDER " + U + b" ib 5 INBOX 1 1 NIL")  # takes the fresh INBOX over
    await ask(client, b"FOLDER " + U + b" se 6 Sent 10 20 \"\\\\Sent\"")
    await ask(client, b"SUBSCRIPTIONS " + U + b" (INBOX Sent)")
    *lines, last = await ask(client, b"CHANGES 0")
    assert lines == [
        b"* XLINK ACCOUNT " + U + b" (INBOX Sent)",
        b"* XLINK FOLDER " + U + b" ib 5 INBOX 1 1 NIL",
        b"* XLINK FOLDER " + U + b' se 6 Sent 10 20 "\\\\Sent"',
    ]
    commit = last.split()[-1]
    assert (await ask(client, b"CHANGES " + commit)) == [last]
    # The same again is nothing new, but for the number of the commit
    await ask(client, b"FOLDER " + U + b" se 6 Sent 10 20 \"\\\\Sent\"")
    await ask(client, b"SUBSCRIPTIONS " + U + b" (INBOX Sent)")
    assert len(await ask(client, b"CHANGES " + commit)) == 1
    await ask(client, b"FOLDER " + U + b" se 6 Sent2 9 21 NIL")
    assert (await ask(client, b"CHANGES " + commit))[-2] == b"* XLINK FOLDER " + U + b" se 6 Sent2 10 21 NIL"
    await ask(client, b"DELETE " + U + b" se 6")
    await ask(client, b"DELETE " + U + b" se 6")
    assert len(await ask(client, b"CHANGES 0 (" + U + b")")) == 3
    assert (await ask(client, b"CHANGES 0 (x@y)"))[0] == b'* XLINK NOACCOUNT "x@y"'


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"FOLDER %b ff 77 INBOX 1 1 NIL", b"NO [CANNOT] "), (b"FOLDER %b ff 77 a//b 1 1 NIL", b"NO [CANNOT] "),
        (b"FOLDER %b ff 78 f 1 1 NIL", b"NO [NOTEMPTY] "), (b"FOLDER %b gg 78 f 1 1 NIL", b"NO [MAILBOXID (ff)] "),
        (b"MESSAGES %b ff 78 0", b"NO [UIDVALIDITY 77] "), (b"MESSAGES %b gg 77 0", b"NO [NONEXISTENT] "),
        (b"DELETE %b ff 78", b"NO [UIDVALIDITY 77] "), (b"CHANGES 99999", b"NO [ROLLEDBACK "),
        (b"FLAGS \"x@y\" ff 77 (1 1 ())", b"NO [NOACCOUNT] "), (b"EXPUNGE %b ff 77 (1:200000 5)", b"NO [LIMIT] "),
        (b"EXPUNGE %b ff 77 (1:* 5)", b"BAD "), (b"EXPUNGE %b ff 77", b"BAD "), (b"FOLDER %b f/f 1 x 1 1 NIL", b"BAD "),
        (b"FOLDER %b ff 0 x 1 1 NIL", b"BAD "), (b"FOLDER %b ff 4294967295 x 1 1 NIL", b"BAD "), (b"NOPE", b"BAD "),
        (b"FLAGS %b ff 77 (0 1 ())", b"BAD "), (b"FLAGS %b ff 77 (1 0 ())", b"BAD "),
        (b"FLAGS %b ff 77 (1 1 x)", b"BAD "),
        (b"ACCOUNT \"X@y\"", b"NO [CANNOT] "), (b"FOLDER %b ff 77 f 1 1 NIL x", b"BAD "),
    ],
)  # fmt: skip
async def test_what_is_refused(replica: Node, command: bytes, answer: bytes) -> None:
    client = await with_folder(replica)
    await give(client, b"1 2 0 () NIL|one")
    told = await client(b"XLINK " + (command % U if b"%b" in command else command))
    assert told[-1].startswith(answer), told


async def test_messages_with_given_numbers(replica: Node) -> None:
    client = await with_folder(replica)
    assert (await give(client, b"7 12 86400 (\\Seen Work) id-7|seven", b"3 9 -1 () NIL|three")) == [
        b"* XLINK DONE 3,7", b"OK Append completed",
    ]  # fmt: skip
    digests = [hashlib.sha256(body).hexdigest().encode() for body in (b"three", b"seven")]
    assert await state(client) == [
        b"* XLINK FOLDER " + F + b" f 8 12 NIL",
        b"* XLINK MESSAGE 3 9 -1 () 5 " + digests[0] + b" NIL",
        b"* XLINK MESSAGE 7 12 86400 (\\Seen Work) 5 " + digests[1] + b' "id-7"',
    ]
    user = await imap(replica, select="f")
    assert (await user("UID FETCH 1:* (FLAGS INTERNALDATE MODSEQ BODY.PEEK[])"))[1:3] == [
        b'* 1 FETCH (UID 3 FLAGS (\\Recent) INTERNALDATE "31-Dec-1969 23:59:59 +0000" MODSEQ (9) '
        b"BODY[] {5}\r\nthree)",
        b'* 2 FETCH (UID 7 FLAGS (\\Seen Work \\Recent) INTERNALDATE " 2-Jan-1970 00:00:00 +0000" MODSEQ (12) '
        b"BODY[] {5}\r\nseven)",
    ]
    assert await ask(client, b"FIND " + U + b" (id-7 id-8)") == [b'* XLINK DELIVERY "id-7" ((ff 7))']
    await put(replica, message(1, 50, "id-7"))  # by LMTP: refused as known
    assert (await user("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 0)"
    assert await ask(client, b"BODIES " + F + b" 1:5") == [
        b"* XLINK MESSAGE 3 9 -1 () 5 " + digests[0] + b" NIL {5}\r\nthree"
    ]
    assert (await ask(client, b"MESSAGES " + F + b" 9 (BODIES 4 5)"))[1:] == [
        b"* XLINK MESSAGE 7 12 86400 (\\Seen Work) 5 " + digests[1] + b' "id-7" {5}\r\nseven'
    ]


async def test_twice_is_once_and_the_later_change_wins(replica: Node, tmp_path: Path) -> None:
    client = await with_folder(replica)
    await give(client, b"1 5 0 () NIL|one", b"2 5 0 () NIL|two")
    before = await state(client)
    assert (await give(client, b"1 5 0 () NIL|one", b"2 5 0 () NIL|two"))[0] == b"* XLINK KNOWN 1:2"
    assert await state(client) == before
    flags = b"FLAGS " + F + b" (1 7 (\\Seen)) (9 8 ())"
    assert await ask(client, flags) == [b"* XLINK DONE 1", b"* XLINK MISSING 9"]
    assert await ask(client, flags) == [b"* XLINK KNOWN 1", b"* XLINK MISSING 9"]
    assert (await give(client, b"1 5 0 () NIL|one"))[0] == b"* XLINK NEWER 1"
    assert (await give(client, b"1 6 0 () NIL|one"))[0] == b"* XLINK NEWER 1"
    assert (await give(client, b"1 8 0 (x) NIL|one"))[0] == b"* XLINK DONE 1"
    assert await ask(client, b"FLAGS " + F + b" (1 5 ())") == [b"* XLINK NEWER 1"]
    gone = b"EXPUNGE " + F + b" (1:2,6 8)"
    assert await ask(client, gone) == [b"* XLINK DONE 1:2", b"* XLINK KNOWN 6"]
    assert await ask(client, gone) == [b"* XLINK KNOWN 1:2,6"]
    # A replay of the first command does not bring the dead back
    assert (await give(client, b"1 5 0 () NIL|one", b"2 5 0 () NIL|two"))[0] == b"* XLINK NEWER 1:2"
    assert (await state(client))[0] == b"* XLINK FOLDER " + F + b" f 7 8 NIL"
    assert (await ask(client, b"MESSAGES " + F + b" 7"))[1:] == [b"* XLINK VANISHED 1:2,6"]
    assert (await ask(client, b"MESSAGES " + F + b" 8"))[1:] == []


async def test_a_uid_never_names_two_contents(replica: Node) -> None:
    client = await with_folder(replica)
    await give(client, b"1 5 0 () NIL|one", b"2 5 0 () NIL|two")
    before = await state(client)
    assert (await give(client, b"3 6 0 () NIL|three", b"1 6 0 () NIL|other"))[-1].startswith(b"NO [CONFLICT 1]")
    assert (await client(b"XLINK FLAGS " + F + b" (2 9 (x)) (1 5 (y))"))[-1].startswith(b"NO [CONFLICT 1]")
    assert await state(client) == before  # nothing of what was refused
    await ask(client, b"EXPUNGE " + F + b" (1 6) (9 6)")
    assert (await give(client, b"1 99 0 () NIL|other"))[-1].startswith(b"NO [CONFLICT 1]")
    assert (await give(client, b"9 99 0 () NIL|x"))[-1].startswith(b"NO [FORGOTTEN 9]")
    # An expunge of its own, mended: the same message may come back
    assert (await give(client, b"1 99 0 () NIL|one"))[0] == b"* XLINK DONE 1"
    # Nor after the folder was deleted and made again, nor after its UIDVALIDITY came and went
    await ask(client, b"DELETE " + F)
    await ask(client, b"FOLDER " + F + b" f 1 1 NIL")
    assert (await state(client))[0] == b"* XLINK FOLDER " + F + b" f 10 99 NIL"
    assert (await give(client, b"2 100 0 () NIL|other"))[-1].startswith(b"NO [CONFLICT 2]")
    assert (await give(client, b"2 100 0 () NIL|two"))[0] == b"* XLINK DONE 2"
    await ask(client, b"EXPUNGE " + F + b" (2 101)")
    other = U + b" ff 78"
    await ask(client, b"FOLDER " + other + b" f 1 1 NIL")
    assert (await give(client, b"2 1 0 () NIL|other", folder=other))[0] == b"* XLINK DONE 2"
    await ask(client, b"EXPUNGE " + other + b" (2 101)")
    await ask(client, b"FOLDER " + F + b" f 1 1 NIL")
    assert (await give(client, b"2 200 0 () NIL|other"))[-1].startswith(b"NO [CONFLICT 2]")


async def test_what_is_forgotten_is_not_guessed(replica: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expunges, "MOST", 1)
    monkeypatch.setattr(expunges, "KEPT", 0)
    client = await with_folder(replica)
    await give(client, *(b"%d 5 0 () NIL|%d" % (uid, uid) for uid in (1, 2, 4)))
    await ask(client, b"EXPUNGE " + F + b" (2,4 6)")
    await replica.store.write(expunges.forget)
    assert (await give(client, b"3 99 0 () NIL|3"))[-1].startswith(b"NO [FORGOTTEN 3]")
    assert (await give(client, b"5 99 0 () NIL|5"))[0] == b"* XLINK DONE 5"
    assert b"* XLINK VANISHED 2:4" in await ask(client, b"MESSAGES " + F + b" 5")


async def test_a_gap_after_a_promotion(replica: Node) -> None:
    """UIDs that the old primary may have shown never come, and clients are told that they vanished."""
    client = await with_folder(replica)
    await give(client, b"1 5 0 () NIL|1", b"3 6 0 () NIL|3")
    for _ in range(2):
        await ask(client, b"GAP " + U + b" (ff 77 100001 50 6)")
    assert (await state(client))[0] == b"* XLINK FOLDER " + F + b" f 100001 50 NIL"
    assert (await give(client, b"4 7 0 () NIL|late"))[-1].startswith(b"NO [FORGOTTEN 4]")
    user = await imap(replica)
    await user("ENABLE QRESYNC")
    told = await user("SELECT f (QRESYNC (77 7))")
    assert b"* VANISHED (EARLIER) 2,4:100000" in told and b"* OK [HIGHESTMODSEQ 50] Highest" in told
    assert (await append(user, "f", b"new")) == b"OK [APPENDUID 77 100001] Append completed"
    assert not any(b"VANISHED" in line for line in await user("SELECT f (QRESYNC (77 50))"))


async def test_gaps_of_several_folders_are_one_commit(replica: Node) -> None:
    client = await with_folder(replica)
    await ask(client, b"FOLDER " + U + b" gg 78 g 1 1 NIL")
    before = [await state(client), await state(client, U + b" gg 78")]
    with pytest.raises(Refused, match="UIDVALIDITY 77"):
        await ask(client, b"GAP " + U + b" (gg 78 50 60 0) (ff 76 100001 50 6)")
    assert [await state(client), await state(client, U + b" gg 78")] == before
    await ask(client, b"GAP " + U + b" (gg 78 50 60 0) (ff 77 100001 70 6)")
    assert (await state(client))[0].endswith(b" ff 77 f 100001 70 NIL")
    assert (await state(client, U + b" gg 78"))[0].endswith(b" gg 78 g 50 60 NIL")


async def test_what_a_lost_tail_has_told_is_told_anew(replica: Node) -> None:
    """The old primary has shown changes up to 20, of which those up to 6 came here. Clients may be ahead of us."""
    client = await with_folder(replica)
    watcher = await imap(replica)
    await watcher("ENABLE QRESYNC")
    await watcher("SELECT f")
    await give(client, b"1 5 0 (a) NIL|1", b"2 6 0 () NIL|2", b"3 8 0 () NIL|3")
    await ask(client, b"GAP " + U + b" (ff 77 100001 1000 6)")

    async def told(session: Imap, modseq: int) -> list[int]:
        lines = await session(f"SELECT f (QRESYNC (77 {modseq}))")
        assert any(line.startswith(b"* VANISHED (EARLIER) 4:100000") for line in lines)
        return [int(line.split()[1]) for line in lines if b" FETCH " in line]

    for session in (watcher, await imap(replica)):
        await session("ENABLE QRESYNC")
        assert await told(session, 5) == [2, 3]
        assert await told(session, 6) == [3]
        assert await told(session, 7) == [1, 2, 3]
        assert await told(session, 999) == [1, 2, 3]
        assert not any(b"FETCH" in line for line in await session("SELECT f (QRESYNC (77 1000))"))
        assert (await session("UID STORE 1 (UNCHANGEDSINCE 20) +FLAGS (x)"))[-1].startswith(b"OK [MODIFIED 1]")
        assert (await session("UID SEARCH MODSEQ 21"))[0] == b"* SEARCH 1 2 3 (MODSEQ 8)"
        assert (await session("FETCH 1:* (UID) (CHANGEDSINCE 30)"))[-2].startswith(b"* 3 FETCH")


async def test_sessions_that_look_on(replica: Node) -> None:
    client = await with_folder(replica)
    await give(client, b"5 5 0 () NIL|5")
    user = await imap(replica)
    await user("ENABLE QRESYNC")
    await user("SELECT f")
    await give(client, b"9 6 0 () NIL|9", b"2 6 0 () NIL|2")
    assert (await user("NOOP"))[0] == b"* 2 EXISTS"  # below what it has seen nothing can be slipped in: only at SELECT
    assert (await user("UID FETCH 1:* (UID)"))[:-1] == [b"* 1 FETCH (UID 5)", b"* 2 FETCH (UID 9)"]
    await ask(client, b"FLAGS " + F + b" (9 8 (\\Seen)) (2 8 (\\Seen))")
    assert (await user("NOOP"))[:-1] == [b"* 2 FETCH (UID 9 FLAGS (\\Seen \\Recent) MODSEQ (8))"]
    assert b"* 3 EXISTS" in await user("SELECT f")
    await ask(client, b"EXPUNGE " + F + b" (2,5,9 10)")
    assert (await user("NOOP"))[0] == b"* VANISHED 2,5,9"
    await ask(client, b"FOLDER " + U + b" ff 78 f 1 1 NIL")
    assert (await user("NOOP")) == [b"OK NOOP completed"]
    assert b"* OK [UIDVALIDITY 78] UIDs valid" in await user("SELECT f")


async def test_counts_and_the_next_numbers(replica: Node) -> None:
    client = await with_folder(replica)
    assert (await give(client, b"7 12 1 () NIL|seven", b"0 5 2 () NIL|next", b"0 0 3 () NIL|after"))[0] == (
        b"* XLINK DONE 7:9"
    )
    assert (await ask(client, b"MESSAGES " + F + b" 12 COUNTED"))[0] == b"* XLINK FOLDER " + F + b" f 10 12 NIL 3"
    assert (await ask(client, b"CHANGES 1 (" + U + b") COUNTED"))[2] == b"* XLINK FOLDER " + F + b" f 10 12 NIL 3"
    assert (await give(client, b"0 5 2 () NIL|last"))[0] == b"* XLINK DONE 10"
    assert (await ask(client, b"MESSAGES " + F + b" 12"))[1].startswith(b"* XLINK MESSAGE 10 13 ")


async def test_a_large_message_and_a_refused_one(replica: Node, tmp_path: Path) -> None:
    client = await with_folder(replica)
    large = b"x" * 700_000
    assert (await give(client, b"1 2 0 () NIL|" + large))[0] == b"* XLINK DONE 1"
    assert (await give(client, b"1 2 0 () NIL|" + large))[0] == b"* XLINK KNOWN 1"
    assert (await give(client, b"1 2 0 () NIL|y" + large))[-1].startswith(b"NO [CONFLICT 1]")
    assert (await give(client, b"2 2 0 () NIL|" + large, folder=U + b" ff 78"))[-1].startswith(b"NO [UIDVALIDITY 77]")
    assert (await client(b"XLINK APPEND " + F + b" (2 2 0 () NIL) {3+}\r\nabc nonsense"))[-1].startswith(b"BAD")
    assert (await client(b"XLINK APPEND " + F + b" (4294967295 2 0 () NIL) {3+}\r\nabc"))[-1].startswith(b"BAD")
    assert len(list((tmp_path / "replica" / "bodies").iterdir())) == 1
    (line,) = await ask(client, b"BODIES " + F + b" 1")
    assert line.endswith(b" {700000}\r\n" + large)


async def test_commands_may_be_sent_without_waiting(replica: Node) -> None:
    client = await with_folder(replica)
    await client.send(
        b"a XLINK APPEND " + F + b" (1 2 0 () NIL) {1+}\r\nx\r\nb XLINK FLAGS " + F + b" (1 3 (\\Seen))\r\n"
        b"c XLINK CHANGES 0 (" + U + b")\r\n"
    )
    assert (await client.until(b"a"))[0] == b"* XLINK DONE 1"
    assert (await client.until(b"b"))[0] == b"* XLINK DONE 1"
    assert b"* XLINK FOLDER " + F + b" f 2 3 NIL" in await client.until(b"c")


async def whole(client: Imap) -> list[bytes]:
    """Everything that a node has, without the numbers of its commits."""
    lines = (await ask(client, b"CHANGES 0"))[:-1]
    for line in tuple(lines):
        found = FOLDER.match(line)
        if found is not None:
            lines += await state(client, b" ".join(found.groups()[:3]))
    return lines


async def test_a_small_link_keeps_two_nodes_in_step(primary: Node, replica: Node) -> None:
    link = Link(await linked(primary), await linked(replica))
    await put(primary, *(message(n, 40 * n, f"id-{n}") for n in range(20)), message(1, 3 * LARGEST))
    user = await imap(primary, select="INBOX")
    await user("STORE 1:5 +FLAGS (\\Seen Work)")
    await link.run()
    assert await whole(link.replica) == await whole(link.primary)
    await user("STORE 3 +FLAGS.SILENT (\\Deleted)")
    await user("EXPUNGE")
    await user("MOVE 4:6 Archive")
    await user("CREATE a/b (USE (\\All))")
    await user("UNSUBSCRIBE Junk")
    await append(user, "Drafts", b"draft", "(\\Draft) ")
    for old, new in (("Archive", "x"), ("Drafts", "Archive"), ("x", "Drafts")):
        await user(f"RENAME {old} {new}")
    await user("DELETE Junk")
    await link.run()
    assert await whole(link.replica) == await whole(link.primary)
    before = (await ask(link.replica, b"CHANGES 0"))[-1]
    link.commit, link.come = 0, {}  # a link that has forgotten everything does it all again, and changes nothing
    await link.run()
    assert await whole(link.replica) == await whole(link.primary)
    assert len(await ask(link.replica, b"CHANGES " + before.split()[-1])) == 1
    await user("RENAME INBOX old")
    await put(primary, message(99))
    await link.run()
    assert await whole(link.replica) == await whole(link.primary)


async def test_many_accounts_in_one_round_trip(primary: Node) -> None:
    for n in range(450):
        await primary.store.create_account(f"u{n}@example.com")
    client = await linked(primary)
    *lines, last = await ask(client, b"CHANGES 0")
    assert sum(line.startswith(b"* XLINK ACCOUNT ") for line in lines) == 450
    assert sum(line.startswith(b"* XLINK FOLDER ") for line in lines) == 450 * 6
    await put(primary, message(1), account="u7@example.com")
    commit = last.split()[-1]
    names = b" ".join(b"u%d@example.com" % n for n in range(450))
    for asked in (b"", b" (" + names + b")"):
        (line, _) = await ask(client, b"CHANGES " + commit + asked)
        assert re.match(rb'\* XLINK FOLDER "u7@example.com" \S+ \d+ INBOX 2 2 NIL', line)


async def test_a_message_that_is_expunged_while_it_is_fetched(primary: Node) -> None:
    await put(primary, *(message(n, 20_000) for n in range(200)))
    client = await linked(primary)
    line = next(line for line in await ask(client, b"CHANGES 0") if b" INBOX 2" in line)
    found = FOLDER.match(line)
    assert found is not None
    user = await imap(primary, select="INBOX")
    await user("STORE 1:200 +FLAGS.SILENT (\\Deleted)")
    given, _ = await asyncio.gather(
        ask(client, b"BODIES " + b" ".join(found.groups()[:3]) + b" 1:200"), user("EXPUNGE")
    )
    assert all(b"line 000000000 of the body" in line for line in given)
