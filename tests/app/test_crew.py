"""Workers get the whole directory and every change, whenever they join."""

from __future__ import annotations

import asyncio
from typing import Any

from onedomain.app.crew import Crew
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta, parts
from onedomain.model.account import Account
from tests.directory.views import account
from tests.queue.fakes import ListTrace

OLD = [account(f"old{number}@example.com") for number in range(3)]
NEW = [account(f"new{number}@example.com") for number in range(5)]


class NoBoard:
    def snapshot(self, slot: str) -> dict[str, Any]:
        return {}

    def forget_worker(self, slot: str) -> None:
        pass


class Worker:
    """The near end of a link, and the book that a worker makes of what it is told."""

    def __init__(self) -> None:
        self.attached: dict[str, Any] = {}
        self.book = Book([], [], [])

    def tell(self, verb: str, **arguments: Any) -> None:
        if verb == "directory":
            self.book.apply(Delta.decode(arguments["delta"].encode()))

    @property
    def known(self) -> set[str]:
        return {one.address for one in self.book.accounts()}


class Stage:
    def __init__(self) -> None:
        self.book = Book([], [], [])
        self.crew = Crew(self.book, NoBoard(), ListTrace())  # type: ignore[arg-type]
        self.publish(Delta(1, accounts=tuple(OLD)))

    def publish(self, delta: Delta) -> None:
        self.book.apply(delta)
        self.crew.publish(delta)

    async def join(self, slot: int) -> Worker:
        worker = Worker()
        await self.crew.hello(worker, slot, 100 + slot)  # type: ignore[arg-type]
        return worker


async def quiet() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def pieces(accounts: list[Account]) -> list[Delta]:
    return list(parts(Delta(9, accounts=tuple(accounts), draining=(), whole=True), rows=1))


async def test_a_worker_that_joins_within_a_whole_directory_gets_all_of_it() -> None:
    """Wherever in it, and whether or not what it is sent first has arrived by then."""
    run = pieces(NEW)
    everybody = {one.address for one in NEW}
    for at in range(len(run) + 1):
        for pause in (False, True):
            stage = Stage()
            early = await stage.join(0)
            await quiet()
            for delta in run[:at]:
                stage.publish(delta)
            late = await stage.join(1)
            if pause:
                await quiet()
                assert late.known == ({one.address for one in OLD} if at < len(run) else everybody)
            for delta in run[at:]:
                stage.publish(delta)
            await quiet()
            assert early.known == late.known == everybody, (at, pause)


async def test_an_aborted_whole_directory_is_nothing_to_anybody() -> None:
    stage = Stage()
    for delta in pieces(NEW)[:4]:
        stage.publish(delta)
    late = await stage.join(0)
    await quiet()
    assert late.known == {one.address for one in OLD}
    for delta in pieces(NEW[:2]):
        stage.publish(delta)
    stage.publish(Delta(10, accounts=(NEW[4],)))
    await quiet()
    assert late.known == {NEW[0].address, NEW[1].address, NEW[4].address}


async def test_a_worker_is_gone_also_if_its_successor_was_quicker() -> None:
    """What it did and did not tell nobody tells. One that comes again by another line has lost nothing."""
    stage = Stage()
    first, again = await stage.join(0), await stage.join(0)
    assert stage.crew.left(first) is None  # type: ignore[arg-type]
    successor = Worker()
    await stage.crew.hello(successor, 0, 999)  # type: ignore[arg-type]
    assert stage.crew.left(again) == 0  # type: ignore[arg-type]
    assert stage.crew.workers == {0: successor}
    assert stage.crew.left(successor) == 0 and not stage.crew.workers  # type: ignore[arg-type]
    assert stage.crew.left(Worker()) is None  # type: ignore[arg-type]
