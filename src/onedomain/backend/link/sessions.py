"""Logged-in sessions of one server, each of one account, lent to one user at a time.

Knows how many there may be, who waits, whose session is warm and how long it stays so. Does not know what they speak.
Whoever waits longest is next, whatever the account: a busy account keeps nobody out. A session that nobody uses makes
room for another account's, the one that was used longest ago first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from onedomain.model.account import Account
from onedomain.model.failure import Failed, again


class Warm(Protocol):
    """`good`: it may be used once more. `quiet()`: alive, and nothing came meanwhile."""

    account: Account

    @property
    def good(self) -> bool: ...
    def quiet(self) -> bool: ...
    def close(self) -> None: ...
    async def leave(self) -> None: ...


C = TypeVar("C", bound=Warm)


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """`size` sessions at most, kept `idle` seconds; `waiting` tasks wait `wait` seconds."""

    size: int = 20
    idle: float = 120.0
    waiting: int = 10_000
    wait: float = 300.0


class Sessions(Generic[C]):
    """`open` logs in; what it raises goes to whoever asked."""

    def __init__(self, name: str, open: Callable[[Account], Awaitable[C]], limits: SessionLimits) -> None:
        self._name = name
        self._open = open
        self._limits = limits
        self._idle: OrderedDict[str, tuple[C, float]] = OrderedDict()  # by address; with the time it was given back
        self._lent = 0  # or about to be opened
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    async def take(self, account: Account) -> C:
        """A session of this account. Raises Failed when too many wait already, or for too long."""
        await self._enter()
        try:
            if (session := self._warm(account)) is not None:
                return session
            await self._make_room()
            return await self._open(account)
        except BaseException:
            self._leave()
            raise

    @property
    def crowded(self) -> bool:
        """Half of the places are taken, or somebody waits for one: no time for luxury."""
        return bool(self._waiters) or 2 * self._lent >= self._limits.size

    async def take_more(self, account: Account) -> C | None:
        """Another session of an account that has one; None where others may need its place. Raises as opening does."""
        if self._closed or self.crowded:
            return None
        self._lent += 1
        try:
            await self._make_room()
            return await self._open(account)
        except BaseException:
            self._leave()
            raise

    def give_more(self, session: C) -> None:
        """Back from `take_more`: it ends."""
        if session.good and not self._closed:
            self._say_goodbye(session)
        else:
            session.close()
        self._leave()

    def give(self, session: C, *, keep: bool) -> None:
        address = session.account.address
        if not keep or not session.good or self._closed or address in self._idle:
            session.close()
        else:
            loop = asyncio.get_running_loop()
            self._idle[address] = (session, loop.time())
            if self._sweep is None:
                self._sweep = loop.call_later(self._limits.idle, self._end_old)
        self._leave()

    async def close(self) -> None:
        """Says goodbye on idle sessions; what is lent is closed when it comes back. Whoever waits is turned away."""
        self._closed = True
        if self._sweep:
            self._sweep.cancel()
            self._sweep = None
        idle = [session for session, _ in self._idle.values()]
        self._idle.clear()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(self._busy("closed"))
        await asyncio.gather(*(session.leave() for session in idle), *self._leaving)

    async def _enter(self) -> None:
        if self._closed:
            raise self._busy("closed")
        if self._lent < self._limits.size and not self._waiters:
            self._lent += 1
            return
        if len(self._waiters) >= self._limits.waiting:
            raise self._busy("queue full")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._limits.wait):
                await waiter
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not isinstance(error, Failed):
                self._leave()  # the place came at the very moment when it was not wanted any more
            if isinstance(error, TimeoutError):
                raise self._busy("no free session") from None
            raise

    def _leave(self) -> None:
        self._lent -= 1
        while self._waiters and self._lent < self._limits.size and not self._closed:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._lent += 1
                waiter.set_result(None)

    def _warm(self, account: Account) -> C | None:
        """The idle session of this account, if it is good."""
        session, since = self._idle.pop(account.address, (None, 0.0))
        if session is not None:
            young = asyncio.get_running_loop().time() - since < self._limits.idle
            same = session.account.mailbox_name == account.mailbox_name
            if same and session.good and young and session.quiet():
                return session
            session.close()
        return None

    async def _make_room(self) -> None:
        """For a new one. The server has no more than `size` at any moment, those that are leaving among them."""
        while self._idle and self._lent + len(self._idle) > self._limits.size:
            _, (oldest, _) = self._idle.popitem(last=False)
            self._say_goodbye(oldest)
        while leaving := [task for task in self._leaving if not task.done()]:
            if self._lent + len(self._idle) + len(leaving) <= self._limits.size:
                break
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)

    def _busy(self, why: str) -> Failed:
        return Failed(again(451, "4.3.2", "the mail server is busy", f"{self._name}: {why}"))

    def _end_old(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        too_old = loop.time() - self._limits.idle + 0.001
        while self._idle:
            address, (session, since) = next(iter(self._idle.items()))
            if since > too_old:
                self._sweep = loop.call_at(since + self._limits.idle, self._end_old)
                return
            del self._idle[address]
            self._say_goodbye(session)

    def _say_goodbye(self, session: C) -> None:
        task = asyncio.get_running_loop().create_task(session.leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
