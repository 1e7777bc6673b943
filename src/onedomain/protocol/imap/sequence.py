"""Sequence sets, `2,4:7,9,12:*` (RFC 3501 section 9, RFC 9051 section 4.1.1), of sequence numbers or UIDs.

Knows how they are written and what they select. Does not know messages.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onedomain.model.uids import UidSet

MAX_RANGES = 20_000
MAX_TOLD = 1_000_000
"""Ranges of what a server says that vanished: in a large folder all that was ever expunged may be told at once."""
_LARGEST = 0xFFFF_FFFF
_RANGE = re.compile(rb"(\*|[1-9][0-9]{0,9})(?::(\*|[1-9][0-9]{0,9}))?")


class BadSet(ValueError):
    """The text is fit for the client."""


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Ranges as the client wrote them, both ends included; 0 stands for `*`."""

    ranges: tuple[tuple[int, int], ...]

    def resolve(self, largest: int) -> list[tuple[int, int]]:
        """Ranges (low, high), ascending and apart, with `largest` for `*`."""
        return list(UidSet.spanning(_ordered(a or largest, b or largest) for a, b in self.ranges).ranges)

    def has(self, number: int) -> bool:
        """Whether the set, resolved before and so ascending, holds the number."""
        at = bisect_right(self.ranges, (number, _LARGEST)) - 1
        return at >= 0 and self.ranges[at][0] <= number <= self.ranges[at][1]

    def positions_of_uids(self, uids: Sequence[int]) -> list[int]:
        """Ascending positions in `uids` (which ascend) that the set selects; a UID that isn't there is no error."""
        positions: list[int] = []
        for low, high in self.resolve(uids[-1] if uids else 0):
            positions.extend(range(bisect_left(uids, low), bisect_right(uids, high)))
        return positions

    def positions(self, count: int) -> list[int]:
        """Ascending positions, from 0, of the sequence numbers. Raises BadSet for numbers above `count`.

        `1:*` of an empty mailbox selects nothing, and is no error: clients say it without looking.
        """
        if not count and all(0 in pair for pair in self.ranges):
            return []
        resolved = self.resolve(count)
        if resolved and (resolved[-1][1] > count or resolved[0][0] < 1):
            raise BadSet("Message number out of range")
        return [at for low, high in resolved for at in range(low - 1, high)]


def parse_set(data: bytes, most: int = MAX_RANGES) -> SequenceSet:
    """Raises BadSet, also for more than `most` ranges."""
    ranges: list[tuple[int, int]] = []
    for part in data.split(b","):
        found = _RANGE.fullmatch(part)
        if found is None:
            raise BadSet("Bad sequence set")
        first = _number(found[1])
        ranges.append((first, first if found[2] is None else _number(found[2])))
        if len(ranges) > most:
            raise BadSet("Sequence set has too many ranges")
    return SequenceSet(tuple(ranges))


def format_set(numbers: Iterable[int], ordered: bool = True) -> bytes:
    """`1:3,5`. With `ordered` False the numbers keep their order, as COPYUID wants (RFC 4315)."""
    parts: list[list[int]] = []
    for number in sorted(numbers) if ordered else numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return format_ranges((low, high) for low, high in parts)


def format_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Ranges with both ends included, as they come."""
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in ranges)


def _ordered(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a <= b else (b, a)


def _number(text: bytes) -> int:
    if text == b"*":
        return 0
    number = int(text)
    if number > _LARGEST:
        raise BadSet("Number above 32 bits")
    return number
