"""Prober and board together in virtual time, against simulated servers that die, hang, crawl and come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from onedomain.health.board import Board
from onedomain.health.prober import Prober, Rhythm
from onedomain.health.view import FACES, Change
from onedomain.model.failure import Failed, again
from onedomain.model.health import Seen, Sighting, Verdict
from onedomain.model.server import Endpoint, Server
from tests.health.virtual import VirtualClock, run

HERE = Endpoint("127.0.0.1", 1)


def server(name: str, draining: bool = False) -> Server:
    return Server(name, "node", HERE, HERE, probe_accounts=(f"probe@{name}",), draining=draining)


class Simulated:
    """A server that is up, "refused", "stopped" or "cut"; it answers after `seconds`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = 0.01
        self.up = asyncio.Event()
        self.up.set()
        self.refuses = asyncio.Event()
        self.questions = 0
        self.most_open = self.open = 0
        self.message = Seen.OK
        self.messages: list[str] = []

    async def probe(self, face: str) -> Sighting:
        self.questions += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        began = asyncio.get_running_loop().time()
        try:
            if self.refuses.is_set():
                return Sighting(self.name, face, Seen.REFUSED, 0.0, "connection refused")
            await asyncio.sleep(self.seconds)
            await self.up.wait()
            return Sighting(self.name, face, Seen.OK, asyncio.get_running_loop().time() - began)
        finally:
            self.open -= 1

    async def watch(self, face: str) -> None:
        if self.refuses.is_set():
            raise Failed(again(451, "4.4.1", "refused"))
        await self.refuses.wait()

    async def probe_message(self, account: str) -> Sighting:
        self.messages.append(account)
        await asyncio.sleep(self.seconds)
        return Sighting(self.name, "delivery", self.message, self.seconds, "" if self.message is Seen.OK else "lost")

    def kill(self) -> None:
        self.refuses.set()

    def start(self) -> None:
        self.refuses.clear()

    def stop(self) -> None:
        self.up.clear()

    def resume(self) -> None:
        self.up.set()


class World:
    def __init__(self, names: tuple[str, ...] = ("a", "b"), rhythm: Rhythm | None = None, seed: int = 1) -> None:
        self.servers = {name: Simulated(name) for name in names}
        self.board = Board([server(name) for name in names], VirtualClock())
        self.changes: list[tuple[float, Change]] = []
        self.board.on_change.append(lambda change: self.changes.append((self.now, change)))
        self.changed = asyncio.Event()
        self.board.on_change.append(lambda _: self.changed.set())
        self.prober = Prober(self.board, self.servers.__getitem__, random.Random(seed).random, rhythm)
        self.prober.configure([server(name) for name in names])

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        task = asyncio.create_task(self.prober.run())
        yield self
        assert not task.done(), task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert all(simulated.open == 0 for simulated in self.servers.values())

    async def until(self, name: str, *verdicts: Verdict, face: str = "", limit: float = 60) -> float:
        """Seconds until the board says one of these."""
        began = self.now
        async with asyncio.timeout(limit):
            while self.board.verdict(name, face) not in verdicts:
                self.changed.clear()
                await self.changed.wait()
        return self.now - began


def scenario(test: Callable[[World], Awaitable[None]]) -> Callable[[int], None]:
    """The same story told at ten different moments of the rhythm."""

    @pytest.mark.parametrize("seed", range(10))
    def told(seed: int) -> None:
        async def main() -> None:
            async with World(seed=seed).running() as world:
                await asyncio.sleep(20 + random.Random(seed).random() * 2)
                await test(world)

        run(main())

    told.__name__ = test.__name__
    return told


@scenario
async def test_a_kill_is_seen_within_a_second(world: World) -> None:
    world.servers["a"].kill()
    assert await world.until("a", Verdict.REFUSING) <= 0.25  # the watched connections end
    assert world.board.verdict("b") is Verdict.UP
    world.servers["a"].start()
    assert await world.until("a", Verdict.UP, Verdict.SLOW) <= 2.0


@scenario
async def test_a_kill_is_seen_within_two_seconds_without_the_watched_connection(world: World) -> None:
    async def nothing(face: str) -> None:
        await asyncio.Event().wait()

    world.servers["b"].watch = nothing  # type: ignore[method-assign]
    world.prober.configure([server("b", draining=True)])
    world.board.configure([server("b", draining=True)])
    await asyncio.sleep(5)
    world.servers["b"].kill()
    assert await world.until("b", Verdict.REFUSING) <= 1.4


