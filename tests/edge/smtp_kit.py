"""An SMTP edge on a loopback port, with a spool in memory that the test looks into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from onedomain.directory.book import Book
from onedomain.edge.smtp import SmtpEdge
from onedomain.edge.smtp_ports import Heads, SmtpParts, SmtpRules
from onedomain.edge.smtp_visit import smtp_visits
from onedomain.model.account import Account, Level
from onedomain.model.failure import Failed, Failure, refuse
from onedomain.model.message import Envelope
from onedomain.net.listen import Limits as ListenLimits
from onedomain.net.listen import Listener, Network, bind
from onedomain.net.tls import ServerContexts
from onedomain.protocol.sasl import Credentials
from onedomain.protocol.smtp.offer import Offer
from tests.directory.views import book
from tests.edge.parts import Board, Notes, RealClock


@dataclass
class Kept:
    id: str
    envelope: Envelope
    data: bytes
    message_id: str


class FakeDraft:
    def __init__(self, spool: FakeSpool, id: str) -> None:
        self.id = id
        self._spool = spool
        self._parts: list[bytes] = []
        self.aborted = False

    def put(self, data: bytes) -> bool:
        if self.aborted:
            raise RuntimeError("the draft is closed")
        if self._spool.full_at is not None and sum(map(len, self._parts)) + len(data) > self._spool.full_at:
            raise Failed(self._spool.trouble)
        if self._spool.keeps:
            self._parts.append(data)
        return self._spool.spills

    async def spill(self) -> None:
        await asyncio.sleep(0)
        if self._spool.refuses_spill:
            raise Failed(self._spool.trouble)

    def commit_then(self, envelope: Envelope, told: Callable[[Failure | None], None], *, message_id: str = "") -> bool:
        if self.aborted:
            raise RuntimeError("the draft is closed")
        if self._spool.spills:
            return False

        spool, kept = self._spool, Kept(self.id, envelope, b"".join(self._parts), message_id)
        self.abort()

        async def commit() -> None:
            if spool.hang is not None:
                await spool.hang.wait()
            if not spool.refuses_commit:
                spool.messages.append(kept)
            told(spool.trouble if spool.refuses_commit else None)

        spool.tasks.append(asyncio.create_task(commit()))
        return True

    async def commit(self, envelope: Envelope, *, message_id: str = "") -> Any:
        if self.aborted:
            raise RuntimeError("the draft is closed")
        if self._spool.hang is not None:
            await self._spool.hang.wait()
        if self._spool.refuses_commit:
            raise Failed(self._spool.trouble)
        self._spool.messages.append(Kept(self.id, envelope, b"".join(self._parts), message_id))
        self._spool.open -= 1
        self._parts = []
        self.aborted = True

    def abort(self) -> None:
        if not self.aborted:
            self._spool.open -= 1
        self.aborted = True
        self._parts = []


class FakeSpool:
    """`open` counts drafts that were neither committed nor aborted."""

    def __init__(self) -> None:
        self.messages: list[Kept] = []
        self.open = 0
        self.made = 0
        self.keeps = True
        self.full_at: int | None = None
        self.refuses_draft = False
        self.refuses_commit = False
        self.spills = False
        self.refuses_spill = False
        self.hang: asyncio.Event | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.trouble: Failure = Failure(kind=refuse(1, "", "").kind, code=452, enhanced="4.3.1", text="disk full")

    def draft(self) -> FakeDraft:
        if self.refuses_draft:
            raise Failed(self.trouble)
        self.made += 1
        self.open += 1
        return FakeDraft(self, f"q{self.made:016d}")


class FakeLevels:
    def __init__(self) -> None:
        self.reached = True
        self.copies = True
        self.asked: list[str] = []

    async def wait_level(self, id: str, timeout: float, copied: Collection[str]) -> Level:
        self.asked.append(id)
        if not self.reached:
            return Level.SPOOL
        return Level.REPLICA if copied and self.copies else Level.PRIMARY


class FakeLinks:
    """`stopped` accounts have no link that runs."""

    def __init__(self) -> None:
        self.stopped: set[str] = set()

    def trouble(self, account: str) -> str:
        return "its link has stopped" if account in self.stopped else ""


class FakeAuthenticator:
    """The password is "right"; the login is the account's key."""

    def __init__(self, view: Book) -> None:
        self._view = view
        self.known: dict[tuple[str, str, str], Account] = {}
        self.checks = 0

    def at_once(self, credentials: Credentials, address: str) -> Account | None:
        return self.known.get((credentials.login, credentials.password, address))

    async def check(self, credentials: Credentials, client: tuple[str, int], local: tuple[str, int]) -> Account:
        account = self._view.account(credentials.login)
        if account is None or credentials.password != "right":
            raise Failed(refuse(535, "5.7.8", "authentication failed"))
        self.checks += 1
        self.known[credentials.login, credentials.password, client[0]] = account
        return account


