"""Counters and gauges of one process, and their sum over processes.

Knows names, labels and numbers. Does not know Prometheus: the page is made in app/ from `dump`.
"""

from __future__ import annotations

from collections.abc import Iterable

Key = tuple[str, tuple[tuple[str, str], ...]]
Dump = list[tuple[str, dict[str, str], float, bool]]

MAX_SERIES = 5000  # labels come from configuration and verdicts, never from peers; this holds a mistake


class Counters:
    """Implements model.ports.Count."""

    def __init__(self) -> None:
        self._values: dict[Key, float] = {}
        self._gauges: set[str] = set()

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        key = (name, tuple(labels.items()) if len(labels) < 2 else tuple(sorted(labels.items())))
        if key in self._values:
            self._values[key] += amount
        elif len(self._values) < MAX_SERIES:
            self._values[key] = amount

    def set(self, name: str, value: float, **labels: str) -> None:
        self._gauges.add(name)
        key = (name, tuple(sorted(labels.items())))
        if key in self._values or len(self._values) < MAX_SERIES:
            self._values[key] = value

    def forget(self, names: Iterable[str]) -> None:
        """Gauges of what may be no more, before they are set again."""
        gone = frozenset(names)
        self._values = {key: value for key, value in self._values.items() if key[0] not in gone}

    def dump(self) -> Dump:
        """[name, labels, value, is a gauge]: JSON-ready, for the keeper."""
        return [(name, dict(labels), value, name in self._gauges) for (name, labels), value in self._values.items()]


def total(dumps: Iterable[Dump]) -> Dump:
    """The processes' numbers added up; gauges too, which is right for those that count things."""
    values: dict[Key, float] = {}
    gauges: set[str] = set()
    for dump in dumps:
        for name, labels, value, gauge in dump:
            key = (name, tuple(sorted(labels.items())))
            values[key] = values.get(key, 0) + value
            if gauge:
                gauges.add(name)
    return [(name, dict(labels), value, name in gauges) for (name, labels), value in sorted(values.items())]
