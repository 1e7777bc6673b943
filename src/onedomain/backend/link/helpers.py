"""Further sessions of an account that has one already, for as long as there is much to do at once.

Knows when they are opened and that they end with the first. Does not know what they do. Without them all goes on, only
slower: whether a server lets the same person in once more is its own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from onedomain.backend.link.connection import Connection
from onedomain.model.failure import Failed

HELPERS = 3


class Helpers:
    """`open` gives another session, or None where there is no place for it; `back` takes it. `crowded`: others need
    their places. `useless` is told when they stand in each other's way.
    """

    def __init__(
        self, open: Callable[[], Awaitable[Connection | None]], back: Callable[[Connection], None],
        crowded: Callable[[], bool], useless: Callable[[], None],
    ) -> None:
        self._open = open
        self._back = back
        self.crowded = crowded
        self._coming: list[asyncio.Task[Connection | None]] | None = None
        self.useless = useless

    @property
    def there(self) -> bool:
        return bool(self._coming)

    def called(self) -> list[asyncio.Task[Connection | None]]:
        """Those that are there and those that are coming; None of them: it won't."""
        if self._coming is None:
            loop = asyncio.get_running_loop()
            self._coming = [loop.create_task(self._one()) for _ in range(HELPERS)]
        elif self.crowded():
            self._let_go()
        return [task for task in self._coming if not task.done() or ((there := task.result()) and there.good)]

    async def _one(self) -> Connection | None:
        try:
            return await self._open()
        except Failed:
            return None

    def _let_go(self) -> None:
        for task in self._coming or ():
            if not task.done():
                task.cancel()
            elif not task.cancelled() and (there := task.result()) is not None:
                self._back(there)
        self._coming = []

    async def close(self) -> None:
        """All of them are given back; nobody may use them any more."""
        coming = [task for task in self._coming or () if not task.done()]
        self._let_go()
        if coming:
            await asyncio.wait(coming)
