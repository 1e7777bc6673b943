"""A server's folder names in their order, so that what lies below one is found without looking at all others.

Knows names and their separator. Does not know folders.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable


class Names:
    """A name may be there more than once."""

    def __init__(self, names: Iterable[str], separator: str) -> None:
        self._names = sorted(names)
        self._separator = separator

    def __contains__(self, name: object) -> bool:
        at = bisect_left(self._names, str(name))
        return at < len(self._names) and self._names[at] == name

    def below(self, name: str) -> list[str]:
        first, end = self._below(name)
        return self._names[first:end]

    def occupied(self, name: str) -> bool:
        """It is there, or something below it is."""
        first, end = self._below(name)
        return name in self or first < end

    def above(self, name: str) -> bool:
        """Something is there that it would lie below (RFC 9051 section 6.3.6)."""
        parts = name.split(self._separator)
        return any(self._separator.join(parts[:depth]) in self for depth in range(1, len(parts)))

    def add(self, name: str) -> None:
        insort(self._names, name)

    def discard(self, name: str) -> None:
        """Once."""
        at = bisect_left(self._names, name)
        if at < len(self._names) and self._names[at] == name:
            del self._names[at]

    def _below(self, name: str) -> tuple[int, int]:
        prefix = name + self._separator
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return bisect_left(self._names, prefix), bisect_left(self._names, after)
