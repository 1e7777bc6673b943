"""This edge's lease in the directory's database: asked for, told to the workers, and what they go by told to it.

Knows what each worker was told last and which change of the directory it goes by. A worker that does not answer is told
nothing more, and is fenced by itself when the lease it knows has run out; so nobody waits for it longer than that, even
where it belongs to a keeper before this one. Does not know what a lease allows (edge/fence).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from onedomain.control.link import LinkError
from onedomain.directory.leases import Grant
from onedomain.model.ports import Clock, Trace
from onedomain.store.sql import AWAY, DatabaseError

ASK_EVERY = 0.5
ANSWER_SECONDS = 1.0


class Granter(Protocol):
    """directory/leases.py, as it is seen here."""

    async def renew_edge(self, edge: str, seq: int, seconds: float) -> Grant: ...


Tell = Callable[[float], Awaitable[int]]
"""Tells one worker of a lease asked for at that time; -> the last change that it goes by. Raises LinkError, OSError."""


@dataclass(slots=True)
class _Known:
    """`told`: the latest `asked` that a process of this slot may go by. `seq`: what it said it goes by; it does not go
    back, and the next process in the slot knows of no lease before it is told. -1: nothing is known.
    """

    told: float
    seq: int = -1
    asking: asyncio.Task[None] | None = None


class Fencing:
    """`workers` gives the workers that are there, by slot; `slots` is how many there may be."""

    def __init__(
        self,
        name: str,
        granter: Granter,
        workers: Callable[[], Mapping[int, Tell]],
        slots: int,
        lease: float,
        *,
        clock: Clock,
        trace: Trace,
    ) -> None:
        self._name = name
        self._granter = granter
        self._workers = workers
        self._lease = lease
        self._clock = clock
        self._trace = trace
        # The keeper before this one may have told them of a lease until just now.
        self._known = {slot: _Known(clock.monotonic()) for slot in range(slots)}
        self._asked = float("-inf")
        self._written = -1
        self._wanted = asyncio.Event()
        self._trouble = ""
        self.grant: Grant | None = None

    @property
    def seq(self) -> int:
        """The last change that every process of this edge goes by which could still write; -1: not known."""
        now = self._clock.monotonic()
        able = [known.seq for known in self._known.values() if now - known.told < self._lease]
        return min(able, default=max((known.seq for known in self._known.values()), default=-1))

    def changed(self) -> None:
        """The directory changed: the others may be waiting to hear that we go by it."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wanted.clear()
            await self._round()
            try:
                async with asyncio.timeout(ASK_EVERY):
                    await self._wanted.wait()
            except TimeoutError:
                pass  # nothing happened: the usual renewal

    async def _round(self) -> None:
        await self._ask()
        await self._tell()
        if self.seq > self._written:
            await self._ask()

    async def _ask(self) -> None:
        asked, seq = self._clock.monotonic(), self.seq
        if seq < 0:
            return
        try:
            async with asyncio.timeout(self._lease):
                self.grant = await self._granter.renew_edge(self._name, seq, self._lease)
        except (DatabaseError, *AWAY) as error:
            self._say(f"{type(error).__name__}: {error}".split("\n")[0])
            return
        self._written = seq
        if self.grant.granted:
            self._asked = asked
            self._say("")
        elif self._clock.monotonic() - self._asked > self._lease:
            self._say(f"the workers go by change {seq}, a promotion was change {self.grant.barrier}")

    def _say(self, trouble: str) -> None:
        if trouble and not self._trouble:
            self._trace.note("no lease", reason=trouble)
        elif self._trouble and not trouble:
            self._trace.note("lease")
        self._trouble = trouble

    async def _tell(self) -> None:
        workers = self._workers()
        for slot, tell in workers.items():
            known = self._known.setdefault(slot, _Known(float("-inf")))
            if known.asking is None or known.asking.done():
                known.told = max(known.told, self._asked)
                known.asking = asyncio.create_task(self._tell_one(known, tell))
        asking = [known.asking for known in self._known.values() if known.asking is not None]
        if asking:
            await asyncio.wait(asking, timeout=ANSWER_SECONDS)

    async def _tell_one(self, known: _Known, tell: Tell) -> None:
        try:
            known.seq = max(known.seq, await tell(self._asked))
        except (LinkError, OSError):
            pass  # it is gone, or hangs: what it knew of a lease runs out
