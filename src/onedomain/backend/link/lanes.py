"""Messages that several sessions give a server side by side, and that become its folder's in one order.

Knows turns: who is free takes the next part, hands it over, and makes it final when all parts before it are. Does not
know what a part is, nor how it is handed over.

Most of what an append takes a server is waiting for its disk, message by message, before the folder changes at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

P = TypeVar("P")
T = TypeVar("T")


class Turns(Generic[P]):
    """The parts of one work, each taken once. After `stop` nobody gets a part or a turn any more.

    With `more` parts may be added until `close`. `weigh` says what a part weighs. `may` is asked at every turn: where
    it says no, all stop.
    """

    def __init__(
        self, parts: Iterable[P], weigh: Callable[[P], int] = lambda part: 1, *, more: bool = False,
        may: Callable[[], bool] = lambda: True,
    ) -> None:
        self._parts: dict[int, P] = {}  # those that are not final
        self._weigh = weigh
        self._may = may
        self._weight = 0
        self._added = 0
        self._taken = 0
        self._final = 0
        self._closed = not more
        self._stopped = False
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._over = asyncio.Event()
        self._changed = asyncio.Event()  # since somebody began to wait for a part, or for room
        self.add(parts)

    def add(self, parts: Iterable[P]) -> None:
        for part in parts:
            self._parts[self._added] = part
            self._added += 1
            self._weight += self._weigh(part)
        self._changed.set()

    def close(self) -> None:
        """No more parts."""
        self._closed = True
        self._changed.set()
        self._look()

    async def take(self) -> tuple[int, P] | None:
        """The next part and its number; None: there is none left."""
        while self._taken == self._added and not self._closed and not self._stopped:
            self._changed.clear()
            await self._changed.wait()
        if self._stopped or self._taken == self._added:
            return None
        number = self._taken
        self._taken += 1
        return number, self._parts[number]

    async def waiting(self, coming: Callable[[], int]) -> bool:
        """Once there are more parts to be taken than so many who are coming will take: whether there ever are."""
        while self._added - self._taken <= coming() and not self._closed and not self._stopped:
            self._changed.clear()
            await self._changed.wait()
        return self._added - self._taken > coming() and not self._stopped

    async def room(self, most: int) -> bool:
        """Once all that is not final weighs less: whether there is use for more."""
        while self._weight >= most and not self._stopped:
            self._changed.clear()
            await self._changed.wait()
        return not self._stopped

    @property
    def left(self) -> list[P]:
        """What is not final, in its order."""
        return list(self._parts.values())

    async def turn(self, number: int) -> bool:
        """Once all parts before this one are final: whether it may be, too."""
        if number > self._final and not self._stopped:
            waiter = self._waiting[number] = asyncio.get_running_loop().create_future()
            await waiter
        if not self._stopped and not self._may():
            self.stop()
        return not self._stopped

    def final(self) -> None:
        """The part whose turn it was is done with."""
        self._weight -= self._weigh(self._parts.pop(self._final))
        self._final += 1
        self._changed.set()
        if (waiter := self._waiting.pop(self._final, None)) is not None and not waiter.done():
            waiter.set_result(None)
        self._look()

    def _look(self) -> None:
        if self._closed and self._final == self._added:
            self._over.set()

    def stop(self) -> None:
        self._stopped = True
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_result(None)
        self._changed.set()
        self._over.set()

    async def watch(self, patience: Callable[[], float]) -> bool:
        """Stops all where somebody has a part and nothing becomes final for so many seconds: whether it did. `patience`
        is asked again when it is over: what was added meanwhile may take longer.
        """
        clock = asyncio.get_running_loop().time
        while not self._over.is_set():
            before, begun, since = self._final, self._taken > self._final, clock()
            while not self._over.is_set() and (left := since + patience() - clock()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._over.wait()
            if begun and self._final == before and not self._over.is_set():
                self.stop()
                return True
        return False

    async def or_over(self, coming: asyncio.Future[T]) -> T | None:
        """What is to come; None if there is nothing left to do before. What is to come goes on."""
        over = asyncio.get_running_loop().create_task(self._over.wait())
        either: list[asyncio.Future[Any]] = [coming, over]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        return coming.result() if coming.done() and not self._over.is_set() else None


async def side_by_side(lanes: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Until all have come to their ends. Raises what the first to fail did, after all others were cut off."""
    tasks = [asyncio.get_running_loop().create_task(lane) for lane in lanes]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # of several failures one is told
