"""Links over simulated servers in virtual time: connections that take time and are few, an outlet that remembers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

from onedomain.backend.link.base import Letter
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, again
from onedomain.model.replica import LinkState, Powers
from onedomain.replica.aside import Origin
from onedomain.replica.links import Links
from onedomain.replica.pace import Bounds
from onedomain.replica.parts import Parts, Rhythm
from onedomain.replica.saving import Saver, Saving

from ..health.virtual import VirtualClock
from ..simulation.ends import ServerEnd
from ..simulation.server import Server

WORKER = ("e1", 0)
towns: list[Town] = []


class SlowEnd:
    """A LinkEnd that takes `seconds` for each question, and for each body."""

    def __init__(self, pool: Pool, end: ServerEnd) -> None:
        self._pool, self._end = pool, end
        self.powers = end.powers

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def asked(*arguments: Any, **named: Any) -> Any:
            await self._pool.answer(name)
            return await getattr(self._end, name)(*arguments, **named)

        return asked

    def expect(self, messages: int) -> None:
        self._end.expect(messages)

    async def letters(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> AsyncIterator[Letter]:
        await self._pool.answer("letters")
        async for letter in self._end.letters(folder, uids, uidvalidity):
            await asyncio.sleep(self._pool.per_letter)
            yield letter

    async def close(self, *, broken: bool = False) -> None:
        self._pool.lent -= 1
        self._pool.places.release()


class Pool:
    """A LinkServer: mailboxes by account, `size` connections. `down`: nobody answers; `hung`: for ever."""

    def __init__(self, kind: str, size: int = 8, seconds: float = 0.001) -> None:
        self.kind, self.seconds, self.per_letter = kind, seconds, 0.0001
        self.mailboxes: dict[str, Server] = {}
        self.places = asyncio.Semaphore(size)
        self.lent = self.most = self.dials = 0
        self.down = self.hung = False
        self.questions: Counter[str] = Counter()

    @property
    def powers(self) -> Powers:
        return Server(self.kind, 1).traits.powers

    def mailbox(self, address: str) -> Server:
        if address not in self.mailboxes:
            self.mailboxes[address] = Server(self.kind, 1000 + len(self.mailboxes))
        return self.mailboxes[address]

    async def answer(self, question: str) -> None:
        self.questions[question] += 1
        if self.hung:
            await asyncio.Event().wait()
        await asyncio.sleep(self.seconds)
        if self.down:
            raise Failed(again(451, "4.4.2", "connection lost"))

    async def end(self, account: Account) -> SlowEnd:
        self.dials += 1
        if self.down:
            raise Failed(again(451, "4.4.1", "connection refused"))
        await self.places.acquire()
        self.lent += 1
        self.most = max(self.most, self.lent)
        return SlowEnd(self, ServerEnd(self.mailbox(account.address)))

    async def provide(self, account: Account) -> None:
        self.mailbox(account.address)

    async def close(self) -> None: ...


class Outlet:
    def __init__(self) -> None:
        self.covers: dict[str, int] = {}
        self.confirmed: list[str] = []
        self.consumed: list[str] = []
        self.alerts: list[str] = []
        self.news = asyncio.Event()

    def covered(self, place: tuple[str, int], account: str, ticket: int) -> None:
        assert place == WORKER
        self.covers[account] = ticket
        self.news.set()

    def released(self, place: Any, account: str, confirmed: Collection[str], consumed: Collection[str],
                 epoch: int) -> None:
        self.confirmed += confirmed
        self.consumed += consumed
        self.news.set()

    def alert(self, account: str, folder: str, text: str) -> None:
        self.alerts.append(f"{account} {folder}: {text}")

    async def until(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                self.news.clear()
                await self.news.wait()


class Aside:
    def __init__(self) -> None:
        self.kept: list[tuple[Origin, int]] = []

    async def keep(self, origin: Origin, letters: Sequence[Letter], why: str) -> None:
        self.kept += [(origin, letter.uid) for letter in letters]


class Quiet:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def add(self, name: str, amount: float = 1, **labels: str) -> None: ...
    def set(self, name: str, value: float, **labels: str) -> None: ...


class Town:
    """Two servers, a directory, a database that saves in `saving` seconds."""

    def __init__(self, source: str = "dovecot", target: str = "node", *, size: int = 8, seconds: float = 0.001,
                 rhythm: Rhythm | None = None, bounds: Bounds | None = None, saving: float = 0.002) -> None:
        self.pools = {"a": Pool(source, size, seconds), "b": Pool(target, size, seconds)}
        self.outlet, self.aside, self.log = Outlet(), Aside(), Quiet()
        self.saved: dict[str, LinkState] = {}
        self.epochs: dict[str, int] = {}
        self.accepted: dict[str, bool] = {}  # as it was saved last
        self.saving, self.saves, self.lease, self.away = saving, 0, True, False
        self.down: set[str] = set()
        self.dice = random.Random(7)
        self.tickets = 0
        self.told: dict[str, int] = {}
        self.number = 0
        self.accounts: dict[str, Account] = {}
        self.rhythm, self.bounds = rhythm, bounds
        self.links = self.new_links()
        towns.append(self)

    def new_links(self) -> Links:
        parts = Parts(
            servers=lambda name: self.pools[name], states=self, saver=Saver(self._write), aside=self.aside,  # type: ignore[arg-type]
            outlet=self.outlet, usable=lambda name: name not in self.down, clock=VirtualClock(),
            dice=self.dice.random, trace=self.log, count=self.log, may_write=lambda: self.lease)
        links = Links(parts, self.rhythm, self.bounds)
        for account in self.accounts.values():
            links.configure(account, linked=True)
        return links

    async def load(self, account: Account) -> LinkState | None:
        same = self.epochs.get(account.address) == account.home.epoch
        return self.saved[account.address] if same else None

    async def _write(self, savings: Sequence[Saving]) -> frozenset[str]:
        await asyncio.sleep(self.saving)
        self.saves += 1
        if self.away:
            raise Failed(again(451, "4.3.0", "the database is away"))
        if not self.lease:
            return frozenset()
        self.saved.update({each.account: each.state for each in savings})
        self.epochs.update({each.account: each.epoch for each in savings})
        self.accepted.update({each.account: each.accepted for each in savings})
        return frozenset(each.account for each in savings)

    def account(self, name: str, primary: str = "a", replica: str = "b", epoch: int = 1) -> Account:
        made = self.accounts[name] = Account(name, "unit", Home(primary, (replica,), epoch))
        self.pools[primary].mailbox(name)
        self.links.configure(made, linked=True)
        return made

    def deliver(self, name: str, *, server: str = "a", told: bool = True) -> str:
        self.number += 1
        each = f"d{self.number}"
        raw = f"Message-ID: <m{self.number}>\r\nX-OneDomain-Delivery: {each}\r\n\r\nbody {self.number}".encode()
        self.pools[server].mailbox(name).deliver("INBOX", raw, self.number)
        if told:
            self.touch(name, "DELIVER", "", [each])
        return each

    def touch(self, name: str, what: str = "STORE", folder: str = "INBOX", ids: Sequence[str] = ()) -> int:
        self.tickets += 1
        self.told[name] = self.tickets
        self.links.touched(WORKER, [[self.tickets, name, what, folder, list(ids)]])
        return self.tickets

    async def covered(self, name: str, seconds: float = 60.0) -> float:
        """Virtual seconds until all that was told is covered."""
        began, ticket = VirtualClock().monotonic(), self.told[name]
        await self.outlet.until(lambda: self.outlet.covers.get(name, 0) >= ticket, seconds)
        return VirtualClock().monotonic() - began

    async def idle(self, name: str) -> None:
        """Until no pass of it is under way."""
        while (linked := self.links.linked(name)) is not None and linked.running:
            await asyncio.sleep(0.001)

    def same(self, name: str) -> bool:
        one, other = (self.pools[each].mailbox(name).boxes for each in "ab")
        return {k: {u: m.raw for u, m in b.messages.items()} for k, b in one.items()} == {
            k: {u: m.raw for u, m in b.messages.items()} for k, b in other.items()}
