"""Counts that hold across the workers of one machine: connections per address, failed log-ins per address or account.

Knows an anonymous memory map made before the fork. Does not know what a key means or what follows from a count.

Each worker writes its own column only, so there is no lock; readers add the columns up. A key is hashed with a secret
into two rows of slots, and the smaller sum counts (a count-min sketch): what shares a slot can only make a count too
high, and nobody outside can choose keys that do.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import secrets
from functools import lru_cache

_ROWS = 2
_REMEMBERED = 4096
"""Keys whose places are remembered: the same people and addresses come again and again, and a hash costs more than all
the rest."""
HALF_LIFE = 300.0
"""Seconds in which a penalty halves."""


class SharedTable:
    """Made by the supervisor; each worker says `start` after the fork. Memory: slots * workers * 32 bytes, if touched.

    Counts are signed 32 bit and last as long as the worker that added them. Penalties decay, and outlive it.
    """

    def __init__(self, slots: int = 16384, workers: int = 1, *, half_life: float = HALF_LIFE) -> None:
        if slots < 1 or workers < 1:
            raise ValueError("a table needs slots and workers")
        self._slots = slots
        self._workers = workers
        self._half_life = half_life
        self._stride = _ROWS * slots  # from one worker's slot to the next one's
        self._bases = range(0, self._stride * workers, self._stride)
        self._places = lru_cache(_REMEMBERED)(self._hashed)
        self._secret = secrets.token_bytes(32)
        cells = _ROWS * slots * workers
        self._counts = memoryview(mmap.mmap(-1, cells * 4)).cast("i")
        self._penalties = memoryview(mmap.mmap(-1, cells * 4)).cast("f")
        self._times = memoryview(mmap.mmap(-1, cells * 8)).cast("d")
        self._counted = mmap.mmap(-1, workers)  # columns with counts: to clear one touches all of its memory
        self._column = -1  # where our own begins

    def start(self, worker: int) -> None:
        """Own column `worker` (0 up), and forget what a dead one of that number had counted."""
        if not 0 <= worker < self._workers:
            raise ValueError(f"no column for worker {worker}")
        self._column = worker * self._stride
        if not self._counted[worker]:
            return
        first, size = worker * self._stride, self._stride
        self._counts[first : first + size] = memoryview(bytes(size * 4)).cast("i")

    def add(self, key: str, amount: int = 1) -> None:
        """Add to this worker's count; negative takes back."""
        base = self._own()
        self._counted[base // self._stride] = 1
        first, second = self._places(key)
        self._counts[base + first] += amount
        self._counts[base + second] += amount

    def enter(self, key: str, limit: int) -> bool:
        """`add` one, unless the total is `limit` already. Two workers may do so in one moment."""
        base = self._own()
        first, second = self._places(key)
        counts = self._counts
        one = other = 0
        for column in self._bases:
            one += counts[column + first]
            other += counts[column + second]
        if one >= limit and other >= limit:
            return False
        counts[base + first] += 1
        counts[base + second] += 1
        self._counted[base // self._stride] = 1
        return True

    def total(self, key: str) -> int:
        """Over all workers."""
        first, second = self._places(key)
        counts = self._counts
        one = other = 0
        for base in self._bases:
            one += counts[base + first]
            other += counts[base + second]
        return one if one < other else other

    def add_penalty(self, key: str, now: float, amount: float = 1.0) -> None:
        """`now` is a clock that all workers share, such as loop.time() (CLOCK_MONOTONIC)."""
        base = self._own()
        for slot in self._places(key):
            cell = base + slot
            self._penalties[cell] = self._decayed(cell, now) + amount
            self._times[cell] = now

    def penalty(self, key: str, now: float) -> float:
        """Over all workers, each halved for every half life since its last addition."""
        first, second = self._places(key)
        found = self._decayed_sum(first, now)
        return found and min(found, self._decayed_sum(second, now))

    def _decayed_sum(self, place: int, now: float) -> float:
        found = 0.0
        for base in self._bases:
            if self._penalties[base + place]:
                found += self._decayed(base + place, now)
        return found

    def _decayed(self, cell: int, now: float) -> float:
        value = self._penalties[cell]
        return value * math.exp2(-max(0.0, now - self._times[cell]) / self._half_life)

    def _own(self) -> int:
        if self._column < 0:
            raise RuntimeError("this process has no column: start() was not called")
        return self._column

    def _hashed(self, key: str) -> tuple[int, int]:
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=16).digest()
        first = int.from_bytes(digest[:8], "little") % self._slots
        second = int.from_bytes(digest[8:], "little") % self._slots
        return first, self._slots + second
