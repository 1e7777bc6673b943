"""Who runs the links: never two by their own clocks, and never nobody for longer than a lease."""

from __future__ import annotations

import asyncio
from typing import Any

from onedomain.app.leadership import MARGIN, RENEW_EVERY, SECONDS, Leadership
from onedomain.store.sql import DatabaseError
from tests.queue.simulation import LoopClock, run


class Database:
    """One lease, by the loop's time. `slow` seconds for an answer; `away`: an error at once; `deaf`: none ever."""

    def __init__(self) -> None:
        self.owner, self.until, self.token = "", 0.0, 0
        self.away = self.deaf = False
        self.slow = 0.0

    async def _asked(self) -> float:
        if self.deaf:
            await asyncio.Event().wait()
        if self.away:
            raise DatabaseError("gone")
        now = LoopClock().monotonic()
        await asyncio.sleep(self.slow)
        return now + self.slow

    def of(self, edge: str) -> _Granter:
        return _Granter(self, edge)


class _Granter:
    """The same database, as one edge reaches it: `cut` for this edge only."""

    def __init__(self, database: Database, edge: str) -> None:
        self.database, self.cut = database, False

    async def _now(self) -> float:
        if self.cut:
            await asyncio.Event().wait()
        return await self.database._asked()

    async def take(self, name: str, holder: str, seconds: float) -> int:
        now, lease = await self._now(), self.database
        if lease.until > now and lease.owner != holder:
            return 0
        lease.owner, lease.until, lease.token = holder, now + seconds, lease.token + 1
        return lease.token

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        now, lease = await self._now(), self.database
        if lease.token != token or lease.until <= now:
            return False
        lease.until = now + seconds
        return True

    async def holder(self, name: str) -> str:
        now = await self._now()
        return self.database.owner if self.database.until > now else ""


class Quiet:
    def note(self, event: str, **fields: object) -> None:
        pass


class Edge:
    """One edge's leadership, and what it was told when. `stops`: seconds that ending its work takes."""

    def __init__(self, name: str, database: Database, stops: float = 0.0) -> None:
        self.name, self.stops = name, stops
        self.heard: list[tuple[float, int, str]] = []
        self.works: list[list[float]] = []
        self.granter = database.of(name)
        self.leadership = Leadership(name, self.granter, self._changed, clock=LoopClock(), trace=Quiet())

    async def _changed(self, token: int, holder: str) -> None:
        now = LoopClock().monotonic()
        self.heard.append((now, token, holder))
        if token:
            self.works.append([now, float("inf")])
        elif self.works and self.works[-1][1] == float("inf"):
            await asyncio.sleep(self.stops)
            self.works[-1][1] = now + self.stops

    def start(self) -> asyncio.Task[None]:
        self.task = asyncio.create_task(self.leadership.run())
        return self.task


def lived(life: Any) -> Any:
    return run(life())[0]


def test_of_two_edges_one_runs_the_links_and_both_know_which() -> None:
    async def life() -> None:
        database = Database()
        a, b = Edge("a", database), Edge("b", database)
        a.start()
        await asyncio.sleep(0.1)
        b.start()
        await asyncio.sleep(60)
        assert [(token, holder) for _, token, holder in a.heard] == [(1, "a")]
        assert [(token, holder) for _, token, holder in b.heard] == [(0, "a")]
        assert a.leadership.token == 1 and database.token == 1

    lived(life)


def test_an_edge_that_ends_is_followed_within_a_lease() -> None:
    async def life() -> None:
        database = Database()
        a, b = Edge("a", database), Edge("b", database)
        a.start()
        await asyncio.sleep(0.1)
        b.start()
        await asyncio.sleep(10)
        a.task.cancel()  # as by kill -9: nothing is given up
        died = LoopClock().monotonic()
        await asyncio.sleep(20)
        [(at, token, holder)] = b.heard[1:]
        assert (token, holder) == (2, "b") and at - died <= SECONDS + RENEW_EVERY

    lived(life)


def test_one_that_no_longer_reaches_the_database_stops_before_another_begins() -> None:
    async def life() -> None:
        for cut_at in (10.0, 10.3, 10.9):
            database = Database()
            a, b = Edge("a", database, stops=0.5), Edge("b", database)
            begun = LoopClock().monotonic()
            a.start()
            await asyncio.sleep(0.1)
            b.start()
            await asyncio.sleep(begun + cut_at - LoopClock().monotonic())
            a.granter.cut = True
            await asyncio.sleep(30)
            [[_, ended]], [[taken, _]] = a.works, b.works
            assert ended < taken, "two edges ran the links"
            assert a.leadership.token == 0
            a.task.cancel()
            b.task.cancel()

    lived(life)


def test_a_grant_that_was_long_under_way_is_worth_less() -> None:
    async def life() -> None:
        database = Database()
        a = Edge("a", database)
        a.start()
        await asyncio.sleep(5)
        database.slow = 2.0
        await asyncio.sleep(2.5)  # a renewal was asked for, and answered
        assert a.leadership.token == 1
        granted, database.deaf = database.until, True
        await asyncio.sleep(20)
        [[_, ended]] = a.works
        assert ended <= granted - database.slow - MARGIN + 1e-6, "it counted from the answer, not from the question"

    lived(life)


def test_a_database_that_is_away_for_a_moment_ends_nothing() -> None:
    async def life() -> None:
        database = Database()
        a = Edge("a", database)
        a.start()
        await asyncio.sleep(5)
        database.away = True
        await asyncio.sleep(SECONDS - MARGIN - 2 * RENEW_EVERY)
        database.away = False
        await asyncio.sleep(20)
        assert a.leadership.token == 1 and len(a.heard) == 1

    lived(life)


def test_one_whose_lease_has_another_token_stops_and_takes_a_new_one() -> None:
    async def life() -> None:
        database = Database()
        a, again = Edge("a", database), Edge("a", database)
        a.start()
        await asyncio.sleep(5)
        again.start()  # the same edge's next process, while the old one still runs
        await asyncio.sleep(1.5)
        assert a.leadership.token in (0, 3) and again.leadership.token in (0, 2, 4)
        tokens = [token for _, token, _ in a.heard + again.heard if token]
        assert len(set(tokens)) == len(tokens), "two processes had one token"
        assert a.works[0][1] < float("inf"), "the old process went on under its old token"

    lived(life)


class Frozen(LoopClock):
    """`for_` seconds went by in which no task of the process had a turn."""

    for_ = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.for_


def test_a_process_that_was_frozen_knows_before_any_task_has_had_its_turn() -> None:
    async def life() -> None:
        clock = Frozen()
        a = Edge("a", Database())
        a.leadership = Leadership("a", a.granter, a._changed, clock=clock, trace=Quiet())
        assert not a.leadership.holds
        a.start()
        await asyncio.sleep(20.5)
        assert a.leadership.token == 1 and a.leadership.holds
        clock.for_ = SECONDS - MARGIN
        assert a.leadership.token == 1 and not a.leadership.holds, "another may have begun"
        a.task.cancel()

    lived(life)
