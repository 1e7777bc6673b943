"""Relays of accounts with replicas: OKs that wait for the replica, writes that a fence stops, what is hidden."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from onedomain.decision.link.growth import STORED
from onedomain.edge.imap import ImapEdge, ImapRules, MailboxParts
from onedomain.edge.pop3 import Pop3Edge, Pop3Rules
from onedomain.edge.relays import Relays
from onedomain.model.account import Account, Home
from onedomain.net.pump import Relay
from onedomain.protocol.imap.answers import MAX_TAG
from tests.edge.fakeimap import FakeImap
from tests.edge.kit import ANN, JOE, Client, Edge, edge

TWIN = replace(JOE, home=Home("s1", ("s2",), 2))
VEILED = replace(JOE, home=Home("s1", ("s2",), 2, no_modseq=True))
SHOWN = replace(JOE, home=Home("s1", ("s2",), 2, no_modseq=True, shown="100 5:77 6:78"))


@dataclass
class Link:
    """Changes with tickets; what covers them is the test's."""

    told: list[tuple[str, str]] = field(default_factory=list)
    asked: list[tuple[int, float]] = field(default_factory=list)
    answers: list[asyncio.Future[bool]] = field(default_factory=list)
    replicated: bool = True

    def changed(self, account: str, what: str, folder: str = "", deliveries: tuple[str, ...] = ()) -> int:
        self.told.append((what, folder))
        return len(self.told) if self.replicated else 0

    async def covered(self, account: str, ticket: int, seconds: float) -> bool:
        self.asked.append((ticket, seconds))
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    async def until_asked(self, times: int = 1) -> None:
        while len(self.asked) < times:
            await asyncio.sleep(0.001)


class Fence:
    def __init__(self) -> None:
        self.open = True
        self.asked: list[Account] = []

    may_close = True

    def may_forward(self, account: Account) -> bool:
        self.asked.append(account)
        return self.open


class Home1:
    """A home that the test speaks for."""

    def __init__(self) -> None:
        self.heard = b""
        self.writer: asyncio.StreamWriter | None = None
        self.moved = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while data := await reader.read(65536):
            self.heard += data
            self.moved.set()

    def say(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)

    async def until(self, words: bytes) -> None:
        while words not in self.heard:
            self.moved.clear()
            await asyncio.wait_for(self.moved.wait(), 10)


@dataclass
class Scene:
    running: Edge
    client: Client
    home: Home1
    link: Link
    fence: Fence
    counted: list[tuple[str, str]]


@asynccontextmanager
async def scene(account: Account = TWIN, held: float = 2.0) -> AsyncIterator[Scene]:
    home, link, fence = Home1(), Link(), Fence()
    counted: list[tuple[str, str]] = []

    class Count:
        def add(self, name: str, amount: float = 1, **labels: str) -> None:
            counted.append((name, labels["result"]))

        def set(self, name: str, value: float, **labels: str) -> None:
            raise AssertionError

    def handler(parts: MailboxParts) -> ImapEdge:
        parts = replace(parts, changes=link, fence=fence, count=Count(), held_seconds=held)
        return ImapEdge(parts, ImapRules(plaintext_login=True))

    async with edge(home, handler) as running:
        running.home.capabilities = ("IMAP4REV1", "CONDSTORE", "QRESYNC", "IDLE")
        running.change(account)
        client = await running.connect()
        await client.line()
        answer = await client.ask("a LOGIN joe right")
        assert answer.startswith("a OK"), answer
        assert ("QRESYNC" in answer) is not account.home.no_modseq
        yield Scene(running, client, home, link, fence, counted)
        client.close()


Making = Callable[..., Awaitable[None]]


async def append(scene: Scene, tag: bytes = b"b") -> None:
    scene.client.send(tag + b" APPEND Sent {2+}\r\nhi\r\n")
    await scene.home.until(tag + b" APPEND Sent {2+}\r\nhi\r\n")