class Counts:
    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        self.values[name] = self.values.get(name, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        self.values[name] = value


class Crashes:
    def __init__(self) -> None:
        self.reached: list[str] = []

    def reach(self, point: str) -> None:
        self.reached.append(point)


OFFER = Offer("mx.example.com")
RULES = SmtpRules(OFFER, cluster="example.com", domain="example.com")
SUBMISSION = SmtpRules(
    replace(OFFER, auth=("PLAIN", "LOGIN"), auth_in_clear=True), cluster="example.com", domain="example.com",
    submission=True, name="submission")


@dataclass
class Edge:
    book: Book
    rules: SmtpRules
    spool: FakeSpool = field(default_factory=FakeSpool)
    board: Board = field(default_factory=Board)
    levels: FakeLevels = field(default_factory=FakeLevels)
    links: FakeLinks = field(default_factory=FakeLinks)
    notes: Notes = field(default_factory=Notes)
    counts: Counts = field(default_factory=Counts)
    crashes: Crashes = field(default_factory=lambda: Crashes())
    heads: Heads = field(default_factory=Heads)
    authenticator: FakeAuthenticator = field(init=False)
    port: int = 0
    listener: Listener | None = None

    def __post_init__(self) -> None:
        self.authenticator = FakeAuthenticator(self.book)

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        client = Client(reader, writer)
        assert (await client.reply()).startswith("220 ")
        return client

    async def ready(self) -> Client:
        client = await self.connect()
        await client.ask("EHLO client.example.org")
        return client


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> str:
        """One reply, the lines of several joined by a bar; "" at the end."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 10)).decode("ascii").rstrip("\r\n")
            lines.append(line)
            if line[3:4] != "-":
                return "|".join(lines)

    async def replies(self, count: int) -> list[str]:
        return [await self.reply() for _ in range(count)]

    async def codes(self, count: int) -> list[int]:
        return [int(reply[:3]) for reply in await self.replies(count)]

    async def ask(self, line: str | bytes) -> str:
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return await self.reply()

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(1), 10) == b""

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def edge(
    *, view: Book | None = None, rules: SmtpRules = RULES, tls: ServerContexts | None = None, implicit: bool = False,
    proxy_from: tuple[Network, ...] = (), sessions: int = 100,
    visits: bool = True,
) -> AsyncIterator[Edge]:
    made = Edge(view if view is not None else book(), rules)
    parts = SmtpParts(
        directory=made.book, board=made.board, spool=made.spool, levels=made.levels, clock=RealClock(),
        trace=made.notes, count=made.counts, tls=tls.context if tls is not None and not implicit else None,
        authenticator=made.authenticator if rules.submission else None, links=made.links,
        crash=made.crashes, heads=made.heads)

    handler = SmtpEdge(parts, made.rules)
    made.listener = Listener(
        bind("127.0.0.1", 0), handler, trace=made.notes, proxy_from=proxy_from,
        tls=tls.context if tls is not None and implicit else None, visits=smtp_visits(handler) if visits else None,
        limits=ListenLimits(sessions=sessions, farewell=b"421 4.3.2 too many connections\r\n"))
    made.listener.start()
    made.port = made.listener.address[1]
    try:
        yield made
    finally:
        await made.listener.drain(0)
        assert not made.notes.named("session failed"), made.notes.named("session failed")
        assert made.spool.open == 0, "a draft was neither committed nor given up"
        assert made.heads.held == 0, "room for a header section was not given back"