@scenario
async def test_a_stop_is_seen_within_five_seconds(world: World) -> None:
    world.servers["a"].stop()
    assert await world.until("a", Verdict.SILENT) <= 5.0
    await asyncio.sleep(60)
    assert world.servers["a"].most_open <= 2 * 10
    world.servers["a"].resume()
    assert await world.until("a", Verdict.UP, Verdict.SLOW) <= 2.0


@scenario
async def test_who_stops_is_silent_on_all_faces_at_once(world: World) -> None:
    """Long after the start, when the faces are no longer questioned in step: people go by theirs, mail by its own."""
    await asyncio.sleep(200)
    world.servers["a"].stop()
    await world.until("a", Verdict.SILENT)
    first = world.now
    await asyncio.gather(*(world.until("a", Verdict.SILENT, face=face) for face in FACES))
    assert world.now - first <= 0.25


@scenario
async def test_one_face_that_is_silent_does_not_take_the_other_with_it(world: World) -> None:
    a = world.servers["a"]
    answer = a.probe

    async def hangs(face: str) -> Sighting:
        return await (asyncio.Event().wait() if face == "delivery" else answer(face))  # type: ignore[return-value]

    a.probe = hangs  # type: ignore[method-assign]
    await world.until("a", Verdict.SILENT, face="delivery")
    await asyncio.sleep(10)
    a.stop()  # a hiccup of the other one, later: still two questions have to stay open
    await asyncio.sleep(2.2)
    a.resume()
    await asyncio.sleep(30)
    assert all(change.after.usable for _, change in world.changes if change.face == "imap")


@scenario
async def test_accusations_open_no_more_questions_than_are_bounded(world: World) -> None:
    world.servers["a"].stop()
    for _ in range(200):
        world.board.saw(Sighting("a", "imap", Seen.REFUSED, 0.0, "reset"))
        await asyncio.sleep(0.1)
    assert world.servers["a"].most_open <= 2 * 10


@scenario
async def test_a_hiccup_of_two_seconds_condemns_nobody(world: World) -> None:
    world.servers["a"].stop()
    await asyncio.sleep(2.2)
    world.servers["a"].resume()
    await asyncio.sleep(30)
    assert all(change.after.usable for _, change in world.changes)


@scenario
async def test_one_that_crawls_is_slow_and_no_more(world: World) -> None:
    world.servers["a"].seconds = 1.5
    await world.until("a", Verdict.SLOW)
    await asyncio.sleep(30)
    world.servers["a"].seconds = 0.01
    assert await world.until("a", Verdict.UP) < 30
    assert all(change.after.usable for _, change in world.changes)


@scenario
async def test_one_that_flaps_settles_down(world: World) -> None:
    """Up a second, down a second, for a minute: it must not be taken for up each time."""
    for _ in range(30):
        world.servers["a"].kill()
        await asyncio.sleep(1)
        world.servers["a"].start()
        await asyncio.sleep(1)
    ups = [when for when, change in world.changes if change.after is Verdict.UP and not change.face]
    assert len(ups) <= 6
    assert await world.until("a", Verdict.UP, Verdict.SLOW) <= 5


@scenario
async def test_a_lost_probe_message_is_told_and_condemns_nobody(world: World) -> None:
    world.servers["a"].message = Seen.BROKEN
    await asyncio.sleep(130)
    assert world.servers["a"].messages.count("probe@a") >= 2
    shown = world.board.snapshot()["servers"]["a"]["message"]["probe@a"]
    assert (shown["seen"], shown["reason"]) == ("broken", "lost")
    assert world.board.verdict("a") is Verdict.UP


@scenario
async def test_the_rhythm_is_kept(world: World) -> None:
    before = world.servers["a"].questions
    await asyncio.sleep(100)
    assert 2 * 90 <= world.servers["a"].questions - before <= 2 * 112


@scenario
async def test_servers_come_and_go(world: World) -> None:
    world.servers["c"] = Simulated("c")
    world.prober.configure([server("b"), server("c")])
    world.board.configure([server("b"), server("c")])
    await asyncio.sleep(5)
    asked = world.servers["a"].questions
    await asyncio.sleep(5)
    assert world.servers["a"].questions == asked
    assert world.servers["c"].questions >= 10
    assert world.board.servers == ("b", "c")
    assert world.board.verdict("a") is Verdict.UP  # nobody's to doubt
