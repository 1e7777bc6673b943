"""Several who hand over at once, and one order in which it becomes final."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from onedomain.backend.link.lanes import Turns, side_by_side
from tests.health.virtual import run


class Folder:
    """What parts are put into; a lane pauses as its dice say."""

    def __init__(self, parts: int, seed: int = 0) -> None:
        self.turns = Turns(range(parts))
        self.dice = random.Random(seed)
        self.final: list[int] = []
        self.taken: list[str] = []
        self.cut: list[str] = []

    async def pause(self) -> None:
        for _ in range(self.dice.randrange(8)):
            await asyncio.sleep(0)

    async def lane(self, name: str, problem: Callable[[int], bool] = lambda part: False) -> None:
        try:
            while (taken := await self.turns.take()) is not None:
                number, part = taken
                self.taken.append(name)
                await self.pause()
                if problem(part):
                    raise ConnectionError(f"part {part}")
                if not await self.turns.turn(number):
                    return
                await self.pause()
                self.final.append(part)
                self.turns.final()
        except asyncio.CancelledError:
            self.cut.append(name)
            raise


@pytest.mark.parametrize("seed", range(50))
async def test_whoever_is_first_parts_become_final_in_their_order(seed: int) -> None:
    folder = Folder(20, seed)
    await side_by_side(folder.lane(name) for name in "abcd")
    assert folder.final == list(range(20)) and set(folder.taken) == set("abcd")


@pytest.mark.parametrize("seed", range(50))
async def test_after_a_failure_nothing_behind_it_becomes_final(seed: int) -> None:
    folder = Folder(20, seed)
    with pytest.raises(ConnectionError, match="part 7"):
        await side_by_side(folder.lane(name, lambda part: part == 7) for name in "abcd")
    assert folder.final == list(range(len(folder.final))) and len(folder.final) <= 7
    assert len(folder.cut) <= 3


async def test_after_a_stop_nobody_has_a_turn() -> None:
    folder = Folder(20)

    async def refused() -> None:
        taken = await folder.turns.take()
        assert taken is not None and await folder.turns.turn(taken[0])
        folder.final.append(taken[0])
        folder.turns.stop()

    await side_by_side([folder.lane("a"), refused(), folder.lane("b")])
    assert folder.final == [0, 1] and await folder.turns.take() is None and not await folder.turns.waiting(lambda: 0)


@pytest.mark.parametrize("comes", [False, True])
async def test_who_has_not_come_when_all_is_done_is_not_waited_for(comes: bool) -> None:
    folder = Folder(2)
    coming: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    if comes:
        coming.set_result("b")

    async def helper() -> None:
        if (name := await folder.turns.or_over(coming)) is not None:
            await folder.lane(name)

    await side_by_side([helper(), folder.lane("a")])
    assert folder.final == [0, 1] and ("b" in folder.taken or not comes) and not coming.cancelled()


async def test_cut_off_from_outside_all_lanes_are() -> None:
    folder = Folder(20)
    blocked = asyncio.Event()

    async def first() -> None:
        await folder.turns.take()
        await blocked.wait()

    task = asyncio.create_task(side_by_side([first(), folder.lane("a"), folder.lane("b")]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(folder.cut) == ["a", "b"] and not folder.final


async def test_who_wait_for_each_other_are_stopped() -> None:
    folder = Folder(20)

    async def locked_out() -> None:
        taken = await folder.turns.take()
        assert taken is not None
        await folder.turns.turn(taken[0] + 19)  # what it waits for is never final
        assert not await folder.turns.turn(taken[0])

    stopped: list[bool] = []

    async def watch() -> None:
        stopped.append(await folder.turns.watch(lambda: 0.05))

    async with asyncio.timeout(5):
        await side_by_side([watch(), locked_out(), folder.lane("a"), folder.lane("b")])
    assert stopped == [True] and not folder.final and not folder.cut


async def test_who_get_on_are_not_stopped() -> None:
    folder = Folder(20)
    stopped: list[bool] = []

    async def watch() -> None:
        stopped.append(await folder.turns.watch(lambda: 0.05))

    async def slow() -> None:
        while (taken := await folder.turns.take()) is not None:
            assert await folder.turns.turn(taken[0])
            await asyncio.sleep(0.01)
            folder.turns.final()

    await side_by_side([watch(), slow()])
    assert stopped == [False]


def test_who_has_more_time_by_now_has_it_at_once() -> None:
    """What was added in the middle of a round may be what is waited for."""
    folder = Folder(1)
    seconds = 4.0
    stopped: list[bool] = []

    async def watch() -> None:
        stopped.append(await folder.turns.watch(lambda: seconds))

    async def slow() -> None:
        nonlocal seconds
        assert await folder.turns.take() is not None
        await asyncio.sleep(3)
        seconds = 100.0
        await asyncio.sleep(90)
        folder.turns.final()

    run(side_by_side([slow(), watch()]))
    assert stopped == [False]
