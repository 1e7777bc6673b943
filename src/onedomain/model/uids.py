"""A set of UIDs as ranges: what vanished from a folder. After a failover 100,000 UIDs in a row have never been.

Knows numbers, also those of sequence sets. Does not know messages, nor how sets are written on the wire
(protocol/imap/sequence).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Range = tuple[int, int]
"""Both ends included."""
_LARGEST = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class UidSet:
    """`ranges`: ascending, apart. To go through them one by one costs what they span."""

    ranges: tuple[Range, ...] = ()

    @classmethod
    def of(cls, uids: Iterable[int]) -> UidSet:
        return cls.spanning((uid, uid) for uid in uids)

    @classmethod
    def spanning(cls, ranges: Iterable[Range]) -> UidSet:
        """In any order; they may touch and overlap."""
        found: list[Range] = []
        for low, high in sorted(ranges):
            if found and low <= found[-1][1] + 1:
                found[-1] = found[-1][0], max(found[-1][1], high)
            else:
                found.append((low, high))
        return cls(tuple(found))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, uid: object) -> bool:
        if not isinstance(uid, int):
            return False
        at = bisect_right(self.ranges, (uid, _LARGEST)) - 1
        return at >= 0 and self.ranges[at][0] <= uid <= self.ranges[at][1]

    def __iter__(self) -> Iterator[int]:
        """Ascending."""
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def within(self, first: int, last: int) -> UidSet:
        """Those from `first` to `last`, both included."""
        cut = ((max(low, first), min(high, last)) for low, high in self.ranges)
        return UidSet(tuple((low, high) for low, high in cut if low <= high))

    def without(self, uids: Sequence[int]) -> UidSet:
        """`uids` ascend."""
        left: list[Range] = []
        for start, high in self.ranges:
            low = start
            for uid in uids[bisect_left(uids, low) : bisect_right(uids, high)]:
                if low < uid:
                    left.append((low, uid - 1))
                low = uid + 1
            if low <= high:
                left.append((low, high))
        return UidSet(tuple(left))


NO_UIDS = UidSet()
