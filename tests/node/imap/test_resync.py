"""CONDSTORE and QRESYNC (RFC 7162): the conversations of the RFC with a running node."""

from __future__ import annotations

import re

import pytest

from onedomain.node.server import Node
from onedomain.node.store import expunges
from tests.node.imap.test_session import append, put
from tests.node.lab import Imap, imap, message

NO_FLAGS = b"FLAGS (\\Recent)"


async def folder(node: Node, count: int) -> Imap:
    """A client with a folder of `count` messages, nobody's \\Recent, everything at modseq 2."""
    client = await imap(node)
    await client("CREATE f")
    bodies = b"".join(b" {%d+}\r\nbody %d" % (len(str(n)) + 5, n) for n in range(1, count + 1))
    assert (await client(b"APPEND f" + bodies))[-1].startswith(b"OK ")
    await client("SELECT f")
    await client("UNSELECT")
    return client


async def uidvalidity(client: Imap, name: str = "f") -> int:
    (line, _) = await client(f"STATUS {name} (UIDVALIDITY)")
    return int(re.findall(rb"UIDVALIDITY (\d+)", line)[0])


async def test_select_tells_the_highest_modseq(node: Node) -> None:
    client = await folder(node, 3)
    assert b"* OK [HIGHESTMODSEQ 2] Highest" in await client("SELECT f")
    assert b"* OK [HIGHESTMODSEQ 2] Highest" in await client("EXAMINE f (CONDSTORE)")
    assert (await client("STATUS f (HIGHESTMODSEQ)"))[0] == b"* STATUS f (HIGHESTMODSEQ 2)"


async def test_fetch_of_modseq_and_changedsince(node: Node) -> None:
    client = await folder(node, 3)
    await client("SELECT f")
    assert await client("FETCH 2 (MODSEQ)") == [
        b"* OK [HIGHESTMODSEQ 2] Highest", b"* 2 FETCH (MODSEQ (2))", b"OK Fetch completed",
    ]  # fmt: skip
    assert await client("STORE 2 +FLAGS.SILENT (x)") == [
        b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft x)",
        b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft x \\*)] Flags permitted",
        b"* 2 FETCH (UID 2 MODSEQ (3))", b"OK Store completed",
    ]  # fmt: skip
    assert await client("FETCH 1:* (FLAGS) (CHANGEDSINCE 2)") == [
        b"* 2 FETCH (FLAGS (x) MODSEQ (3))", b"OK Fetch completed",
    ]  # fmt: skip
    assert await client("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 3)") == [b"OK Fetch completed"]
    # \Seen set by FETCH is a change too, and is told with its modseq
    assert (await client("FETCH 1 BODY[]"))[0] == b"* 1 FETCH (FLAGS (\\Seen) MODSEQ (4) BODY[] {6}\r\nbody 1)"


async def test_conditional_store(node: Node) -> None:
    one = await folder(node, 4)
    two = await imap(node)
    await one("SELECT f (CONDSTORE)")
    await two("SELECT f")
    await two("STORE 3 +FLAGS (\\Deleted)")
    assert await one("STORE 2,3 (UNCHANGEDSINCE 2) +FLAGS.SILENT (\\Seen)") == [
        b"* 2 FETCH (UID 2 MODSEQ (4))", b"* 3 FETCH (UID 3 FLAGS (\\Deleted) MODSEQ (3))",
        b"OK [MODIFIED 3] Conditional store failed",
    ]  # fmt: skip
    assert (await one("UID STORE 3:4 (UNCHANGEDSINCE 2) FLAGS (\\Flagged)")) == [
        b"* 4 FETCH (UID 4 FLAGS (\\Flagged) MODSEQ (5))", b"OK [MODIFIED 3] Conditional store failed",
    ]  # fmt: skip
    assert (await one("STORE 1:4 (UNCHANGEDSINCE 0) FLAGS ()"))[-1] == b"OK [MODIFIED 1:4] Conditional store failed"
    assert (await one("STORE 1 (UNCHANGEDSINCE 9) +FLAGS (\\Seen)"))[0] == (
        b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (6))"
    )
    # What changes nothing takes no modseq
    assert (await one("STORE 1 +FLAGS (\\Seen)"))[0] == b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (6))"


async def test_others_are_told_with_modseq(node: Node) -> None:
    one = await folder(node, 2)
    two = await imap(node, select="f")
    await one("SELECT f (CONDSTORE)")
    await two("STORE 1 +FLAGS (\\Seen)")
    assert (await one("NOOP"))[0] == b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (3))"
    assert (await two("NOOP")) == [b"OK NOOP completed"]


