"""Which segment of the message journal holds what: when it may go, and which ids must be remembered as long as it
stays.

A finished message is over only once no segment holds a copy of it any more: until then its id has to be on record as
finished, or a restart would send it again. Knows ids, sizes and segment numbers. Does no I/O.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from onedomain.queue.entry import Entry
from onedomain.store.segment import Position


class Shelf:
    """Books on the segments; every number is a segment's, every size in bytes."""

    def __init__(self) -> None:
        self._present: defaultdict[int, set[str]] = defaultdict(set)   # message records, live or not
        self._chunked: defaultdict[int, set[str]] = defaultdict(set)   # live messages with chunks here
        self._live: Counter[int] = Counter()                           # bytes that are still wanted
        self._pins: Counter[int] = Counter()                           # chunks of drafts that are being written
        self.live_bytes = 0
        self.net_bytes = 0                                              # of those, what the safety net holds

    def found(self, id: str, place: Position) -> None:
        """A message record is there, whether it is wanted or not."""
        self._present[place.segment].add(id)

    def knows(self, id: str) -> bool:
        return any(id in ids for ids in self._present.values())

    def put(self, entry: Entry, *, sign: int = 1) -> None:
        """The entry's record and chunks are wanted."""
        self.found(entry.id, entry.place)
        for place in (entry.place, *entry.chunks):
            self._live[place.segment] += sign * place.length
            self.live_bytes += sign * place.length
            self.net_bytes += sign * place.length if entry.in_net else 0
        for chunk in entry.chunks:
            if sign > 0:
                self._chunked[chunk.segment].add(entry.id)
            else:
                self._chunked[chunk.segment].discard(entry.id)

    def take(self, entry: Entry) -> None:
        """They are wanted no more where they lie now."""
        self.put(entry, sign=-1)

    def pin(self, place: Position) -> None:
        self._pins[place.segment] += 1

    def unpin(self, places: Iterable[Position]) -> None:
        for place in places:
            self._pins[place.segment] -= 1

    def dropped(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            for books in (self._present, self._chunked, self._live, self._pins):
                books.pop(number, None)

    def empty(self, sizes: dict[int, int], current: int) -> list[int]:
        """Segments that nobody wants anything of."""
        return [one for one in sizes if one != current and not self._live[one] and not self._pins[one]]

    def sparse(self, sizes: dict[int, int], current: int, share: float) -> int:
        """The oldest segment of which less than `share` is wanted, or 0."""
        for number, size in sizes.items():
            if number != current and not self._pins[number] and 0 < self._live[number] < share * size:
                return number
        return 0

    def inhabitants(self, number: int) -> set[str]:
        """Ids of messages that have their record or a chunk there; some may be finished."""
        return self._present[number] | self._chunked[number]

    def ids(self) -> Iterator[str]:
        """Ids of all message records, wanted or not; some twice."""
        for ids in list(self._present.values()):
            yield from list(ids)
