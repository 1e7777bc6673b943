"""Several ways out that are as good as each other: work goes to the better of two, by load and response time.

Knows what each has answered lately, since nobody probes somebody else's relays. Does not know protocols.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from onedomain.backend.base import Attempt, Backend, ClientInfo, Lookup, Session
from onedomain.decision import retry
from onedomain.decision.choose import better_of_two
from onedomain.model.account import Account
from onedomain.model.health import Load, Sighting, Verdict
from onedomain.model.message import Delivery, Outcome, State
from onedomain.model.server import Server

RECENT = 0.3
"""Share of the latest answer in the average."""

LEFT_ALONE = retry.Pauses(5.0, 300.0)


@dataclass(slots=True)
class _One:
    backend: Backend
    server: Server
    seconds: float = 0.0
    failures: int = 0
    until: float = 0.0  # left alone


class Equals:
    """A Backend made of several; one at least. `random` is uniform in [0, 1).

    It is a model.health.BoardView of its own members, by their places: "0", "1" …
    """

    can_find = False

    def __init__(self, backends: Sequence[Backend], random: Callable[[], float]) -> None:
        self._members = {
            str(place): _One(backend, replace(backend.server, name=str(place)))
            for place, backend in enumerate(backends)
        }
        self._random = random
        self._clock = asyncio.get_running_loop().time
        most = sum(backend.server.max_deliveries for backend in backends)
        self.server = replace(backends[0].server, max_deliveries=most)

    @property
    def in_flight(self) -> int:
        return sum(one.backend.in_flight for one in self._members.values())

    def verdict(self, server: str) -> Verdict:
        return Verdict.UP if self._clock() >= self._members[server].until else Verdict.REFUSING

    def load(self, server: str) -> Load:
        one = self._members[server]
        return Load(one.seconds, one.backend.in_flight)

    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]:
        one = self._choose()
        began = self._clock()
        outcomes = await one.backend.deliver(delivery, attempt)
        self._learn(one, self._clock() - began, outcomes.values())
        return outcomes

    def _choose(self) -> _One:
        chosen = better_of_two((one.server for one in self._members.values()), self, self._random)
        if chosen is not None:
            return self._members[chosen.name]
        # All have failed: the one whose pause ends first, since the queue has decided to try.
        return min(self._members.values(), key=lambda one: one.until)

    def _learn(self, one: _One, seconds: float, outcomes: Iterable[Outcome]) -> None:
        outcomes = list(outcomes)
        failed = all(
            outcome.state in (State.AGAIN, State.IN_DOUBT) and retry.is_of_server(outcome) for outcome in outcomes
        )
        if failed:
            one.failures += 1
            one.until = self._clock() + LEFT_ALONE.after(one.failures, self._random())
            return
        one.failures, one.until = 0, 0.0
        one.seconds += RECENT * (seconds - one.seconds) if one.seconds else seconds

    async def find(self, account: Account, delivery_id: str, *, since: float | None = None) -> Lookup:
        return await self._first.find(account, delivery_id, since=since)

    def begin(self, *_: object) -> None:
        """Nobody logs in here."""

    async def log_in(self, account: Account, password: str | None, client: ClientInfo) -> Session:
        return await self._first.log_in(account, password, client)

    async def check_password(self, account: Account, password: str, client: ClientInfo) -> None:
        await self._first.check_password(account, password, client)

    async def probe(self, face: str) -> Sighting:
        return await self._first.probe(face)

    async def watch(self, face: str) -> None:
        await self._first.watch(face)

    async def probe_message(self, account: str) -> Sighting:
        return await self._first.probe_message(account)

    @property
    def _first(self) -> Backend:
        return next(iter(self._members.values())).backend

    async def forget(self) -> None:
        await asyncio.gather(*(one.backend.forget() for one in self._members.values()))

    async def close(self) -> None:
        await asyncio.gather(*(one.backend.close() for one in self._members.values()))
