"""Sessions that are lent: one account each, warm for a while, fair between those who wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from onedomain.backend.link.sessions import SessionLimits, Sessions
from onedomain.model.account import Account
from onedomain.model.failure import Failed
from tests.backend.contract import account


@dataclass
class Fake:
    account: Account
    good: bool = True
    alive: bool = True
    closed: str = ""

    def quiet(self) -> bool:
        return self.alive

    def close(self) -> None:
        self.closed = "closed"

    async def leave(self) -> None:
        self.closed = "left"


@dataclass
class Server:
    opened: list[Fake] = field(default_factory=list)
    refuse: bool = False

    async def open(self, account: Account) -> Fake:
        await asyncio.sleep(0)
        if self.refuse:
            raise ConnectionError
        self.opened.append(Fake(account))
        return self.opened[-1]

    def sessions(self, **limits: Any) -> Sessions[Fake]:
        return Sessions("test", self.open, SessionLimits(**limits))


A, B, C = (account(f"{name}@example.com") for name in "abc")


async def test_a_warm_session_is_lent_again_to_its_account_only() -> None:
    server = Server()
    sessions = server.sessions()
    one = await sessions.take(A)
    sessions.give(one, keep=True)
    assert await sessions.take(A) is one
    sessions.give(one, keep=True)
    assert await sessions.take(B) is not one
    assert len(server.opened) == 2 and not one.closed


@pytest.mark.parametrize("fault", ["not kept", "not good", "dead"])
async def test_what_can_not_be_used_again(fault: str) -> None:
    server = Server()
    sessions = server.sessions()
    one = await sessions.take(A)
    one.good = fault != "not good"
    sessions.give(one, keep=fault != "not kept")
    one.alive = False
    assert await sessions.take(A) is not one and one.closed == "closed"


async def test_the_one_that_was_used_longest_ago_makes_room() -> None:
    server = Server()
    sessions = server.sessions(size=2)
    for each in (await sessions.take(A), await sessions.take(B)):
        sessions.give(each, keep=True)
    await sessions.take(C)
    await asyncio.sleep(0)
    assert [each.closed for each in server.opened] == ["left", "", ""] and sessions.idle == 1


async def test_whoever_waits_longest_is_next() -> None:
    server = Server()
    sessions = server.sessions(size=1)
    one = await sessions.take(A)
    order: list[str] = []

    async def use(account: Account) -> None:
        session = await sessions.take(account)
        order.append(account.address[0])
        sessions.give(session, keep=True)

    tasks = []
    for each in (B, A, C):
        tasks.append(asyncio.create_task(use(each)))
        await asyncio.sleep(0)
    sessions.give(one, keep=True)
    await sessions.take(A)  # comes last, whatever is warm
    assert order == ["b", "a", "c"]
    await asyncio.gather(*tasks)


async def test_too_many_and_too_long() -> None:
    server = Server()
    sessions = server.sessions(size=1, waiting=1, wait=0.05)
    one = await sessions.take(A)
    waiting = asyncio.create_task(sessions.take(B))
    await asyncio.sleep(0)
    with pytest.raises(Failed):
        await sessions.take(C)
    with pytest.raises(Failed):
        await waiting
    sessions.give(one, keep=True)
    await sessions.take(B)


async def test_who_gives_up_takes_no_place_along() -> None:
    server = Server()
    sessions = server.sessions(size=1)
    one = await sessions.take(A)
    first, second = asyncio.create_task(sessions.take(B)), asyncio.create_task(sessions.take(C))
    await asyncio.sleep(0)
    sessions.give(one, keep=False)
    first.cancel()  # at the very moment when its place came
    assert (await second).account == C
    sessions.give(server.opened[-1], keep=False)
    server.refuse = True
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await sessions.take(A)


async def test_idle_ones_are_ended() -> None:
    server = Server()
    sessions = server.sessions(idle=0.02)
    left = asyncio.Event()
    one = await sessions.take(A)

    async def leave() -> None:
        left.set()

    one.leave = leave  # type: ignore[method-assign]
    sessions.give(one, keep=True)
    await asyncio.wait_for(left.wait(), 5)
    assert not sessions.idle


async def test_closing_turns_everybody_away() -> None:
    server = Server()
    sessions = server.sessions(size=1)
    one = await sessions.take(A)
    waiting = asyncio.create_task(sessions.take(B))
    await asyncio.sleep(0)
    await sessions.close()
    with pytest.raises(Failed):
        await waiting
    with pytest.raises(Failed):
        await sessions.take(C)
    sessions.give(one, keep=True)
    assert one.closed == "closed"


async def test_those_that_are_leaving_count_until_they_have_left() -> None:
    """A server that is slow to let go sees no more than it may."""
    server, gone = Server(), asyncio.Event()
    sessions = server.sessions(size=2)

    class Slow(Fake):
        async def leave(self) -> None:
            await gone.wait()
            await super().leave()

    for each in (await sessions.take(A), await sessions.take(B)):
        each.__class__ = Slow
        sessions.give(each, keep=True)
    wanted = asyncio.create_task(sessions.take(C))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not wanted.done() and len(server.opened) == 2
    gone.set()
    assert (await wanted).account == C and server.opened[0].closed == "left"


async def test_more_sessions_of_an_account_only_while_there_are_places_enough() -> None:
    server = Server()
    sessions = server.sessions(size=4)
    one = await sessions.take(A)
    more = await sessions.take_more(A)
    assert more is not None and more is not one and sessions.crowded
    assert await sessions.take_more(A) is None and len(server.opened) == 2
    sessions.give_more(more)
    await asyncio.sleep(0)
    assert more.closed == "left" and not sessions.crowded and sessions.idle == 0
    sessions.give(one, keep=True)
    assert await sessions.take(A) is one


async def test_one_that_can_not_be_opened_leaves_its_place() -> None:
    server = Server()
    sessions = server.sessions(size=4)
    await sessions.take(A)
    server.refuse = True
    with pytest.raises(ConnectionError):
        await sessions.take_more(A)
    server.refuse = False
    assert await sessions.take_more(A) is not None
