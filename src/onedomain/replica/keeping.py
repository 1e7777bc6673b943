"""What one pass asks of our own side; a performer.Keeping.

Knows where each thing goes, and when a long pass has to let others in. Does not know plans, nor whose turn is next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from onedomain.backend.link.base import Letter
from onedomain.model.failure import Failed, Failure
from onedomain.model.ports import Clock
from onedomain.model.replica import LinkState, Side
from onedomain.replica.aside import Aside, Origin
from onedomain.replica.linked import Linked
from onedomain.replica.saving import Saver, Saving


class Yielded(Exception):
    """The pass was dropped at a moment when all it had done was saved, as others wait for its place."""


@dataclass(slots=True)
class Share:
    """How long a pass may carry while others wait. `seconds` of carrying at the least, and as long as it took to find
    out what to carry: or a folder that takes long to list would never be carried in a reasonable time.
    """

    clock: Clock
    seconds: float
    wanted: Callable[[], bool]
    began: float
    carrying: float | None = None

    def over(self) -> bool:
        """Asked at each save; the first one with something carried begins the count."""
        now = self.clock.monotonic()
        if self.carrying is None:
            self.carrying = now
        return now - self.carrying >= max(self.seconds, self.carrying - self.began) and self.wanted()


@dataclass(slots=True)
class Keeping:
    """`confirmed` and `alert` tell the account's workers and people. `carried()`: messages so far in this pass.

    `covered()` tells who waits for what this pass has found, when it is on the target and not when it is saved, if by
    our clock (`leads`) nobody else can be running the links; `told`: it has.
    """

    linked: Linked
    aside: Aside
    saver: Saver
    confirmed: Callable[[Linked, Iterable[str]], None]
    alerted: Callable[[Linked, str, str], None]
    share: Share
    leads: Callable[[], bool]
    covered: Callable[[], None]
    told: bool = False
    failure: Failure | None = None  # what our own side answered last that could not be done
    carried: Callable[[], int] = lambda: 0

    async def set_aside(self, side: Side, folder: str, letters: Sequence[Letter], why: str) -> None:
        server = self.linked.source if side is Side.SOURCE else self.linked.target
        try:
            await self.aside.keep(Origin(self.linked.address, server, folder, side), letters, why)
        except Failed as error:
            self.failure = error.failure
            raise

    async def confirm(self, deliveries: Collection[str]) -> None:
        self.confirmed(self.linked, deliveries)

    async def whole(self) -> None:
        if self.leads():
            self.told = True
            self.covered()

    async def save(self, state: LinkState) -> None:
        linked = self.linked
        state = replace(state, epoch=linked.epoch)
        if state == linked.state:
            return  # nothing new: not worth a sync
        try:
            await self.saver.save(Saving(
                linked.address, linked.source, linked.target, linked.epoch, state, linked.accepts(state)))
        except Failed as error:
            self.failure = error.failure
            raise
        linked.state = state
        if self.carried() and self.share.over():
            raise Yielded

    async def alert(self, folder: str, text: str) -> None:
        self.alerted(self.linked, folder, text)
