"""An edge on a loopback port, with a home that the test scripts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from onedomain.backend.base import Backend, ClientInfo, Session
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.edge.home import ALWAYS_OPEN, Homes
from onedomain.edge.imap import ImapEdge, MailboxParts
from onedomain.edge.imap_visit import imap_visits
from onedomain.edge.login import LoginParts, LoginRules, LogIns
from onedomain.edge.pop3 import Pop3Edge
from onedomain.edge.pop3_visit import pop3_visits
from onedomain.edge.relays import Relays
from onedomain.model.account import Account, Home, Unit
from onedomain.model.failure import Failed, again, refuse
from onedomain.model.ports import Gate
from onedomain.model.server import LoginWay
from onedomain.net.listen import Listener, Visits, bind
from onedomain.net.shared import SharedTable
from onedomain.net.stream import Stream
from onedomain.net.tls import ServerContexts
from onedomain.trace.counters import Counters
from tests.directory.views import EXAMPLE, server
from tests.edge.parts import Board, CountingNonce, FakePasswords, Notes, RealClock

JOE = Account("joe@example.com", "head", Home("s1"), password="{X}right")
ANN = Account("ann@example.com", "head", Home("s1"))

Handler = Callable[[MailboxParts], Callable[[Stream], Awaitable[None]]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FakeHome:
    """A backend whose sessions are what `script` says, on a real socket."""

    def __init__(self, script: Script) -> None:
        self.server = server("s1", login_way=LoginWay.MASTER)
        self.capabilities: tuple[str, ...] = ("COMPRESS=DEFLATE", "IDLE", "IMAP4REV1", "UIDPLUS", "AUTH=PLAIN")
        self.password = "home's own"
        self.trouble: Failed | None = None
        self.hang: asyncio.Event | None = None
        self.given_up = 0
        self.log_ins: list[tuple[str, str | None, ClientInfo]] = []
        self.connections: set[asyncio.Task[None]] = set()
        self._script = script

    def begin(self, *_: object) -> None:
        """Every log-in is `log_in`."""

    async def log_in(self, account: Account, password: str | None, client: ClientInfo) -> Session:
        self.log_ins.append((account.address, password, client))
        if self.hang is not None:
            try:
                await self.hang.wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        if self.trouble is not None:
            raise self.trouble
        if password is not None and password != self.password:
            raise Failed(refuse(535, "5.7.8", "no", "home said no"))
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        task = asyncio.create_task(self._run(reader, writer))
        self.connections.add(task)
        return Session("s1", Stream(ours), self.capabilities, "Welcome at home.")

    async def check_password(self, account: Account, password: str, client: ClientInfo) -> None:
        (await self.log_in(account, password, client)).stream.close()

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._script(reader, writer)
        finally:
            writer.close()


@dataclass
class Edge:
    parts: MailboxParts
    board: Board
    notes: Notes
    book: Book
    failures: SharedTable
    port: int
    home: FakeHome = field(init=False)

    def change(self, *accounts: Account, seq: int = 2) -> None:
        self.book.apply(Delta(seq, accounts=accounts))
        for account in accounts:
            self.parts.relays.account_changed(account.address, account)

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return Client(reader, writer)


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> str:
        return (await asyncio.wait_for(self.reader.readline(), 10)).decode("latin-1").rstrip("\r\n")

    async def ask(self, line: str) -> str:
        self.send(line.encode() + b"\r\n")
        return await self.line()

    async def rest(self) -> bytes:
        """All up to the end."""
        return await asyncio.wait_for(self.reader.read(), 10)

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def edge(
    script: Script, handler: Handler, *, uidl_format: str = "%08Xu%08Xv", **options: Any
) -> AsyncIterator[Edge]:
    """In front of a scripted home; `options` are those of `edge_before`."""
    home = FakeHome(script)
    directory = Book((EXAMPLE,), [Unit("head")], [server("s1", uidl_format=uidl_format), server("s2")])
    directory.apply(Delta(1, accounts=(JOE, ANN)))
    async with edge_before(lambda name: home, directory, handler, **options) as running:  # type: ignore[arg-type, return-value]
        running.home = home
        try:
            yield running
        finally:
            for task in home.connections:
                task.cancel()
            await asyncio.gather(*home.connections, return_exceptions=True)


@asynccontextmanager
async def edge_before(
    backend: Callable[[str], Backend],
    directory: Book,
    handler: Handler,
    *,
    tls: ServerContexts | None = None,
    implicit: bool = False,
    refusal: float = 0.0,
    sessions: int = 0,
    gate: Gate = ALWAYS_OPEN,
) -> AsyncIterator[Edge]:
    failures, known, counts = SharedTable(), SharedTable(), SharedTable()
    for table in (failures, known, counts):
        table.start(0)
    notes, board = Notes(), Board()
    rules = LoginRules("example.com", refusal=refusal)
    log_ins = LogIns(
        LoginParts(directory, FakePasswords(), failures, known, RealClock(), CountingNonce(), notes, Counters()),
        rules,
    )
    homes = Homes(directory, board, backend, gate)
    context = tls.context if tls else None
    parts = MailboxParts(log_ins, homes, Relays(counts, limit=sessions), notes, notes, CountingNonce(), context)
    made = handler(parts)
    visits: Visits | None = None
    if isinstance(made, ImapEdge):
        visits = imap_visits(made)
    elif isinstance(made, Pop3Edge):
        visits = pop3_visits(made)
    listener = Listener(bind("127.0.0.1", 0), made, trace=notes, tls=context if implicit else None, visits=visits)
    listener.start()
    try:
        yield Edge(parts, board, notes, directory, failures, listener.address[1])
    finally:
        await listener.drain(0)


def down() -> Failed:
    return Failed(again(451, "4.4.1", "the mail server does not answer", "dial"))