async def test_the_ok_of_an_append_waits_for_the_replica() -> None:
    async with scene() as s:
        await append(s)
        assert s.link.told == [], "before the answer a pass could not find it"
        s.home.say(b"* 3 EXISTS\r\nb OK [APPENDUID 1 2] done\r\n* 4 EXISTS\r\n")
        assert await s.client.line() == "* 3 EXISTS"
        await s.link.until_asked()
        assert s.link.told == [("APPEND", "Sent")]
        assert s.link.asked == [(1, 2.0)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(s.client.reader.read(1), 0.05)
        s.link.answers[0].set_result(True)
        assert await s.client.line() == "b OK [APPENDUID 1 2] done"
        assert await s.client.line() == "* 4 EXISTS"
        assert s.counted == [("appends_held_total", "covered")]
        assert s.link.told == [("APPEND", "Sent")]


async def test_after_the_limit_it_goes_and_is_counted() -> None:
    async with scene(held=0.7) as s:
        await append(s)
        s.home.say(b"b OK done\r\n")
        await s.link.until_asked()
        assert s.link.asked == [(1, 0.7)]
        s.link.answers[0].set_result(False)
        assert await s.client.line() == "b OK done"
        assert s.link.told == [("APPEND", "Sent"), (STORED, "")], "the replica lacks what the client was told is stored"
        assert s.counted == [("appends_held_total", "released")]
        note = s.running.notes.named("append not covered")[0]
        assert (note["account"], note["folder"], note["reason"]) == (
            "joe@example.com", "Sent", "the replica has not confirmed it")
        assert 0 <= note["seconds"] < 10


async def test_a_link_that_breaks_holds_nobody() -> None:
    async with scene() as s:
        await append(s)
        s.home.say(b"b OK done\r\n")
        await s.link.until_asked()
        s.link.answers[0].set_exception(RuntimeError("link"))
        assert await s.client.line() == "b OK done"
        assert s.counted == [("appends_held_total", "released")]
        assert s.link.told == [("APPEND", "Sent"), (STORED, "")]


async def test_an_ok_that_nobody_can_hold_is_told() -> None:
    async with scene() as s:
        await append(s, b"t" * (MAX_TAG + 1))
        assert s.link.told == [("APPEND", "Sent"), (STORED, "")]


async def test_an_account_without_a_link_is_not_held() -> None:
    async with scene() as s:
        s.link.replicated = False
        await append(s)
        await append(s, b"c")
        s.home.say(b"b OK done\r\nc OK done\r\n")
        assert await s.client.line() == "b OK done"
        assert await s.client.line() == "c OK done"
        assert s.link.asked == []


async def test_two_in_a_row_each_wait_and_what_is_pipelined_behind() -> None:
    async with scene() as s:
        await append(s)
        await append(s, b"c")
        s.client.send(b"d NOOP\r\n")
        await s.home.until(b"d NOOP\r\n")
        s.home.say(b"b OK 1\r\nc OK 2\r\nd OK 3\r\n")
        await s.link.until_asked()
        s.client.send(b"e NOOP\r\n")
        await s.home.until(b"e NOOP\r\n")  # towards the home all goes on
        s.home.say(b"e OK 4\r\n")
        s.link.answers[0].set_result(True)
        assert await s.client.line() == "b OK 1"
        await s.link.until_asked(2)
        s.link.answers[1].set_result(True)
        assert [await s.client.line() for _ in range(3)] == ["c OK 2", "d OK 3", "e OK 4"]


async def test_other_changes_are_told_with_their_answer_and_not_held() -> None:
    async with scene() as s:
        s.client.send(b"b SELECT Work\r\nc MOVE 1 Trash\r\nd STORE 1 FLAGS (x)\r\n")
        await s.home.until(b"(x)\r\n")
        s.home.say(b"b OK\r\n")
        assert await s.client.line() == "b OK"
        assert s.link.told == []
        s.home.say(b"* 1 EXPUNGE\r\nc OK\r\nd NO\r\n")
        assert [await s.client.line() for _ in range(3)] == ["* 1 EXPUNGE", "c OK", "d NO"]
        assert s.link.told == [("COPY 1", "Trash"), ("EXPUNGE", "Work"), ("STORE", "Work")]


async def test_a_message_that_looks_like_the_answer_is_none() -> None:
    trap = b"\r\nb OK not this\r\n" * 100_000
    async with scene() as s:
        s.client.send(b"f FETCH 1 BODY.PEEK[]\r\n")
        await append(s)
        s.home.say(b"* 1 FETCH (BODY[] {%d}\r\n%b)\r\nf OK fetched\r\nb OK done\r\n" % (len(trap), trap))
        assert (await s.client.line()).startswith("* 1 FETCH")
        assert await s.client.reader.readexactly(len(trap)) == trap
        assert await s.client.line() == ")"
        assert await s.client.line() == "f OK fetched"
        await s.link.until_asked()
        s.link.answers[0].set_result(True)
        assert await s.client.line() == "b OK done"


async def test_a_session_that_ends_tells_what_was_under_way() -> None:
    async with scene() as s:
        await append(s)
        s.client.send(b"c DELETE x\r\n")
        await s.home.until(b"c DELETE x\r\n")
        s.home.say(b"b OK done\r\n")
        await s.link.until_asked()
        assert s.running.parts.relays.cut_all("Closing.") == 1
        assert (await s.client.rest()).endswith(b"* BYE [UNAVAILABLE] Closing.\r\n")
        while len(s.running.parts.relays):
            await asyncio.sleep(0.001)
        # The held one twice: a ticket more costs nothing, one too few a message.
        assert s.link.told == [("APPEND", "Sent"), ("APPEND", "Sent"), ("DELETE", "x")]


async def test_without_a_lease_nothing_reaches_the_home() -> None:
    async with scene() as s:
        s.client.send(b"b NOOP\r\n")
        await s.home.until(b"b NOOP\r\n")
        s.home.say(b"b OK\r\n")
        assert await s.client.line() == "b OK"
        s.fence.open = False
        s.client.send(b"c STORE 1 FLAGS (x)\r\n")
        assert await s.client.rest() == (
            b"* BYE [UNAVAILABLE] Your mailbox may have moved to another server, please log in again.\r\n"
        )
        assert s.home.heard == b"b NOOP\r\n"
        assert s.fence.asked[-1].home == TWIN.home


async def test_what_waits_for_a_slow_home_does_not_reach_it_after_the_lease() -> None:
    async with scene() as s:
        home = s.home
        while home.writer is None:
            await asyncio.sleep(0.001)
        transport = home.writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        s.client.send(b"b APPEND Sent {50000000+}\r\n")
        sending = asyncio.create_task(_send(s.client, b"x" * 20_000_000))
        relays = s.running.parts.relays
        relay = _relay(relays)
        while not relay.server.pending:
            await asyncio.sleep(0.001)
        s.fence.open = False
        given = relay._up.count - relay.server.pending  # to the kernel, which can't be asked for it back
        transport.resume_reading()  # type: ignore[attr-defined]
        assert (await s.client.rest()).startswith(b"* BYE [UNAVAILABLE]")
        while len(relays):
            await asyncio.sleep(0.001)
        assert relay.server.closed
        assert len(home.heard) <= given + 100
        sending.cancel()


async def _send(client: Client, data: bytes) -> None:
    client.send(data)
    await client.writer.drain()


def _relay(relays: Relays) -> Relay:
    (seat,) = next(iter(relays._seats.values()))
    relay = seat.cut.__self__._relay  # type: ignore[union-attr]
    assert isinstance(relay, Relay)
    return relay


async def test_accounts_without_replicas_wait_for_nothing() -> None:
    async with scene(JOE) as s:
        s.link.replicated = False
        await append(s)
        s.home.say(b"b OK\r\n")
        assert await s.client.line() == "b OK"
        assert s.link.told == [("APPEND", "Sent")] and s.link.asked == []


async def test_a_session_goes_on_when_its_account_gets_a_replica_and_then_has_what_that_asks_for() -> None:
    async with scene(JOE) as s:
        now = replace(JOE, home=Home("s1", ("s2",), JOE.home.epoch + 1))
        s.running.change(now)
        await append(s)
        s.home.say(b"b OK\r\n")
        await s.link.until_asked()
        with pytest.raises(TimeoutError):  # its OK waits for the replica
            await asyncio.wait_for(s.client.reader.read(1), 0.05)
        s.link.answers[0].set_result(True)
        assert await s.client.line() == "b OK"
        assert s.fence.asked[-1] == now
        s.fence.open = False
        s.client.send(b"c NOOP\r\n")
        assert (await s.client.line()).startswith("* BYE")
        assert b"NOOP" not in s.home.heard


async def test_what_is_hidden_is_not_shown_and_refused() -> None:
    async with scene(VEILED) as s:
        s.client.send(b"b CAPABILITY\r\nc ENABLE QRESYNC\r\nd SELECT x (CONDSTORE)\r\n")
        await s.home.until(b"d SELECT")
        assert s.home.heard == b"b CAPABILITY\r\nc ENABLE XRESYNC\r\nd SELECT x (XONDSTORE)\r\n"
        s.home.say(b"* CAPABILITY IMAP4rev1 CONDSTORE QRESYNC IDLE\r\nb OK\r\n")
        assert [await s.client.line() for _ in range(2)] == ["* CAPABILITY IMAP4rev1 IDLE", "b OK"]
        await append(s, b"e")
        s.home.say(b"c OK\r\nd BAD\r\ne OK [CAPABILITY QRESYNC ID] x\r\n")
        assert [await s.client.line() for _ in range(2)] == ["c OK", "d BAD"]
        await s.link.until_asked()
        s.link.answers[0].set_result(True)
        assert await s.client.line() == "e OK [CAPABILITY ID] x"


async def test_behind_a_long_message_names_are_hidden_too() -> None:
    body = b"\r\n* CAPABILITY QRESYNC\r\n" * 20_000
    async with scene(VEILED) as s:
        s.client.send(b"b FETCH 1 BODY[]\r\n")
        await s.home.until(b"b FETCH")
        s.home.say(b"* 1 FETCH (BODY[] {%d}\r\n%b)\r\n* CAPABILITY QRESYNC ID\r\n" % (len(body), body))
        assert (await s.client.line()).startswith("* 1 FETCH")
        assert await s.client.reader.readexactly(len(body)) == body
        assert [await s.client.line() for _ in range(2)] == [")", "* CAPABILITY ID"]


async def test_uidvalidities_are_shown_as_they_were_before() -> None:
    async with scene(SHOWN) as s:
        s.client.send(b"b SELECT INBOX\r\nc SELECT x (QRESYNC (77 1))\r\n")
        await s.home.until(b"c SELECT")
        assert s.home.heard.endswith(b"c SELECT x (XRESYNC (77 1))\r\n")
        s.home.say(b"* OK [UIDVALIDITY 5] x\r\nb OK [READ-WRITE] x\r\nc BAD x\r\n* STATUS y (UIDVALIDITY 6)\r\n")
        assert [await s.client.line() for _ in range(4)] == [
            "* OK [UIDVALIDITY 77] x", "b OK [READ-WRITE] x", "c BAD x", "* STATUS y (UIDVALIDITY 78)"]
        await append(s, b"e")
        s.home.say(b"e OK [APPENDUID 6 9] x\r\n* OK [COPYUID 200 1 1] x\r\n")
        await s.link.until_asked()
        s.link.answers[0].set_result(True)
        assert [await s.client.line() for _ in range(2)] == ["e OK [APPENDUID 78 9] x", "* OK [COPYUID 200 1 1] x"]


async def test_a_long_message_goes_past_the_rewriter() -> None:
    body = b"\r\n* STATUS x (UIDVALIDITY 5)\r\n" * 50_000
    async with scene(SHOWN) as s:
        s.client.send(b"b FETCH 1 BODY[]\r\n")
        await s.home.until(b"b FETCH")
        heard = []
        rewriter = _relay(s.running.parts.relays)._down.look.__self__._rewriter  # type: ignore[union-attr]
        hear = rewriter.hear

        def listen(data: bytes) -> bytes:
            heard.append(len(data))
            return hear(data)  # type: ignore[no-any-return]

        class Ear:
            def __getattr__(self, name: str) -> object:
                return listen if name == "hear" else getattr(rewriter, name)

        _relay(s.running.parts.relays)._down.look.__self__._rewriter = Ear()  # type: ignore[union-attr]
        s.home.say(b"* 1 FETCH (BODY[] {%d}\r\n%b)\r\n* STATUS x (UIDVALIDITY 5)\r\n" % (len(body), body))
        assert (await s.client.line()).startswith("* 1 FETCH")
        assert await s.client.reader.readexactly(len(body)) == body
        assert [await s.client.line() for _ in range(2)] == [")", "* STATUS x (UIDVALIDITY 77)"]
        assert sum(heard) < len(body) / 2


async def test_a_line_without_end_ends_the_session() -> None:
    async with scene(SHOWN) as s:
        s.client.send(b"b NOOP\r\n")
        await s.home.until(b"b NOOP")
        s.home.say(b"* STATUS " + b"x" * 100_000)
        assert await s.client.rest() == b"* BYE Please connect again.\r\n"


async def test_pop3_uidls_stay_over_a_change_of_home() -> None:
    def handler(parts: MailboxParts) -> Pop3Edge:
        return Pop3Edge(parts, Pop3Rules(plaintext_login=True))

    async with edge(FakeImap({1: b"x\r\n"}, uidvalidity=5), handler) as running:
        running.change(replace(JOE, home=Home("s1", epoch=2, shown="100 5:77", uidl="%v.%u")), ANN)
        client = await running.connect()
        await client.line()
        for command in ("USER joe", "PASS right"):
            assert (await client.ask(command)).startswith("+OK")
        assert await client.ask("UIDL 1") == "+OK 1 77.1"


async def test_a_message_with_a_hidden_word_arrives_as_it_is() -> None:
    async with scene(VEILED) as s:
        s.client.send(b"b APPEND x {18+}\r\na FETCH 1 MODSEQ\r\n\r\n")
        await s.home.until(b"a FETCH 1 MODSEQ\r\n\r\n")


async def test_what_asks_for_it_in_pieces_ends_the_session() -> None:
    async with scene(VEILED) as s:
        s.client.send(b"b SELECT x (COND")
        await s.home.until(b"(COND")
        s.client.send(b"STORE)\r\n")
        assert await s.client.rest() == b"* BYE Please connect again.\r\n"
        assert s.home.heard == b"b SELECT x (COND"


async def test_pop3_removes_nothing_without_a_lease() -> None:
    imap, fence, link = FakeImap({1: b"x\r\n", 2: b"y\r\n"}), Fence(), Link(replicated=False)

    def handler(parts: MailboxParts) -> Pop3Edge:
        return Pop3Edge(replace(parts, fence=fence, changes=link), Pop3Rules(plaintext_login=True))

    async with edge(imap, handler) as running:
        running.home.capabilities = ("IMAP4REV1", "UIDPLUS")
        running.change(TWIN, ANN)
        client = await running.connect()
        await client.line()
        for command in ("USER joe", "PASS right", "DELE 1"):
            answer = await client.ask(command)
            assert answer.startswith("+OK"), answer
        fence.open = False
        assert (await client.ask("QUIT")).startswith("-ERR")
        assert set(imap.bodies) == {1, 2}
        assert link.told == []
