"""Three servers that answer after 5, 50 and 500 ms, in real time: who gets how much, beside taking turns.

The same in virtual time, with queues at the servers, is in tests/decision/test_choose.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable

from onedomain.backend.mailserver import MailServer, Tools
from onedomain.backend.registry import make_backend
from onedomain.decision.choose import better_of_two
from onedomain.health.board import Board
from onedomain.health.mirror import Mirror
from onedomain.model.message import State
from onedomain.model.server import Server
from onedomain.net.tls import ClientContexts
from tests.backend.contract import Chance, message
from tests.backend.fake import Attempts, FakeSmtp
from tests.health.test_detection import RealClock

SECONDS = {"fast": 0.005, "middle": 0.05, "slow": 0.5}
RATE, COUNT = 60.0, 240
REPLIES = 4
"""Of a pipelined delivery over an open connection: MAIL, RCPT, DATA, and the end of data."""


class Fleet:
    """Backends as one worker has them, a mirror, and the keeper's board, told at once."""

    def __init__(self, fakes: dict[str, FakeSmtp]) -> None:
        servers = [Server(name, "imap", fake.endpoint, fake.endpoint) for name, fake in fakes.items()]
        self.board = Board(servers, RealClock())
        self.mirror = Mirror(lambda name: self.backends[name].in_flight, lambda: None)
        tools = Tools(ClientContexts(), self.mirror, Chance(), "edge.example")
        self.backends: dict[str, MailServer] = {server.name: make_backend(server, tools) for server in servers}
        self.servers = servers

    async def warm(self) -> None:
        for name, backend in self.backends.items():
            self.board.probed(await backend.probe("delivery"))
            await self.deliver(name)
        self.exchange()

    def exchange(self) -> None:
        self.board.take_report("w", self.mirror.report())
        self.mirror.apply(self.board.snapshot("w"))

    async def deliver(self, name: str) -> float:
        began = time.monotonic()
        outcomes = await self.backends[name].deliver(message(self.backends[name]), Attempts())
        assert [outcome.state for outcome in outcomes.values()] == [State.DONE]
        return time.monotonic() - began

    async def load(self, pick: Callable[[], str]) -> tuple[Counter[str], float]:
        """Shares and p99 of COUNT deliveries at RATE."""
        shares: Counter[str] = Counter()
        tasks: list[asyncio.Task[float]] = []
        began = time.monotonic()
        for i in range(COUNT):
            await asyncio.sleep(max(began + i / RATE - time.monotonic(), 0))
            if i % 12 == 0:
                self.exchange()
            name = pick()
            shares[name] += 1
            tasks.append(asyncio.create_task(self.deliver(name)))
        waits = sorted(await asyncio.gather(*tasks))
        return shares, waits[int(0.99 * (COUNT - 1))]


async def test_balance_beside_round_robin() -> None:
    async with contextlib.AsyncExitStack() as stack:
        fakes = {name: FakeSmtp(delay=seconds / REPLIES) for name, seconds in SECONDS.items()}
        for fake in fakes.values():
            await stack.enter_async_context(fake.running())
        fleet = Fleet(fakes)
        await fleet.warm()
        chance = random.Random(5)

        def two() -> str:
            chosen = better_of_two(fleet.servers, fleet.mirror.facing("delivery"), chance.random)
            assert chosen
            return chosen.name

        ours, p99 = await fleet.load(two)
        turns = itertools.cycle(SECONDS)
        theirs, their_p99 = await fleet.load(turns.__next__)
        print(f"\nbetter of two: {dict(ours)}, p99 {p99:.3f} s; taking turns: {dict(theirs)}, p99 {their_p99:.3f} s")
        assert ours["fast"] > ours["middle"] > ours["slow"]
        assert ours["slow"] <= COUNT * 0.05
        assert p99 < their_p99 / 2
        for backend in fleet.backends.values():
            await backend.close()
