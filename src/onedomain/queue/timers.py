"""One timer for everything that waits: a heap of moments, and one alarm for the first of them.

Knows when to call whom: at its moment by the loop's own clock or later, never before, so that an action may compare
the two. Does not know why. Nothing runs while nothing is due.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

SLACK = 0.001
"""Seconds that an alarm is set late: uvloop rounds to whole milliseconds and so rings up to half of one early."""


class Timers:
    """Moments are those of the running loop's clock, in seconds. Belongs to one loop."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._alarm: asyncio.TimerHandle | None = None
        self._ringing = False
        self._closed = False

    def call_in(self, seconds: float, action: Callable[[], None]) -> None:
        """There is no taking back: the action finds out for itself whether it is still wanted."""
        self.call_at(asyncio.get_running_loop().time() + seconds, action)

    def call_at(self, moment: float, action: Callable[[], None]) -> None:
        """For who remembers the moment: the sum of a difference may be another number."""
        if self._closed:
            return
        heapq.heappush(self._heap, (moment, next(self._order), action))
        if self._heap[0][0] == moment and not self._ringing:
            self._set()

    def _set(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._heap:
            self._alarm = asyncio.get_running_loop().call_at(self._heap[0][0] + SLACK, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = asyncio.get_running_loop().time()
        self._ringing = True
        try:
            while self._heap and self._heap[0][0] <= now:
                _, _, action = heapq.heappop(self._heap)
                action()
        finally:
            self._ringing = False
            self._set()

    def __len__(self) -> int:
        return len(self._heap)

    def close(self) -> None:
        self._closed = True
        self._heap.clear()
        self._set()
