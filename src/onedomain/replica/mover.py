"""Carries out the moves that operators have written into the directory: looks at each from time to time, and does what
is next.

Knows how many may be on their way at once. Does not know what comes next (decision/move), how links run (links), nor
what a switch takes (failover): these are ports. Keeps nothing in memory that matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from onedomain.decision.move import ChangeReplicas, Compare, Progress, Stand, Switch, next_step
from onedomain.model.account import Home
from onedomain.model.failure import Failed
from onedomain.model.move import Move, Stage
from onedomain.model.ports import Trace
from onedomain.replica.dropping import Dropping

LOOK_EVERY = 0.5
IDLE_EVERY = 2.0
"""Between two looks whether there is a move."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many accounts are being copied for moves, and how many are between two homes, at once. `stuck`: how many that
    stand still, for whatever reason, hold up nobody else.
    """

    copying: int = 20
    switching: int = 5
    stuck: int = 100


class Road(Protocol):
    """The directory's database. Each raises Failed where it is away; nothing is lost by that."""

    async def open(self) -> Sequence[Move]: ...
    async def stand(self, move: Move, stage: Stage, why: str) -> Move: ...

    async def change_replicas(self, account: str, home: Home, replicas: tuple[str, ...]) -> None:
        """Only if the home is still `home`."""
        ...

    async def switch(self, move: Move) -> bool:
        """Commits the new home; the plan of it is the failover's to carry out. False: not now."""
        ...


class Mover:
    """`homes` as the directory has them, `links` of accounts that are linked now, `usable` servers."""

    def __init__(
        self,
        road: Road,
        homes: Callable[[str], Home | None],
        links: Callable[[str], Progress | None],
        usable: Callable[[], Collection[str]],
        dropping: Dropping,
        trace: Trace,
        bounds: Bounds | None = None,
    ) -> None:
        self._road = road
        self._homes = homes
        self._links = links
        self._usable = usable
        self._dropping = dropping
        self._trace = trace
        self._bounds = bounds or Bounds()

    async def run(self) -> None:
        """Until cancelled."""
        away = False
        try:
            while True:
                try:
                    pause = LOOK_EVERY if await self.look() else IDLE_EVERY
                    away = False
                except Failed as error:
                    if not away:
                        self._trace.note("moves stand still", reason=error.failure.reason or str(error.failure))
                    pause, away = LOOK_EVERY, True
                await asyncio.sleep(pause)
        finally:
            await self._dropping.stop()

    async def look(self) -> int:
        """One look at all that are open; how many those are."""
        moves = await self._road.open()
        usable = self._usable()
        switching = sum(move.stage is Stage.SWITCHING for move in moves)
        copying = stuck = 0
        for move in moves:
            home = self._homes(move.account)
            before = home is not None and home.primary == move.source
            if before and copying >= self._bounds.copying:
                await self._stand(move, Stand(Stage.COPYING, "waiting for its turn"))
                continue
            link = self._links(move.account)
            passed = before and link is not None and bool(link.stopped) and stuck < self._bounds.stuck
            stuck += passed
            copying += before and not passed
            returned = link is not None or (home is not None and move.source not in home.replicas)
            step = next_step(move, home, link, returned=returned, usable=usable)
            match step:
                case Stand():
                    await self._stand(move, step)
                case ChangeReplicas(replicas) if home is not None:
                    await self._road.change_replicas(move.account, home, replicas)
                case Compare():
                    await self._stand(move, Stand(Stage.FINISHING, self._dropping.compare(move)))
                case Switch() if switching < self._bounds.switching:
                    switching += 1
                    if await self._road.switch(move):
                        await self._stand(move, Stand(Stage.SWITCHING))
        return len(moves)

    async def _stand(self, move: Move, now: Stand) -> None:
        if (move.stage, move.why) == (now.stage, now.why):
            return
        await self._road.stand(move, now.stage, now.why)
        if move.stage is not now.stage:
            self._trace.note("move", account=move.account, server=move.target, before=move.source,
                             stage=now.stage.value, reason=now.why)
