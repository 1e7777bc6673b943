"""Whether this edge runs the links of the domain: a lease in the directory's database, renewed long before its end.

Knows when it was asked for by our own clock, and goes by that: a grant that took long to come is worth less. Does not
know what its holder does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from onedomain.app.standing import Standing
from onedomain.directory.leases import Leases
from onedomain.directory.links import LINKER
from onedomain.model.ports import Clock, Trace
from onedomain.store.sql import AWAY, DatabaseError

SECONDS = 5.0
RENEW_EVERY = 1.0
MARGIN = 1.5
"""Before its end the holder stops: what it has asked a server for may still be carried out."""


class Granter(Protocol):
    """directory/leases.py, as it is seen here."""

    async def take(self, name: str, holder: str, seconds: float) -> int: ...
    async def renew(self, name: str, token: int, seconds: float) -> bool: ...
    async def holder(self, name: str) -> str: ...


class Granting:
    """A Granter: the directory's leases over a database that may be away."""

    def __init__(self, database: Standing) -> None:
        self._database = database

    async def take(self, name: str, holder: str, seconds: float) -> int:
        return await self._database.ask(lambda database: Leases(database).take(name, holder, seconds))

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        return await self._database.ask(lambda database: Leases(database).renew(name, token, seconds))

    async def holder(self, name: str) -> str:
        return await self._database.ask(lambda database: Leases(database).holder(name))


Changed = Callable[[int, str], Awaitable[None]]
"""Is told (token, holder): token 0 where it is not us."""


class Leadership:
    """`token` > 0 while the lease is ours. `changed` is awaited before anything else happens."""

    def __init__(self, name: str, granter: Granter, changed: Changed, *, clock: Clock, trace: Trace,
                 seconds: float = SECONDS, renew_every: float = RENEW_EVERY) -> None:
        self._name = name
        self._granter = granter
        self._changed = changed
        self._clock = clock
        self._trace = trace
        self._seconds = seconds
        self._renew_every = renew_every
        self._until = float("-inf")
        self.token = 0
        self.holder = ""

    @property
    def holds(self) -> bool:
        """Whether the lease is ours at this moment: a process that was frozen has a token for as long as it takes until
        its turn comes.
        """
        return bool(self.token) and self._clock.monotonic() < self._until

    async def run(self) -> None:
        """Until cancelled. A database that is away ends the lease in time, not at once."""
        while True:
            asked = self._clock.monotonic()
            try:
                async with asyncio.timeout(max(0.1, self._until - asked) if self.token else self._seconds):
                    await self._ask(asked)
            except (TimeoutError, DatabaseError, *AWAY) as error:
                if self.token:
                    self._trace.note("lease not renewed", reason=f"{type(error).__name__}: {error}".split("\n")[0])
            if self.token and self._clock.monotonic() >= self._until:
                await self._become(0, "")
            left = self._until - self._clock.monotonic() if self.token else self._renew_every
            await asyncio.sleep(max(0.0, min(self._renew_every, left)))

    async def _ask(self, asked: float) -> None:
        if self.token:
            if await self._granter.renew(LINKER, self.token, self._seconds):
                self._until = asked + self._seconds - MARGIN
                return
            await self._become(0, "")
        token = await self._granter.take(LINKER, self._name, self._seconds)
        if token:
            self._until = asked + self._seconds - MARGIN
            await self._become(token, self._name)
            return
        holder = await self._granter.holder(LINKER)
        if holder != self.holder:
            await self._become(0, holder)

    async def _become(self, token: int, holder: str) -> None:
        self.token, self.holder = token, holder
        self._trace.note("links run here" if token else "links run elsewhere", holder=holder)
        await self._changed(token, holder)
