"""One timer for everything that waits: a heap of moments, and one alarm for the first of them.

Knows when to call whom. Does not know why. Nothing runs while nothing is due.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count


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
        if self._closed:
            return
        moment = asyncio.get_running_loop().time() + seconds
        heapq.heappush(self._heap, (moment, next(self._order), action))
        if self._heap[0][0] == moment and not self._ringing:
            self._set()

    def _set(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._heap:
            self._alarm = asyncio.get_running_loop().call_at(self._heap[0][0], self._ring)

    def _ring(self) -> None:
        self._alarm = None
        # The alarm that rang counts as reached, even where the loop's clock is coarser.
        now = max(asyncio.get_running_loop().time(), self._heap[0][0])
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
