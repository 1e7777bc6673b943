"""Which account's turn comes by itself, and when: a heap with one entry per account that counts.

Knows times. Does not know why.
"""

from __future__ import annotations

import heapq
import itertools

from onedomain.replica.linked import Linked


class Due:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Linked]] = []
        self._valid: dict[str, int] = {}
        self._numbers = itertools.count()

    def add(self, linked: Linked) -> None:
        """At `linked.due`, instead of whenever it was due before."""
        number = next(self._numbers)
        self._valid[linked.address] = number
        heapq.heappush(self._heap, (linked.due, number, linked))
        if len(self._heap) > 4 * len(self._valid) + 100:
            self._heap = [entry for entry in self._heap if self._valid.get(entry[2].address) == entry[1]]
            heapq.heapify(self._heap)

    def remove(self, linked: Linked) -> None:
        self._valid.pop(linked.address, None)

    def until(self, now: float) -> list[Linked]:
        """Those that are due; they have no turn any more until they are added again."""
        found = []
        while self._heap and (self._heap[0][0] <= now or not self._is_valid(self._heap[0])):
            entry = heapq.heappop(self._heap)
            if self._is_valid(entry):
                del self._valid[entry[2].address]
                found.append(entry[2])
        return found

    def _is_valid(self, entry: tuple[float, int, Linked]) -> bool:
        return self._valid.get(entry[2].address) == entry[1]

    @property
    def next(self) -> float | None:
        while self._heap and not self._is_valid(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
