"""A small world in virtual time: servers that fail in every way, and a loop whose clock jumps to the next event."""

from __future__ import annotations

import asyncio
import heapq
import random
import selectors
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any

from onedomain.backend.base import Attempt, Found, Lookup
from onedomain.model.account import Account, Domain, Home
from onedomain.model.failure import Failed, again, give_up
from onedomain.model.health import Load, Verdict
from onedomain.model.message import Delivery, Outcome, State
from onedomain.model.server import Endpoint, Server

START = 1_800_000_000.0
LOST = again(451, "4.4.2", "connection lost")
DOWN = again(451, "4.4.1", "connection refused")


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout:
            self._loop.now += timeout
        elif not events and timeout is None:
            raise RuntimeError("nothing will ever happen again")
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class LoopClock:
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        return START + asyncio.get_running_loop().time()


def run(work: Coroutine[Any, Any, Any], now: float = 0.0) -> tuple[Any, float]:
    """-> the result, and the virtual time at the end. What is still going on is cut off, as by kill -9."""
    loop = VirtualLoop(now)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(work), loop.now
    finally:
        loop.set_exception_handler(lambda loop, context: None)
        while tasks := asyncio.all_tasks(loop):  # some begin others when they end
            for task in tasks:
                task.cancel()
            loop.call_soon(loop.stop)
            loop.run_forever()
        asyncio.set_event_loop(None)
        loop.close()


class SimServer:
    """A server as the world sees it: mailboxes that outlive everything. `faults` are chances by name, see `deliver`."""

    def __init__(self, name: str, chance: random.Random, *, can_find: bool = True, **faults: float) -> None:
        self.name = name
        self.chance = chance
        self.can_find = can_find
        self.faults = faults
        self.boxes: Counter[tuple[str, str]] = Counter()  # (mailbox, delivery id)
        self.bodies: dict[str, bytes] = {}
        self.up = True
        self.refuses: set[str] = set()
        self.deliveries = 0
        self.appended = 0
        self.most_at_once = 0
        self.at_once = 0
        self.times: list[float] = []
        self.lost: Counter[tuple[str, str]] = Counter()
        self._late: list[tuple[float, str, str, bool]] = []

    def happens(self, fault: str) -> bool:
        return self.chance.random() < self.faults.get(fault, 0.0)

    def store(self, mailbox: str, id: str) -> None:
        self.boxes[mailbox, id] += 1

    def filtered(self, mailbox: str, id: str) -> None:
        """What came by LMTP, where an account's filter sees it; here nobody has one."""
        self.store(mailbox, id)

    def unfiltered(self, mailbox: str, id: str) -> None:
        """What came by APPEND."""
        self.store(mailbox, id)

    def store_late(self, at: float, mailbox: str, id: str, *, filtered: bool = False) -> None:
        heapq.heappush(self._late, (at, mailbox, id, filtered))

    def catch_up(self, now: float) -> None:
        while self._late and self._late[0][0] <= now:
            _, mailbox, id, filtered = heapq.heappop(self._late)
            (self.filtered if filtered else self.unfiltered)(mailbox, id)


class SimBackend:
    """How one process of ours sees a server."""

    def __init__(self, world: SimServer, *, max_deliveries: int = 3) -> None:
        self._world = world
        nowhere = Endpoint("127.0.0.1", 1)
        self.server = Server(world.name, "imap", nowhere, nowhere, max_deliveries=max_deliveries)
        self.can_find = world.can_find
        self.in_flight = 0

    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]:
        world = self._world
        loop = asyncio.get_running_loop()
        world.deliveries += 1
        world.times.append(loop.time())
        world.at_once += 1
        world.most_at_once = max(world.most_at_once, world.at_once)
        try:
            await asyncio.sleep(0.01 + world.chance.random() * 0.05)
            if not world.up:
                raise Failed(DOWN)
            if world.happens("connect"):
                raise Failed(LOST)
            outcomes: dict[int, Outcome] = {}
            taken: list[tuple[int, str]] = []
            for index, mailbox in delivery.recipients:
                if mailbox in world.refuses or world.happens("refused"):
                    refusal = give_up(550, "5.7.1", "refused")
                    outcomes[index] = Outcome(State.FAILED, world.name, "550 5.7.1 refused", refusal)
                elif world.happens("put off"):
                    outcomes[index] = Outcome(State.AGAIN, world.name, "450 4.2.0 later", again(450, "4.2.0", "later"))
                else:
                    taken.append((index, mailbox))
            if not taken:
                return outcomes
            parts = []
            while part := await delivery.body.read(sum(map(len, parts)), 1000):
                parts.append(part)
            world.bodies[delivery.id] = b"".join(parts)
            await attempt()
            await asyncio.sleep(world.chance.random() * 0.05)
            if world.happens("lost before"):
                return outcomes | {index: Outcome(State.IN_DOUBT, world.name, failure=LOST) for index, _ in taken}
            if world.happens("filed late"):
                for _, mailbox in taken:
                    at = loop.time() + world.chance.random() * 2.5
                    world.store_late(at, mailbox, delivery.id, filtered=True)
                return outcomes | {index: Outcome(State.IN_DOUBT, world.name, failure=LOST) for index, _ in taken}
            for _, mailbox in taken:
                world.filtered(mailbox, delivery.id)
            await asyncio.sleep(world.chance.random() * 0.02)
            if world.happens("lost after"):
                return outcomes | {index: Outcome(State.IN_DOUBT, world.name, failure=LOST) for index, _ in taken}
            return outcomes | {index: Outcome(State.DONE, world.name, "250 ok") for index, _ in taken}
        finally:
            world.at_once -= 1

    async def find(self, account: Account, delivery_id: str, *, since: float | None = None) -> Lookup:
        world = self._world
        await asyncio.sleep(0.02)
        world.catch_up(asyncio.get_running_loop().time())
        if not world.up or world.happens("can't find"):
            return Lookup(Found.CANT, failure=DOWN)
        there = world.boxes[account.address, delivery_id] > 0
        return Lookup(Found.YES, "INBOX") if there else Lookup(Found.NO)


class SimBoard:
    def __init__(self) -> None:
        self.down: set[str] = set()

    def verdict(self, server: str) -> Verdict:
        return Verdict.REFUSING if server in self.down else Verdict.UP

    def load(self, server: str) -> Load:
        return Load()


def address(number: int) -> str:
    return f"user{number}@example.com"


class SimView:
    """A directory of some accounts, spread over servers; may be changed under the dispatcher's feet."""

    def __init__(self, homes: Mapping[str, str | Home]) -> None:
        self.homes = dict(homes)
        self.postmaster = ""

    def home(self, key: str) -> Home:
        home = self.homes[key]
        return Home(home) if isinstance(home, str) else home

    def domain(self, name: str) -> Domain | None:
        return Domain("example.com", "example.com", "+", self.postmaster) if name == "example.com" else None

    def account(self, key: str) -> Account | None:
        return Account(key, "u", self.home(key)) if key in self.homes else None

    def alias(self, key: str) -> None:
        return None

    def unit(self, name: str) -> None:
        return None

    def server(self, name: str) -> Server | None:
        nowhere = Endpoint("127.0.0.1", 1)
        return Server(name, "imap", nowhere, nowhere) if name in self._names() else None

    def servers(self) -> list[Server]:
        return [server for name in sorted(self._names()) if (server := self.server(name))]

    def _names(self) -> set[str]:
        return {name for home in map(self.home, self.homes) for name in (home.primary, *home.replicas)}
