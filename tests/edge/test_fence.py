"""What an edge without a lease, or in the middle of a promotion, may still do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.edge.fence import EdgeFence
from onedomain.edge.home import Homes
from onedomain.edge.login import Admission
from onedomain.edge.relays import Relays
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed
from onedomain.model.health import Verdict
from tests.directory.views import account, server
from tests.edge.parts import Board
from tests.edge.test_relays import table
from tests.health.virtual import VirtualClock, run

ALONE = replace(account("alone@example.com"), home=Home("s1", (), 1))
JOE = replace(account("joe@example.com"), home=Home("s1", ("s2",), 1))
MOVED = replace(JOE, home=Home("s2", ("s1",), 2))
PENDING = replace(JOE, home=Home("s2", ("s1",), 2, pending=True))


def book(*accounts: Account) -> Book:
    made = Book([], [], [server("s1"), server("s2")])
    made.apply(Delta(1, accounts=accounts))
    return made


def test_a_lease_runs_out_by_when_it_was_asked_for() -> None:
    async def story() -> None:
        clock = VirtualClock()
        fence = EdgeFence(book(JOE, ALONE), clock, 3.0)
        told: list[str] = []
        fence.on_open.append(lambda: told.append("open"))
        fence.on_close.append(lambda: told.append("close"))
        assert not fence.may_forward(JOE) and fence.may_forward(ALONE), "what has no replica needs no lease"
        fence.granted(clock.monotonic() - 1.0)
        assert fence.may_forward(JOE) and fence.may_write(JOE) and told == ["open"]
        await asyncio.sleep(1.9)
        assert fence.may_forward(JOE)
        fence.granted(clock.monotonic() - 1.5)
        fence.granted(clock.monotonic() - 1.8)  # an older one, late
        await asyncio.sleep(1.4)
        assert fence.may_forward(JOE) and told == ["open"]
        await asyncio.sleep(0.2)
        assert not fence.may_forward(JOE) and not fence.may_write(JOE) and told == ["open", "close"]
        assert fence.may_write(ALONE)
        fence.granted(clock.monotonic() - 3.5)
        assert told == ["open", "close"], "granted too late to be of use"
        fence.granted(clock.monotonic())
        assert fence.may_forward(JOE) and told == ["open", "close", "open"]

    run(story())


@pytest.mark.parametrize("lease", [None, 3.0])
def test_epochs_and_promotions(lease: float | None) -> None:
    async def story() -> None:
        directory = book(MOVED)
        fence = EdgeFence(directory, VirtualClock(), lease)
        fence.granted(VirtualClock().monotonic())
        assert fence.may_forward(MOVED) and fence.may_forward(JOE) == (lease is None), "its relays are cut anyway"
        assert fence.may_write(MOVED) and not fence.may_write(PENDING)

    run(story())


def test_sessions_that_nothing_may_be_forwarded_for_are_cut() -> None:
    relays = Relays(table())
    ended: list[str] = []
    for each in (JOE, ALONE):
        relays.take(each).cut = lambda reason, each=each: ended.append(each.address)  # type: ignore[misc]
    assert relays.cut_fenced(lambda account: not account.home.replicas) == 1
    assert ended == [JOE.address]


class Story:
    """A log-in of joe, who lives on s1 with a copy on s2."""

    def __init__(self, *, succession: float = 6.0, ready: bool = True, now: Account = JOE) -> None:
        self.book, self.board, self.asked = book(now), Board(), []
        self.answer = ready
        self.homes = Homes(self.book, self.board, lambda name: None, EdgeFence(self.book, VirtualClock(), None),  # type: ignore[arg-type, return-value]
                           self.ready, succession)

    async def ready(self, address: str, seconds: float) -> bool:
        self.asked.append(seconds)
        await asyncio.sleep(1.0)
        if self.answer:
            self.book.apply(Delta(3, accounts=(MOVED,)))
        return self.answer

    async def log_in(self) -> Account | str:
        try:
            return (await self.homes.settled(Admission(JOE, "", True))).account
        except Failed as error:
            return error.failure.reason


def test_a_log_in_waits_for_the_replica_to_take_over() -> None:
    async def story() -> None:
        played = Story()
        played.board.verdicts["s1"] = Verdict.REFUSING
        begun = asyncio.get_running_loop().time()
        coming = asyncio.create_task(played.log_in())
        await asyncio.sleep(2)
        played.book.apply(Delta(2, accounts=(PENDING,)))
        assert await coming == MOVED
        assert asyncio.get_running_loop().time() - begun < 3.2 and len(played.asked) == 1

    run(story())


def test_a_log_in_waits_no_longer_than_it_should() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        for played, least, most in ((Story(), 6.0, 6.2), (Story(succession=0.0), 0.0, 0.0)):
            played.board.verdicts["s1"] = Verdict.SILENT
            begun = loop.time()
            assert await played.log_in() == JOE, "and is then told what the board says"
            assert least <= loop.time() - begun <= most
        refused = await Story(ready=False, now=PENDING).log_in()
        assert isinstance(refused, str) and "promotion" in refused
        gone = await Story(now=replace(JOE, enabled=False)).log_in()
        assert isinstance(gone, str) and "changed" in gone

    run(story())
