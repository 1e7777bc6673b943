"""Whose pass begins when: turns that come by themselves, by events, again after failures; as many at once as may be.

Knows accounts' links, their queues, one timer. Does not know what a pass does, nor what its end means: it is told
`carry`, and told in turn what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from onedomain.model.ports import Clock, Trace
from onedomain.replica.due import Due
from onedomain.replica.linked import Linked, Taken
from onedomain.replica.pace import Kind, Pace

Wanted = Callable[[], bool]
"""Whether somebody waits for the place of a pass that is under way."""
Carry = Callable[[Linked, Taken, Wanted], Awaitable[None]]


class Turns:
    """`here(linked)`: whether it still is the account's link."""

    def __init__(self, pace: Pace, carry: Carry, here: Callable[[Linked], bool], clock: Clock, trace: Trace) -> None:
        self.pace = pace
        self._carry = carry
        self._here = here
        self._clock = clock
        self._trace = trace
        self._due = Due()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._active = False
        self._pumping = False  # about to

    def start(self) -> None:
        """From now on passes run; until then everything is only noted."""
        self._active = True
        self.pump()

    async def stop(self) -> None:
        """Cuts all passes off and waits until they have let go."""
        self._active = False
        if self._timer is not None:
            self._timer.cancel()
        while self._tasks:
            for task in self._tasks.values():
                if not task.cancelling():
                    task.cancel()
            await asyncio.wait(list(self._tasks.values()))

    async def quiet(self, address: str) -> None:
        """Returns when no pass of this account is under way; nothing that it asked for comes later."""
        while (task := self._tasks.get(address)) is not None:
            if not task.cancelling():
                task.cancel()
            await asyncio.wait([task])

    def remove(self, linked: Linked) -> None:
        self.pace.remove(linked)
        self._due.remove(linked)
        if (task := self._tasks.get(linked.address)) is not None:
            task.cancel()

    # -- when

    def happened(self, linked: Linked) -> None:
        """Something was told of it. After a failure it has to wait all the same; `pump` follows."""
        if linked.running:
            linked.again = True
            return
        now = self._clock.monotonic()
        if linked.told_from < linked.not_before:
            linked.not_before = linked.told_from
            self.after(linked, max(0.0, linked.told_from - now))
        if linked.not_before <= now:
            self.pace.add(linked, self._why(linked, Kind.EVENT))

    def at_once(self, linked: Linked) -> None:
        if linked.running:
            linked.again = True
        else:
            self.pace.add(linked, self._why(linked, Kind.EVENT))
        self.pump()

    def after(self, linked: Linked, seconds: float) -> None:
        """Its next turn comes by itself after that long, if no event is earlier."""
        linked.due = self._clock.monotonic() + seconds
        self._due.add(linked)
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self.pump)

    def not_before(self, linked: Linked, seconds: float, told: float | None = None) -> None:
        """Nor does an event bring it sooner, or not before so many seconds are over."""
        now = self._clock.monotonic()
        linked.not_before = now + seconds
        linked.told_from = now + min(seconds, seconds if told is None else told)
        self.after(linked, seconds)

    def _why(self, linked: Linked, kind: Kind) -> Kind:
        """What has been copied and not been whole yet has little to do, and more the longer it waits."""
        if linked.was_whole or linked.copied or linked.even:
            return kind
        return Kind.SWEEP if linked.returned else Kind.FIRST  # an old primary has nearly all

    # -- now

    def pump(self) -> None:
        """Begins what may begin, and comes back when the next thing is due."""
        self._pumping = False
        if not self._active:
            return
        now = self._clock.monotonic()
        for linked in self._due.until(now):
            if not linked.running:
                waits = bool(linked.pending or linked.net)
                self.pace.add(linked, self._why(linked, Kind.EVENT if waits else Kind.SWEEP))
        while (found := self.pace.next(now)) is not None:
            linked, kind = found
            servers = linked.source, linked.target
            before = self._tasks.get(linked.address)
            taken = linked.begin()
            task = asyncio.get_running_loop().create_task(self._turn(linked, taken, kind, before))
            task.add_done_callback(partial(self._turned, linked, servers, kind, before))
            self._tasks[linked.address] = task
        wake = [at for at in (self._due.next, self.pace.wake_at(now)) if at is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, min(wake) - now) + 0.0005, self.pump)

    async def _turn(self, linked: Linked, taken: Taken, kind: Kind, before: asyncio.Task[None] | None) -> None:
        """`before`: of the same account with another home, cut off and perhaps not yet ended."""
        if before is not None:
            await asyncio.wait([before])
        await self._carry(linked, taken, partial(self.pace.wanted, linked.source, linked.target, kind))

    def _turned(
        self, linked: Linked, servers: tuple[str, str], kind: Kind, before: asyncio.Task[None] | None,
        task: asyncio.Task[None],
    ) -> None:
        """However it ended; one that is cut off before its first step ends here, too. `before` may go on closing."""
        linked.running = False
        self.pace.give(*servers, kind)
        if self._tasks.get(linked.address) is task:
            if before is None or before.done():
                del self._tasks[linked.address]
            else:
                self._tasks[linked.address] = before
        if linked.again and self._here(linked):
            linked.again = False
            self.happened(linked)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._trace.note("link pass broke", account=linked.address, reason=repr(error))
        self.pump()
