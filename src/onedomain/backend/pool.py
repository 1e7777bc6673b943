"""A few persistent connections to one server, lent to one user at a time.

Knows how many there may be, how long they may idle, how often each may be used, and who waits. Does not know what they
speak. The one that was used last is lent first, so that a quiet server keeps few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from onedomain.model.failure import Failed, again


class Pooled(Protocol):
    """`good`: it may be used once more. `uses`: how often it was lent. `quiet()`: alive, and nothing came meanwhile."""

    good: bool
    uses: int

    def quiet(self) -> bool: ...
    def close(self) -> None: ...
    async def leave(self) -> None: ...


C = TypeVar("C", bound=Pooled)


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """`size` connections at most, kept `idle` seconds, lent `uses` times; `waiting` tasks wait `wait` seconds."""

    size: int = 20
    waiting: int = 1000
    wait: float = 60.0
    idle: float = 30.0
    uses: int = 1000


class Pool(Generic[C]):
    """`open` makes a new connection; what it raises goes to whoever asked."""

    def __init__(self, name: str, open: Callable[[], Awaitable[C]], limits: PoolLimits) -> None:
        self._name = name
        self._open = open
        self._limits = limits
        self._places = asyncio.Semaphore(limits.size)
        self._waiting = 0
        self._idle: list[tuple[C, float]] = []  # with the time it was given back, oldest first
        self._sweep: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[tuple[C, int]]] = set()
        self._generation = 0
        self._closed = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def size(self) -> int:
        return self._limits.size

    @property
    def full(self) -> bool:
        """All of them are lent."""
        return self._places.locked()

    @property
    def wanted(self) -> bool:
        """Somebody waits for one."""
        return self._waiting > 0

    def lend(self, *, fresh: bool = False) -> Loan[C]:
        """A connection, idle or new (`fresh`: only new), for the time of an `async with`. It is kept afterwards if
        nothing was raised and it says that it is good.

        Raises Failed when too many wait already, or for too long.
        """
        return Loan(self, fresh)

    async def borrow(self, fresh: bool) -> tuple[C, int]:
        """The connection, and what `give_back` wants to know."""
        await self._enter()
        try:
            generation = self._generation
            connection = None if fresh else self._take()
            if connection is None:
                connection = await self._open()
        except BaseException:
            self._places.release()
            raise
        connection.uses += 1
        return connection, generation

    def give_back(self, connection: C, generation: int, done: bool) -> None:
        try:
            keep = done and connection.good and generation == self._generation and not self._closed
            self._give(connection, keep)
        finally:
            self._places.release()

    def late(self, coming: asyncio.Task[tuple[C, int]]) -> None:
        """What `borrow` is about to bring, and nobody waits for any more: it is idle when it comes."""
        self._late.add(coming)
        coming.add_done_callback(self._came)

    def _came(self, coming: asyncio.Task[tuple[C, int]]) -> None:
        self._late.discard(coming)
        if not coming.cancelled() and coming.exception() is None:
            self.give_back(*coming.result(), True)

    def forget(self) -> None:
        """Close what is idle, and what is lent when it comes back."""
        self._generation += 1
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    async def close(self) -> None:
        """Say goodbye on idle connections; what is lent is closed when it comes back."""
        self._closed = True
        if self._sweep:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        late = list(self._late)
        for coming in late:
            coming.cancel()
        if late:
            await asyncio.wait(late)
        await asyncio.gather(*(connection.leave() for connection, _ in idle), *self._leaving)

    async def _enter(self) -> None:
        if self._closed:
            raise Failed(again(451, "4.3.2", "shutting down", f"{self._name}: pool closed"))
        if not self._places.locked():
            await self._places.acquire()
            return
        if self._waiting >= self._limits.waiting:
            raise Failed(again(451, "4.3.2", "too much mail for this server at once", f"{self._name}: queue full"))
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.wait):
                await self._places.acquire()
        except TimeoutError:
            raise Failed(again(451, "4.3.2", "the mail server is busy", f"{self._name}: no free connection")) from None
        finally:
            self._waiting -= 1

    def _take(self) -> C | None:
        while self._idle:
            connection, since = self._idle.pop()
            young = asyncio.get_running_loop().time() - since < self._limits.idle
            if connection.good and young and connection.quiet():
                return connection
            connection.close()
        return None

    def _give(self, connection: C, keep: bool) -> None:
        if not keep:
            connection.close()
        elif connection.uses >= self._limits.uses:
            self._say_goodbye(connection)
        else:
            loop = asyncio.get_running_loop()
            self._idle.append((connection, loop.time()))
            if self._sweep is None:
                self._sweep = loop.call_later(self._limits.idle, self._sweep_idle)

    def _sweep_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        too_old = loop.time() - self._limits.idle + 0.001
        while self._idle and self._idle[0][1] <= too_old:
            self._say_goodbye(self._idle.pop(0)[0])
        if self._idle:
            self._sweep = loop.call_at(self._idle[0][1] + self._limits.idle, self._sweep_idle)

    def _say_goodbye(self, connection: C) -> None:
        task = asyncio.get_running_loop().create_task(connection.leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


class Loan(Generic[C]):
    """A class and no generator: each delivery goes through it."""

    __slots__ = ("_connection", "_fresh", "_generation", "_pool")

    def __init__(self, pool: Pool[C], fresh: bool) -> None:
        self._pool = pool
        self._fresh = fresh

    async def __aenter__(self) -> C:
        self._connection, self._generation = await self._pool.borrow(self._fresh)
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.give_back(self._connection, self._generation, kind is None)