async def test_search_by_modseq(node: Node) -> None:
    client = await folder(node, 4)
    await client("SELECT f")
    await client("STORE 2,4 +FLAGS (\\Seen)")
    await client("STORE 2 +FLAGS (\\Flagged)")
    assert (await client("SEARCH MODSEQ 3"))[-2] == b"* SEARCH 2 4 (MODSEQ 4)"
    assert (await client('UID SEARCH MODSEQ "/flags/\\\\Seen" all 4'))[0] == b"* SEARCH 2 (MODSEQ 4)"
    assert (await client("SEARCH MODSEQ 5"))[0] == b"* SEARCH"
    assert (await client("SEARCH RETURN (MIN MAX) MODSEQ 2"))[0].endswith(b" MIN 1 MAX 4 MODSEQ 3")
    assert (await client("SEARCH RETURN (MIN) MODSEQ 2"))[0].endswith(b" MIN 1 MODSEQ 2")
    assert (await client("SEARCH RETURN (COUNT) MODSEQ 2"))[0].endswith(b" COUNT 4 MODSEQ 4")
    assert (await client("SEARCH RETURN (COUNT) MODSEQ 9"))[0].endswith(b" COUNT 0")


async def test_enable(node: Node) -> None:
    client = await imap(node)
    assert await client("ENABLE CONDSTORE X-NOPE") == [b"* ENABLED CONDSTORE", b"OK Enabled"]
    assert await client("ENABLE QRESYNC") == [b"* ENABLED QRESYNC", b"OK Enabled"]
    assert await client("ENABLE X") == [b"* ENABLED", b"OK Enabled"]


@pytest.mark.parametrize(
    "command",
    ["SELECT f (QRESYNC (1 1))", "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)", "FETCH 1 FLAGS (VANISHED)",
     "FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "SELECT f (QRESYNC (0 1))", "SELECT f (NOPE)", "STORE 1 (X 1) FLAGS x",
     "UID FETCH 1 FLAGS (VANISHED)", "SEARCH MODSEQ x", "SELECT f (QRESYNC (1 1 1:*))"],
)  # fmt: skip
async def test_what_is_bad(node: Node, command: str) -> None:
    client = await folder(node, 1)
    await client("SELECT f")
    assert (await client(command))[-1].startswith(b"BAD ")


async def test_coming_back(node: Node) -> None:
    other = await folder(node, 9)
    await other("SELECT f")
    await other("STORE 2,5,9 +FLAGS.SILENT (\\Deleted)")
    await other("STORE 4 +FLAGS (\\Seen)")
    await other("EXPUNGE")
    client = await imap(node)
    await client("ENABLE QRESYNC")
    validity = await uidvalidity(client)
    told = await client(f"SELECT f (QRESYNC ({validity} 2))")
    assert told[-3:] == [
        b"* VANISHED (EARLIER) 2,5,9", b"* 3 FETCH (UID 4 FLAGS (\\Seen) MODSEQ (4))",
        b"OK [READ-WRITE] Select completed",
    ]  # fmt: skip
    assert b"* OK [HIGHESTMODSEQ 5] Highest" in told and b"* 6 EXISTS" in told
    again = await client(f"SELECT f (QRESYNC ({validity} 5))")
    assert again[0] == b"* OK [CLOSED] Previous mailbox is closed"
    assert not any(b"VANISHED" in line or b"FETCH" in line for line in again)
    # Only of what the client says that it knows
    told = await client(f"SELECT f (QRESYNC ({validity} 2 1:3,8:9 (1,3 1,3)))")
    assert told[-2] == b"* VANISHED (EARLIER) 2,9"
    # Another UIDVALIDITY: the client has to begin anew, nothing is told
    told = await client(f"SELECT f (QRESYNC ({validity + 1} 2))")
    assert not any(b"VANISHED" in line or b"FETCH" in line for line in told)


