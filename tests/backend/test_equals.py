"""Equal ways out: shares follow speed, a failing one is left alone and found again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import cast

from onedomain.backend.base import Backend
from onedomain.backend.equals import Equals
from onedomain.model.failure import again
from onedomain.model.message import Delivery, Envelope, Outcome, State
from onedomain.model.server import Endpoint, Server
from tests.health.virtual import run

DOWN = Outcome(State.AGAIN, failure=again(451, "4.4.1", "can't be reached"))
GREY = Outcome(State.AGAIN, failure=again(450, "4.2.0", "this recipient later"))


class Host:
    def __init__(self, seconds: float) -> None:
        there = Endpoint("host", 25)
        self.server = Server("smarthost", "smarthost", there, there, max_deliveries=10)
        self.seconds = seconds
        self.in_flight = self.taken = 0
        self.outcome = Outcome(State.DONE)

    async def deliver(self, delivery: Delivery, attempt: Callable[[], Awaitable[None]]) -> dict[int, Outcome]:
        self.taken += 1
        self.in_flight += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        return {0: self.outcome}


class _NoBody:
    size = 0

    async def read(self, offset: int, length: int) -> bytes:
        return b""


async def _attempt() -> None:
    pass


DELIVERY = Delivery("id", Envelope("", ()), ((0, "a@example.net"),), _NoBody())


def equals(*hosts: Host) -> Equals:
    return Equals([cast(Backend, host) for host in hosts], random.Random(1).random)


async def at_rate(ways: Equals, count: int, pause: float) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(ways.deliver(DELIVERY, _attempt))
            await asyncio.sleep(pause)


def test_the_slow_one_gets_little() -> None:
    fast, middle, slow = Host(0.005), Host(0.05), Host(0.5)

    async def scene() -> None:
        await at_rate(equals(fast, middle, slow), 300, 0.02)

    run(scene())
    assert fast.taken > middle.taken > slow.taken
    assert slow.taken < 15


def test_one_that_fails_is_left_alone_and_tried_again_later() -> None:
    good, bad = Host(0.01), Host(0.01)

    async def scene() -> None:
        ways = equals(good, bad)
        bad.outcome = DOWN
        await at_rate(ways, 100, 0.02)  # two seconds
        assert bad.taken <= 3
        bad.outcome = Outcome(State.DONE)
        await at_rate(ways, 1000, 0.02)
        assert bad.taken > 300

    run(scene())


def test_a_recipient_put_off_says_nothing_of_the_host() -> None:
    one, other = Host(0.01), Host(0.01)
    one.outcome = other.outcome = GREY

    async def scene() -> None:
        await at_rate(equals(one, other), 100, 0.02)

    run(scene())
    assert min(one.taken, other.taken) > 30


def test_with_all_failing_the_queue_s_tries_still_go_somewhere() -> None:
    one, other = Host(0.01), Host(0.01)
    one.outcome = other.outcome = DOWN

    async def scene() -> None:
        ways = equals(one, other)
        assert ways.server.max_deliveries == 20
        for _ in range(10):
            assert (await ways.deliver(DELIVERY, _attempt))[0] is DOWN

    run(scene())
    assert one.taken + other.taken == 10 and min(one.taken, other.taken) >= 3
