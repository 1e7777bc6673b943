"""Which targets of which messages somebody is busy with: nobody else may touch them.

Knows indexes. Does not know what is done with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from onedomain.queue.entry import Entry


class InFlight:
    def __init__(self) -> None:
        self._taken: dict[str, set[int]] = {}

    def of(self, id: str) -> Set[int]:
        return self._taken.get(id, frozenset())

    def claim(self, entry: Entry, indexes: Iterable[int]) -> tuple[int, ...]:
        """Those that nobody is busy with; they are the caller's until `release`, also if there are none."""
        taken = self._taken.setdefault(entry.id, set())
        mine = tuple(index for index in indexes if index not in taken)
        taken.update(mine)
        return mine

    def release(self, entry: Entry, mine: tuple[int, ...]) -> None:
        """Whatever other claims of the message there are, or were."""
        if (taken := self._taken.get(entry.id)) is not None:
            taken.difference_update(mine)
            if not taken:
                del self._taken[entry.id]

    def __contains__(self, id: str) -> bool:
        return id in self._taken