async def test_uid_fetch_with_vanished(node: Node) -> None:
    client = await folder(node, 5)
    await client("ENABLE QRESYNC")
    await client("SELECT f")
    await client("STORE 2,4 +FLAGS.SILENT (\\Deleted)")
    assert await client("UID EXPUNGE 2") == [b"* VANISHED 2", b"OK [HIGHESTMODSEQ 4] Expunge completed"]
    assert await client("EXPUNGE") == [b"* VANISHED 4", b"OK [HIGHESTMODSEQ 5] Expunge completed"]
    assert await client("EXPUNGE") == [b"OK Expunge completed"]
    assert await client("UID FETCH 1:300 (UID FLAGS) (CHANGEDSINCE 4 VANISHED)") == [
        b"* VANISHED (EARLIER) 4", b"OK Fetch completed",
    ]  # fmt: skip
    assert (await client("UID FETCH 1:2 (UID FLAGS) (CHANGEDSINCE 1 VANISHED)"))[:2] == [
        b"* VANISHED (EARLIER) 2", b"* 1 FETCH (UID 1 FLAGS () MODSEQ (2))",
    ]  # fmt: skip
    assert (await client("UID MOVE 5 Trash"))[1:] == [b"* VANISHED 5", b"OK [HIGHESTMODSEQ 6] Move completed"]
    await client("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert await client("CLOSE") == [b"OK Close completed"]


async def test_vanished_while_idling_and_several_at_once(node: Node) -> None:
    other = await folder(node, 4)
    client = await imap(node)
    await client("ENABLE QRESYNC")
    await client("SELECT f")
    await client.send(b"i IDLE\r\n")
    assert await client.line() == b"+ idling\r\n"
    await other("SELECT f")
    await other("STORE 1:2,4 +FLAGS.SILENT (\\Deleted)")
    for number in (1, 2, 4):
        assert await client.line() == b"* %d FETCH (UID %d FLAGS (\\Deleted) MODSEQ (3))\r\n" % (number, number)
    assert (await other("EXPUNGE"))[:-1] == [b"* 4 EXPUNGE", b"* 2 EXPUNGE", b"* 1 EXPUNGE"]
    assert await client.line() == b"* VANISHED 1:2,4\r\n"


async def test_held_back_expunges_hold_back_the_modseq(node: Node) -> None:
    """RFC 7162 section 3.2: a client that is cut off here must be told of the expunge when it comes back."""
    other = await folder(node, 3)
    client = await imap(node)
    await client("ENABLE QRESYNC")
    await client("SELECT f")
    await other("SELECT f")
    await other("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await client("NOOP")
    await other("EXPUNGE")
    await other("STORE 1 +FLAGS (\\Seen)")
    told = await client("FETCH 2 (FLAGS)")
    assert b"* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (5))" in told
    assert told[-2] == b"* OK [HIGHESTMODSEQ 3] Expunges are held back"
    assert await client("NOOP") == [b"* VANISHED 1", b"OK NOOP completed"]


async def test_what_was_forgotten_is_told_less_exactly(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expunges, "MOST", 3)
    monkeypatch.setattr(expunges, "KEPT", 2)
    client = await folder(node, 10)
    await client("ENABLE QRESYNC")
    await client("SELECT f")
    for uid in (2, 9, 3, 7):
        await client(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
        await client("EXPUNGE")
    await node.store.write(expunges.forget)
    validity = await uidvalidity(client)

    async def earlier(arguments: str) -> list[bytes]:
        told = await client(f"SELECT f (QRESYNC ({validity} {arguments}))")
        return [line.removeprefix(b"* VANISHED (EARLIER) ") for line in told if b"VANISHED" in line]

    assert await earlier("6") == [b"3,7"]  # 9 went at modseq 6: from there on everything is known
    assert await earlier("5") == [b"2:3,7,9"]
    assert await earlier("5 1:4,8") == [b"2:3"]
    await append(client, "f", b"new")
    # Pairs of numbers and UIDs: as far as they hold, nothing has gone
    assert await earlier("5 1:10 (1,3 1,3)") == [b"2:3,7,9"]
    assert await earlier("5 1:10 (1,2 1,4)") == [b"7,9"]
    assert await earlier("5 1:10 (1,4,6 1,6,9)") == [b"7,9"]
    assert await earlier("5 1:10 (1:4294967295 1:4294967295)") == [b"2:3,7,9"]


async def test_a_folder_deleted_under_a_session_vanishes(node: Node) -> None:
    other = await folder(node, 3)
    client = await imap(node)
    await client("ENABLE QRESYNC")
    await client("SELECT f")
    await other("DELETE f")
    assert await client("NOOP") == [b"* VANISHED 1:3", b"OK NOOP completed"]


async def test_messages_from_lmtp_take_a_modseq(node: Node) -> None:
    await put(node, message(1), message(2))
    client = await imap(node)
    assert b"* OK [HIGHESTMODSEQ 3] Highest" in await client("SELECT INBOX (CONDSTORE)")
    assert (await client("FETCH 1:2 (MODSEQ)"))[:2] == [b"* 1 FETCH (MODSEQ (2))", b"* 2 FETCH (MODSEQ (3))"]
