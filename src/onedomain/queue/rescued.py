"""How many messages the safety net has put onto new primaries, by the servers and by the hour, for people.

Knows numbers and the clock. Does not know messages; those are in the trace.
"""

from __future__ import annotations

from collections import Counter

from onedomain.model.ports import Clock

HOUR = 3600.0
HOURS = 24


class Rescued:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hours: dict[int, Counter[tuple[str, str]]] = {}

    def add(self, before: str, server: str) -> None:
        now = int(self._clock.monotonic() // HOUR)
        self._hours = {hour: counts for hour, counts in self._hours.items() if hour > now - HOURS}
        self._hours.setdefault(now, Counter())[before, server] += 1

    def last_day(self) -> list[tuple[str, str, int]]:
        """(the server that died, where its messages went, how many)."""
        now = int(self._clock.monotonic() // HOUR)
        recent = (counts for hour, counts in self._hours.items() if hour > now - HOURS)
        total: Counter[tuple[str, str]] = sum(recent, Counter())
        return [(before, server, count) for (before, server), count in sorted(total.items())]
