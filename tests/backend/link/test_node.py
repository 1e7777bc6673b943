"""A node as an end of a link: its own traps, and plans carried out between two nodes in this process."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from onedomain.backend.link.base import Letter
from onedomain.backend.link.node import NodeEnd, NodeServer
from onedomain.backend.link.node_words import AT_ONCE, kept
from onedomain.backend.link.xlink import Xlink
from onedomain.backend.mailserver import Tools
from onedomain.decision.link.actions import Copied, Refused
from onedomain.decision.link.bring_back import bring_back
from onedomain.decision.link.identity import identity_of
from onedomain.decision.link.order import Order, Report
from onedomain.decision.link.promote import GAP, MODSEQ_GAP, promote
from onedomain.decision.link.sweep import sweep
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, Kind, again
from onedomain.model.health import Sighting
from onedomain.model.replica import LinkState, Promotion, Row, Side
from onedomain.model.server import Endpoint, Server
from onedomain.net.tls import ClientContexts
from onedomain.node.server import Node
from onedomain.node.store import link as rows
from onedomain.node.store.writer import Transaction
from onedomain.protocol.imap.link_command import GiveFolder
from onedomain.protocol.imap.response import Tagged
from onedomain.replica.performer import Performer
from tests.node.imap.test_session import append
from tests.node.lab import Imap, imap, lmtp, message, start_node

ACCOUNT = Account("u@example.com", "head", Home("primary", ("replica",)))


class Chance:
    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def random(self) -> float:
        return random.random()


class Blind:
    def saw(self, sighting: Sighting) -> None: ...


def link_server(node: Node, **options: object) -> NodeServer:
    host, port = node.addresses["imap"][0]
    values = {"replication_user": "replica", "replication_password": "secret", **options}
    endpoint = Endpoint(host, port)
    server = Server("node", "node", endpoint, endpoint, **values)  # type: ignore[arg-type]
    return NodeServer(server, Tools(ClientContexts(), Blind(), Chance(), "edge.example"))


def letter(uid: int, raw: bytes | None = None, flags: str = "", modseq: int = 0) -> Letter:
    return Letter(uid, frozenset(flags.split()), 1_700_000_000 + uid, message(uid) if raw is None else raw, modseq)


@dataclass
class Kept:
    state: LinkState = field(default_factory=LinkState)
    aside: list[tuple[str, int]] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    confirmed: set[str] = field(default_factory=set)

    async def set_aside(self, side: Side, folder: str, letters: Sequence[Letter], why: str) -> None:
        self.aside += [(folder, each.uid) for each in letters]

    async def whole(self) -> None: ...
    async def confirm(self, deliveries: Collection[str]) -> None:
        self.confirmed.update(deliveries)

    async def save(self, state: LinkState) -> None:
        self.state = state

    async def alert(self, folder: str, text: str) -> None:
        self.alerts.append(f"{folder}: {text}")


@dataclass
class Linked:
    """Two nodes, a client at the first, and the link between them."""

    primary: Node
    replica: Node
    source: NodeServer
    target: NodeServer
    kept: Kept = field(default_factory=Kept)

    async def performer(self, *, turned: bool = False) -> Performer:
        source, target = await self.source.end(ACCOUNT), await self.target.end(ACCOUNT)
        return Performer(target, source, self.kept) if turned else Performer(source, target, self.kept)

    async def sweep(self, *, turned: bool = False, audit: bool = False) -> Report:
        powers = NodeServer.powers
        order = Order(0.0, frozenset({"INBOX", "Sent", "Lists/a"}), audit)
        return await (await self.performer(turned=turned)).run(sweep(self.kept.state, powers, powers, order))


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    names = {"replication_user": "replica", "replication_password": "secret"}
    started = [await start_node(tmp_path / name, **names) for name in ("primary", "replica")]
    yield started
    for node in started:
        await node.close()


@pytest.fixture
async def linked(nodes: list[Node]) -> AsyncIterator[Linked]:
    pair = Linked(nodes[0], nodes[1], link_server(nodes[0]), link_server(nodes[1]))
    await pair.target.provide(ACCOUNT)
    yield pair
    await pair.source.close()
    await pair.target.close()


@pytest.fixture
async def end(linked: Linked) -> NodeEnd:
    return await linked.target.end(ACCOUNT)


async def shown(node: Node, items: str = "UIDVALIDITY UIDNEXT MESSAGES MAILBOXID") -> dict[str, list[bytes]]:
    """All folders as a client sees them: marks, UIDs, flags, dates, bytes."""
    client = await imap(node)
    seen: dict[str, list[bytes]] = {}
    names = [line.split(b" ")[-1].decode() for line in (await client('LIST "" *'))[:-1] if b"Noselect" not in line]
    for name in sorted(names):
        await client(f"EXAMINE {name}")
        status = (await client(f"STATUS {name} ({items})"))[0]
        fetched = (await client("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])"))[:-1]
        seen[name] = [status, *(line.replace(b" \\Recent", b"").replace(b"\\Recent", b"") for line in fetched)]
    seen["LSUB"] = sorted((await client('LSUB "" *'))[:-1])
    seen["USES"] = sorted((await client('LIST (SPECIAL-USE) "" *'))[:-1])
    await client.close()
    return seen


# -- the end by itself


async def test_marks_and_counts_are_asked_for_only_where_they_changed(linked: Linked, end: NodeEnd) -> None:
    before = await end.list_folders()
    assert [(folder.name, folder.mark.uidnext, folder.mark.messages) for folder in before.folders] == [("INBOX", 1, 0)]
    await end.append("INBOX", [letter(3), letter(7)])
    after = (await end.list_folders()).folders[0].mark
    assert (after.uidnext, after.messages) == (8, 2)
    # Everybody else's view is as fresh: what is remembered belongs to a connection, and is asked from there on.
    assert (await (await linked.target.end(ACCOUNT)).list_folders()).folders[0].mark == after
    assert (await end.read("INBOX")).before == after


async def test_a_restarted_and_restored_node_is_seen(
    nodes: list[Node], linked: Linked, end: NodeEnd, tmp_path: Path
) -> None:
    await end.append("INBOX", [letter(1)])
    assert (await end.list_folders()).folders[0].mark.uidnext == 2
    await nodes[1].close()
    port = nodes[1].addresses["imap"][0][1]
    names = {"replication_user": "replica", "replication_password": "secret", "imap": (f"127.0.0.1:{port}",)}
    nodes[1] = await start_node(tmp_path / "other", **names)
    await linked.target.provide(ACCOUNT)
    assert (await end.list_folders()).folders[0].mark.uidnext == 1


async def test_what_changed_since(end: NodeEnd) -> None:
    await end.append("INBOX", [letter(uid, modseq=100 + uid) for uid in (1, 2, 3, 9)])
    mark = (await end.read("INBOX")).before
    assert (mark.uidnext, mark.modseq, mark.messages) == (10, 109, 4)
    await end.set_flags("INBOX", (2, 9), frozenset({"\\Seen"}), 500)
    await end.expunge("INBOX", (3, 5))
    rows = await end.read("INBOX", mark.modseq)
    assert rows.rows == tuple(Row(uid, frozenset({"\\Seen"}), 1_700_000_000 + uid) for uid in (2, 9))
    assert tuple(rows.vanished) == (3, 5) and rows.before.modseq == rows.after == 501
    assert [row.uid for row in (await end.read("INBOX", first=2)).rows] == [2, 9]
    assert not (await end.read("INBOX")).vanished


async def test_letters_are_as_they_were(end: NodeEnd) -> None:
    ours = b"X-OneDomain-Delivery: d-\xe91\nX-OneDomain-Filler: 9\n\nb\nc\r\n"
    odd = [b"", ours, b"\0\r\n\r\n\0", "Subject: 件名\r\n\r\n本文".encode("cp932"), b"no end of line", b"x" * 200_000]
    given = [letter(uid, raw, "\\Seen Work", 50 + uid) for uid, raw in enumerate(odd, 1)]
    answers = await end.append("INBOX", given)
    assert answers == tuple(Copied(each.uid, identity_of(each.raw)) for each in given)
    assert [each async for each in end.letters("INBOX", (6, 5, 4, 3, 2, 1, 77))] == given
    identities = await end.read_identities("INBOX", (1, 2, 3, 4, 77))
    assert identities == {uid: identity_of(odd[uid - 1]) for uid in (1, 2, 3, 4)}
    assert (identities[2].delivery, identities[2].filler) == ("d-\xe91", True)


async def test_many_letters_go_in_more_than_one_command(end: NodeEnd) -> None:
    given = [letter(uid, b"Subject: %d\r\n\r\n" % uid) for uid in range(1, AT_ONCE + 11)]
    assert [each.uid for each in await end.append("INBOX", given) if isinstance(each, Copied)] == [*range(1, 511)]
    assert len((await end.read("INBOX")).rows) == len(given)
    assert [each.uid async for each in end.letters("INBOX", range(1, 511))] == [*range(1, 511)]


async def test_a_uid_that_is_used_up_is_not_given_again(end: NodeEnd) -> None:
    await end.append("INBOX", [letter(5)])
    for uid in (5, 4):
        with pytest.raises(Failed) as caught:
            await end.append("INBOX", [letter(uid, b"another")])
        assert caught.value.failure.kind is Kind.AGAIN


async def test_whichever_uid_comes_while_others_write(linked: Linked, end: NodeEnd) -> None:
    await end.list_folders()
    client = await imap(linked.replica, select="INBOX")
    await append(client, "INBOX", message(1))
    answer = await end.append("INBOX", [letter(0, b"a"), letter(0, b"b")])
    assert [each.uid for each in answer if isinstance(each, Copied)] == [2, 3]
    assert [line for line in await client("NOOP") if b"EXISTS" in line][-1] == b"* 3 EXISTS"


async def test_a_message_that_is_too_large_is_refused(nodes: list[Node], tmp_path: Path) -> None:
    names = {"replication_user": "replica", "replication_password": "secret"}
    small = await start_node(tmp_path / "small", max_message=2**20, **names)
    server = link_server(small)
    await server.provide(ACCOUNT)
    end = await server.end(ACCOUNT)
    large = b"x" * (2**20 + 1)
    answer = await end.append("INBOX", [letter(1), letter(2, large), letter(3)])
    assert [type(each) for each in answer] == [Copied, Refused, Copied]
    assert [row.uid for row in (await end.read("INBOX")).rows] == [1, 3]
    await server.close()
    await small.close()


async def test_flags_that_are_not_kept_are_named(end: NodeEnd) -> None:
    await end.append("INBOX", [letter(1, flags="\\Seen \\Odd Work")])
    wanted = frozenset({"\\answered", "Work", "work", "a]b", "\\Odd", "k" * 300})
    assert await end.set_flags("INBOX", (1,), wanted) >= {"a]b", "\\Odd", "k" * 300}
    (row,) = (await end.read("INBOX")).rows
    assert row.flags == {"\\Answered", "Work"}
    many = frozenset(f"k{number:03}" for number in range(70))
    assert len(await end.set_flags("INBOX", (1,), many)) == 6
    assert kept(["\\Recent"]) == []


async def test_a_later_change_wins_over_one_that_was_made_here(linked: Linked, end: NodeEnd) -> None:
    await end.append("INBOX", [letter(1)])
    client = await imap(linked.replica, select="INBOX")
    for flag in ("\\Seen", "Work", "Other"):
        await client(f"UID STORE 1 +FLAGS ({flag})")
    await end.set_flags("INBOX", (1,), frozenset({"\\Draft"}))
    assert (await end.read("INBOX")).rows[0].flags == {"\\Draft"}
    await client("UID STORE 1 +FLAGS (Work)")
    await end.expunge("INBOX", (1,))
    assert (await end.read("INBOX")).rows == ()


async def test_folders(end: NodeEnd) -> None:
    mark = await end.create_folder("Sent", 77, "\\Sent", "5f1c-id")
    assert (mark.uidvalidity, mark.uidnext) == (77, 1)
    for name in ("Lists", "Lists/a", "Lists/&itxsQg-"):
        await end.create_folder(name, 0)
    await end.append("Lists/a", [letter(4)])
    assert (await end.create_folder("Lists/a", 99)).uidvalidity != 99  # it has had messages
    await end.rename_folder("Lists", "Old")
    await end.subscribe("Old/a", True)
    await end.subscribe("INBOX", False)
    listing = await end.list_folders()
    assert [each.name for each in listing.folders] == ["INBOX", "Old", "Old/&itxsQg-", "Old/a", "Sent"]
    sent = listing.find("Sent")
    assert sent is not None and (sent.identity, sent.special_use) == ("5f1c-id", "\\Sent")
    assert [each.name for each in listing.folders if each.subscribed] == ["Old/a"]
    with pytest.raises(Failed):
        await end.rename_folder("Old", "Sent")
    await end.delete_folder("Old/a")
    await end.delete_folder("Old/a")
    with pytest.raises(Failed):
        await end.read("Old/a")


async def test_what_a_folder_costs_does_not_grow_with_the_number_of_others(
    end: NodeEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, cost = Xlink.ask, Counter[str]()

    async def counted(xlink: Xlink, *words: bytes, seconds: float | None = None) -> tuple[Tagged, list[list[Any]]]:
        tagged, lines = await plain(xlink, *words, seconds=seconds)
        cost.update(commands=1, lines=len(lines))
        return tagged, lines

    monkeypatch.setattr(Xlink, "ask", counted)
    await end.list_folders()

    async def one(name: str) -> Counter[str]:
        cost.clear()
        mark = await end.create_folder(name, 77)
        assert (mark.uidvalidity, mark.uidnext) == (77, 1)
        await end.create_folder(f"{name}/below", 78)
        await end.rename_folder(name, f"{name}~")
        await end.set_use(f"{name}~/below", "\\Archive")
        await end.subscribe(f"{name}~", True)
        await end.rename_folder(f"{name}~", f"{name}-")
        await end.delete_folder(f"{name}-/below")
        return cost.copy()

    few = await one("first")
    for number in range(40):
        await end.create_folder(f"other{number}", 100 + number)
    assert await one("last") == few
    assert few["commands"] <= 20 and few["lines"] <= 10
    listing = await end.list_folders()
    assert [each.name for each in listing.folders if "-" in each.name] == ["first-", "last-"]
    assert [each.name for each in listing.folders if each.subscribed] == ["INBOX", "first-", "last-"]
    assert len(listing.folders) == 43


async def test_what_others_have_done_to_folders_since_they_were_listed(linked: Linked, end: NodeEnd) -> None:
    for number, name in enumerate("abcd", 1):
        await end.create_folder(name, number)
        await end.append(name, [letter(1)])
    await end.create_folder("empty", 9)
    client = await imap(linked.replica)
    for command in ("RENAME a away", "DELETE b", "CREATE new", "RENAME c taken"):
        assert (await client(command))[-1].startswith(b"OK")
    for name in ("new", "empty"):
        await append(client, name, message(7))
    with pytest.raises(Failed):
        await end.rename_folder("a", "x")
    with pytest.raises(Failed):
        await end.rename_folder("b", "x")  # or an empty one would be there
    await end.delete_folder("c")
    assert (await end.create_folder("new", 50)).uidnext == (await end.create_folder("empty", 51)).uidnext == 2
    names = [each.name for each in (await end.list_folders()).folders]
    assert names == ["INBOX", "away", "d", "empty", "new", "taken"]
    await client("RENAME d e")
    await append(client, "taken", message(8))
    with pytest.raises(Failed):
        await end.rename_folder("away", "e")
    assert [each.name for each in (await end.list_folders()).folders] == ["INBOX", "away", "e", "empty", "new", "taken"]


async def test_a_folder_that_is_made_again_goes_on_where_it_was(end: NodeEnd) -> None:
    await end.create_folder("a", 5)
    await end.append("a", [letter(3)])
    await end.delete_folder("a")
    assert (await end.create_folder("a", 5)).uidnext == 4


async def test_the_name_may_belong_to_another_folder_by_now(linked: Linked, end: NodeEnd) -> None:
    await end.create_folder("a", 5)
    await end.append("a", [letter(1)])
    await end.read("a")
    client = await imap(linked.replica)
    assert (await client("RENAME a b"))[-1].startswith(b"OK") and (await client("CREATE a"))[-1].startswith(b"OK")
    with pytest.raises(Failed):
        await end.read("a")
    assert (await end.read("a")).rows == ()
    with pytest.raises(Failed):
        await end.read_identities("a", (1,), 5)


async def test_deliveries_are_found_wherever_they_are(linked: Linked, end: NodeEnd) -> None:
    await end.append("INBOX", [letter(1, message(1, delivery="d-1")), letter(2, message(2, delivery="d-2"))])
    await end.expunge("INBOX", (2,))
    post = await lmtp(linked.replica)
    assert (await post.deliver(message(3, delivery="d-3"), "u@example.com"))[0].startswith(b"250")
    assert await end.find({"d-1", "d-2", "d-3", "d-4", ""}) == {"d-1", "d-2", "d-3"}
    # What a link brought is refused by LMTP as known
    await post.deliver(message(1, delivery="d-1"), "u@example.com")
    assert len((await end.read("INBOX")).rows) == 2


async def test_who_is_not_let_in(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.node.imap.login.WRONG_DELAY", 0.0)
    for options, kind in (
        ({"replication_user": ""}, Kind.GIVE_UP), ({"replication_password": "wrong"}, Kind.AGAIN),
        ({"replication_user": "edge", "replication_password": "sesame"}, Kind.AGAIN),
    ):  # fmt: skip
        server = link_server(nodes[0], **options)
        with pytest.raises(Failed) as caught:
            await server.end(ACCOUNT)
        assert caught.value.failure.kind is kind
        await server.close()
    stranger = await link_server(nodes[0]).end(Account("nobody@example.com", "head", Home("primary")))
    with pytest.raises(Failed):
        await stranger.list_folders()


# -- plans between two


async def busy(client: Imap) -> None:
    for number in range(1, 21):
        await append(client, "INBOX", message(number, 300 * number))
    await client("CREATE Lists/a")
    await client("SELECT INBOX")
    await client("UID STORE 2:5 +FLAGS (\\Seen $Label1)")
    await client("UID STORE 7 +FLAGS (\\Deleted)")
    await client("EXPUNGE")
    await client("UID COPY 3:4 Lists/a")
    await client("UNSUBSCRIBE Trash")


async def test_a_folder_that_a_node_does_not_make_now_holds_up_no_other(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = rows.give_folder

    def full(tx: Transaction, given: GiveFolder, now: int) -> None:
        if given.name == "b":
            raise Failed(again(452, "4.3.1", "the disk is full", ""))
        plain(tx, given, now)

    monkeypatch.setattr(rows, "give_folder", full)
    client = await imap(linked.primary)
    for name in "abc":
        await client(f"CREATE {name}")
        await append(client, name, message(1))
    report = await linked.sweep()
    assert not report.whole and "OVERQUOTA" in report.full
    there = await shown(linked.replica)
    assert "b" not in there and [len(there[name]) for name in "ac"] == [2, 2]
    monkeypatch.setattr(rows, "give_folder", plain)
    assert (await linked.sweep()).whole
    assert await shown(linked.primary) == await shown(linked.replica)


async def test_everything_is_the_same_on_both(linked: Linked) -> None:
    client = await imap(linked.primary)
    await busy(client)
    assert (await linked.sweep()).whole
    assert await shown(linked.primary) == await shown(linked.replica)
    await client("SELECT INBOX")
    await client("UID MOVE 8:9 Lists/a")
    await client("UID STORE 10 FLAGS (\\Flagged)")
    await client("UID STORE 11 +FLAGS (\\Deleted)")
    await client("EXPUNGE")
    await client("RENAME Lists Elsewhere")
    await client("UNSUBSCRIBE Junk")
    await client("DELETE Junk")
    await client("UNSUBSCRIBE Junk")
    await append(client, "Sent", b"Subject: sent\r\n\r\n")
    assert (await linked.sweep()).whole
    assert await shown(linked.primary) == await shown(linked.replica)
    assert (await linked.sweep(audit=True)).whole and linked.kept.alerts == []


async def test_a_client_with_a_cache_goes_on_at_the_replica(linked: Linked) -> None:
    client = await imap(linked.primary)
    await busy(client)
    await linked.sweep()
    for number in range(30):  # its MODSEQ runs ahead of the number of passes
        await client(f"UID STORE 3 FLAGS (k{number})")
    await linked.sweep()
    status = b" ".join(await client("EXAMINE INBOX"))
    names = (b"UIDVALIDITY ", b"HIGHESTMODSEQ ")
    validity, modseq = (int(status.split(name)[-1].split(b"]")[0]) for name in names)
    await client("SELECT INBOX")
    await client("UID STORE 4 FLAGS (carried)")
    await client("UID STORE 5 +FLAGS (\\Deleted)")
    await client("EXPUNGE")
    assert (await linked.sweep()).whole
    await append(client, "INBOX", b"lost")
    assert await fail_over(linked)
    other = await imap(linked.replica)
    await other("ENABLE QRESYNC")
    told = b"\n".join(await other(f"SELECT INBOX (QRESYNC ({validity} {modseq}))"))
    assert b"carried" in told and b"VANISHED (EARLIER) " in told and b"UIDNEXT %d" % (21 + GAP) in told
    vanished = told.split(b"VANISHED (EARLIER) ")[1].split(b"\n")[0]
    assert b"5" in vanished.replace(b":", b",").split(b",") and vanished.endswith(b":%d" % (20 + GAP))
    assert told.count(b"FETCH") < 19, "a cache of before the loss is told what changed, not everything"
    highest = int(told.split(b"HIGHESTMODSEQ ")[1].split(b"]")[0])
    assert highest > modseq + MODSEQ_GAP
    # One that has seen what was lost is told of every message
    told = b"\n".join(await other(f"SELECT INBOX (QRESYNC ({validity} {modseq + 10}))"))
    assert told.count(b"FETCH") == 18


async def fail_over(linked: Linked) -> Promotion:
    promotion = await (await linked.performer()).run(promote(linked.kept.state, NodeServer.powers))
    assert not promotion.refused and all(not folder.renumbered for folder in promotion.folders)
    return promotion


async def test_promotion_and_return(linked: Linked) -> None:
    client = await imap(linked.primary)
    await busy(client)
    await linked.sweep()
    await append(client, "INBOX", b"Subject: tail\r\n\r\n")
    promotion = await fail_over(linked)
    again = await fail_over(linked)
    assert again == promotion
    other = await imap(linked.replica)
    await append(other, "INBOX", b"Subject: new\r\n\r\n")
    await other("SELECT INBOX")
    await other("UID STORE 3 FLAGS (New)")
    plan = bring_back(linked.kept.state, promotion, ())
    brought = await (await linked.performer()).run(plan)
    assert (brought.added, brought.aside) == (1, 0)
    linked.kept.state = brought.state
    reports = [await linked.sweep(turned=True) for _ in range(3)]
    assert reports[-1].whole and linked.kept.alerts == []
    items = "UIDVALIDITY MESSAGES MAILBOXID"  # UIDNEXT comes with the next message
    assert await shown(linked.primary, items) == await shown(linked.replica, items)
    assert b"".join((await shown(linked.primary))["INBOX"]).count(b"Subject: tail") == 1
    assert linked.kept.aside == [("INBOX", 21)], "of what was the same on both nothing is copied again"
