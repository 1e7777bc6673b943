"""Who waits until a message has got further than the spool (promise 1), and how far it got.

Knows waiters, and the tickets of what a link has been told. Does not know lanes, servers or links.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from onedomain.model.account import Level
from onedomain.model.message import State
from onedomain.model.ports import Changes
from onedomain.queue.entry import Entry


class _Waiter:
    __slots__ = ("reached", "tickets")

    def __init__(self) -> None:
        self.reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.tickets: dict[str, int] = {}


class Waiters:
    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._waiters: dict[str, list[_Waiter]] = {}

    async def wait(self, id: str, timeout: float, copied: Collection[str]) -> Level:
        """How far all targets of the message get within `timeout` seconds; `copied` are the accounts whose replicas
        have to have it for Level.REPLICA. Returns as soon as more is not to be expected soon.
        """
        until = asyncio.get_running_loop().time() + timeout
        waiter = _Waiter()
        self._waiters.setdefault(id, []).append(waiter)
        try:
            async with asyncio.timeout_at(until):
                if not await waiter.reached:
                    return Level.SPOOL
        except TimeoutError:
            return Level.SPOOL
        finally:
            waiters = self._waiters[id]
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[id]
        if not copied or not all(waiter.tickets.get(account) for account in copied):
            return Level.PRIMARY
        left = until - asyncio.get_running_loop().time()
        answers = await asyncio.gather(
            *(self._changes.covered(account, waiter.tickets[account], left) for account in copied))
        return Level.REPLICA if all(answers) else Level.PRIMARY

    def told(self, entry: Entry, account: str, ticket: int) -> None:
        for waiter in self._waiters.get(entry.id, ()):
            waiter.tickets[account] = ticket

    def tell(self, entry: Entry, *, busy: bool) -> None:
        """Something happened to the message; `busy`: and something is happening still."""
        waiters = self._waiters.get(entry.id)
        if not waiters:
            return
        if entry.finished:
            reached = all(one.state is State.DONE for one in entry.progress.values())
        elif busy or len(entry.progress) < entry.targets:
            return
        else:
            reached = False
        for waiter in waiters:
            if not waiter.reached.done():
                waiter.reached.set_result(reached)

    def give_up(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.reached.done():
                    waiter.reached.set_result(False)
