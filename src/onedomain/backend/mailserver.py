"""A mail server as all kinds have it in common: LMTP or SMTP in, IMAP out.

Knows how the parts (delivery, log-in, look-up, probes) are put together and tells the watch what was seen. What one
kind does differently is in Traits, one file each. Does not know when any of it is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

from onedomain.backend.base import DELIVERY, IMAP, Attempt, ClientInfo, Found, Lookup, Session
from onedomain.backend.delivery import Deliverer
from onedomain.backend.expiring import read_expiries
from onedomain.backend.finding import find_delivery
from onedomain.backend.imap_session import Answer, ImapDoor, ImapSession, ImapTimes
from onedomain.backend.login import log_in, login_of, no_way
from onedomain.backend.opening import Done, Opening, Welcome
from onedomain.backend.pool import PoolLimits
from onedomain.backend.probing import Manners, Probes, takes_recipient, watch_delivery, watch_imap
from onedomain.backend.smtp_session import Door, SmtpTimes
from onedomain.backend.trouble import Trouble, troubles
from onedomain.model.account import Account
from onedomain.model.failure import Failed
from onedomain.model.health import Seen, Sighting, Watch
from onedomain.model.message import Delivery, Outcome
from onedomain.model.ports import Nonce
from onedomain.model.server import LoginWay, Server
from onedomain.net.dial import begin_dial
from onedomain.net.poller import Poller
from onedomain.net.tls import ClientContexts

MAX_LOOKUPS = 4
"""Look-ups at once: each may have the server read a whole mailbox."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every backend is given. `hello` is what we call ourselves. The number of connections is each server's own
    (max_deliveries), the rest of `limits` is for all.
    """

    contexts: ClientContexts
    watch: Watch
    nonce: Nonce
    hello: str
    smtp_times: SmtpTimes = field(default_factory=SmtpTimes)
    imap_times: ImapTimes = field(default_factory=ImapTimes)
    limits: PoolLimits = field(default_factory=PoolLimits)


@dataclass(frozen=True, slots=True)
class Traits:
    """`quick_ack`: it leaves Nagle's algorithm on, so its packets must be acknowledged at once.
    `takes_identity`: it wants to know the client's address, in IMAP's ID.
    """

    quick_ack: bool = False
    takes_identity: bool = False


class MailServer:
    """Implements base.Backend."""

    traits: ClassVar[Traits] = Traits()

    def __init__(self, server: Server, tools: Tools) -> None:
        self.server = server
        self.can_find = server.login_way is not LoginWay.PASSWORD
        self.in_flight = 0
        self._tools = tools
        self._lookups = asyncio.Semaphore(MAX_LOOKUPS)
        self._imap = ImapDoor(server.imap, tools.contexts, tools.imap_times, self.traits.quick_ack)
        door = Door(
            server.delivery,
            server.delivery_protocol == "lmtp",
            tools.hello,
            tools.contexts,
            tools.smtp_times,
            quick_ack=self.traits.quick_ack,
        )
        limits = replace(tools.limits, size=server.max_deliveries)
        self._deliverer = Deliverer(server.name, door, limits, tools.watch)
        self._probes = Probes(server, self._imap, door, tools.nonce)

    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]:
        self.in_flight += 1
        try:
            return await self._deliverer.deliver(delivery, attempt)
        finally:
            self.in_flight -= 1

    async def find(self, account: Account, delivery_id: str, *, since: float | None = None) -> Lookup:
        if not self.can_find:
            return Lookup(Found.CANT, failure=no_way(self.server))
        with self._working():
            async with self._lookups:
                try:
                    session, _ = await self._open_for(account, None, None)
                    try:
                        with troubles(f"look-up at {self.server.name}"):
                            return await find_delivery(session, delivery_id, since)
                    finally:
                        await session.leave()
                except Failed as error:
                    return Lookup(Found.CANT, failure=error.failure)

    async def log_in(
        self, account: Account, password: str | None, client: ClientInfo, opening: Opening | None = None
    ) -> Session:
        self.in_flight += 1
        try:
            session, welcome = await self._session_for(account, password, client, opening)
        finally:
            self.in_flight -= 1
        capabilities = tuple(sorted(session.capabilities))
        return Session(self.server.name, session.hand_over(), capabilities, welcome.tagged.text)

    def begin(
        self, account: Account, password: str | None, client: Callable[[], ClientInfo], poller: Poller, done: Done
    ) -> Opening | None:
        try:
            login = login_of(self.server, account, password)
        except Failed:
            return None
        opening = Opening(self, account, login, client() if self.traits.takes_identity else None, done)
        stream = begin_dial(
            self._imap.endpoint, self._tools.contexts.names, poller, opening.heard, quick_ack=self.traits.quick_ack
        )
        if stream is None:
            return None
        opening.begin(stream)
        self.in_flight += 1
        return opening

    def opened(self, opening: Opening, welcome: Welcome, seconds: float) -> Session:
        self._saw(Seen.OK, seconds, "")
        return Session(self.server.name, opening.stream, welcome.capabilities, welcome.text)

    def given_up(self, opening: Opening) -> None:
        self.in_flight -= 1

    async def finish(self, opening: Opening, account: Account, password: str | None) -> Session:
        return await self.log_in(account, password, opening.client or ClientInfo(), opening)

    async def check_password(self, account: Account, password: str, client: ClientInfo) -> None:
        with self._working():
            session, _ = await self._session_for(account, password, client)
            await session.leave()

    async def probe(self, face: str) -> Sighting:
        return await (self._probes.delivery() if face == DELIVERY else self._probes.imap())

    async def watch(self, face: str) -> None:
        await (watch_delivery(self._deliverer.door) if face == DELIVERY else watch_imap(self._imap))

    async def probe_message(self, account: str) -> Sighting:
        return await self._probes.message(self, account)

    async def manners(self, account: str) -> Manners | None:
        """What it does to mail by itself, seen with a probe account (probing.Probes). Raises Failed."""
        return await self._probes.manners(self, account)

    async def expiries(self, account: Account) -> dict[str, int] | None:
        """Days after which it takes messages away by itself, by folder; None where nobody tells. Raises Failed."""
        session, _ = await self._open_for(account, None, None)
        try:
            with troubles(f"METADATA at {self.server.name}"):
                return await read_expiries(session)
        finally:
            await session.leave()

    async def takes(self, address: str) -> bool:
        """Whether it would accept mail for an address, by what it says to RCPT. Raises Failed."""
        return await takes_recipient(self._deliverer.door, address)

    async def forget(self) -> None:
        self._deliverer.pool.forget()

    async def close(self) -> None:
        await self._deliverer.pool.close()

    @contextmanager
    def _working(self) -> Iterator[None]:
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def _session_for(
        self, account: Account, password: str | None, client: ClientInfo, opening: Opening | None = None
    ) -> tuple[ImapSession, Answer]:
        """Logged in; what was seen on the way is told. Wrong credentials say nothing about the server's pace."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            opened = await self._open_for(account, password, client, opening)
        except Trouble as trouble:
            self._saw(trouble.seen, trouble.seconds, trouble.failure.reason)
            raise
        self._saw(Seen.OK, clock() - began, "")
        return opened

    async def _open_for(
        self, account: Account, password: str | None, client: ClientInfo | None, opening: Opening | None = None
    ) -> tuple[ImapSession, Answer]:
        login = login_of(self.server, account, password)
        if opening is not None and (opening.stream.closed or opening.login != login):
            opening.close()
            opening = None
        stream, sent = (opening.stream, opening.sent) if opening is not None else (None, b"")
        session = await ImapSession.open(self._imap, client.peer if client else None, stream=stream)
        try:
            answer = await log_in(session, login, client if self.traits.takes_identity else None, sent)
        except BaseException:
            session.close()
            raise
        return session, answer

    def _saw(self, seen: Seen, seconds: float, reason: str) -> None:
        self._tools.watch.saw(Sighting(self.server.name, IMAP, seen, seconds, reason))
