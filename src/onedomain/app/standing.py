"""A database that is opened when it is first needed and anew after it was away.

Knows which errors mean that. Does not know what is asked of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from onedomain.store.sql import AWAY, Database

T = TypeVar("T")


class Standing:
    """Raises what `open_database` and the question raise."""

    def __init__(self, open_database: Callable[[], Awaitable[Database]]) -> None:
        self._open = open_database
        self._database: Database | None = None
        self._opening = asyncio.Lock()

    async def ask(self, question: Callable[[Database], Awaitable[T]]) -> T:
        async with self._opening:
            if self._database is None:
                self._database = await self._open()
            database = self._database
        try:
            return await question(database)
        except AWAY:
            if self._database is database:
                self._database = None
                with suppress(*AWAY):
                    await database.close()
            raise

    async def close(self) -> None:
        if self._database is not None:
            with suppress(*AWAY):
                await self._database.close()
