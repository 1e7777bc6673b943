"""Link states on their way to a durable place: what many passes save at the same time goes in one transaction.

Knows who waits for which state. Does not know what a state means, nor what a transaction is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from onedomain.model.failure import Failed, again
from onedomain.model.replica import LinkState

PER_TRANSACTION = 200
NOT_SAVED = again(451, "4.3.2", "not saved", "the lease is lost, or the home is another by now")


@dataclass(frozen=True, slots=True)
class Saving:
    """`accepted`: what is braked in this state, all of it, is meant to be gone."""

    account: str
    source: str
    target: str
    epoch: int
    state: LinkState
    accepted: bool = False


Write = Callable[[Sequence[Saving]], Awaitable[frozenset[str]]]
"""Saves all in one transaction; -> the accounts that were saved. Durable on return. Raises Failed."""


class Saver:
    """One transaction at a time; what comes meanwhile goes with the next."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: list[tuple[Saving, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self.transactions = 0

    async def save(self, saving: Saving) -> None:
        """Raises Failed: it is not saved, because nothing is, or because its home is another by now."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((saving, done))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        await done

    async def _run(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:PER_TRANSACTION], self._waiting[PER_TRANSACTION:]
            self.transactions += 1
            try:
                saved = await self._write([saving for saving, _ in some])
            except Failed as error:
                for _, done in some:
                    if not done.done():
                        done.set_exception(Failed(error.failure))
                continue
            except BaseException:
                for _, done in some + self._waiting:
                    done.cancel()
                raise
            for saving, done in some:
                if done.done():
                    continue
                if saving.account in saved:
                    done.set_result(None)
                else:
                    done.set_exception(Failed(NOT_SAVED))
