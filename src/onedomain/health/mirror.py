"""A worker's copy of the board: answers from the last snapshot and from what this worker has in hand itself.

Knows how sightings are gathered so that a thousand deliveries a second make a small report. Does not know how snapshots
and reports travel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from onedomain.health.view import FACES, SNAPSHOT, Change, Facing
from onedomain.model.health import BoardView, Load, Seen, Sighting, Verdict

MAX_FAILURES = 16
"""Kept of one face between two reports; more say nothing more."""


@dataclass(slots=True)
class _Copy:
    verdict: Verdict = Verdict.UP
    draining: bool = False
    others: int = 0  # in flight elsewhere
    verdicts: dict[str, Verdict] = field(default_factory=lambda: dict.fromkeys(FACES, Verdict.UP))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FACES, 0.0))
    reasons: dict[str, str] = field(default_factory=lambda: dict.fromkeys(FACES, ""))


@dataclass(slots=True)
class _Gathered:
    """Answers since the last report as one average, failures one by one, in the order that matters: which came last."""

    answers: int = 0
    seconds: float = 0.0
    failures: list[Sighting] = field(default_factory=list)


class Mirror:
    """Implements model.health.BoardView and Watch.

    `in_flight(server)` counts this worker's own work. `urgent()` asks for a report at once: something failed.
    """

    def __init__(self, in_flight: Callable[[str], int], urgent: Callable[[], None]) -> None:
        self._in_flight = in_flight
        self._urgent = urgent
        self._copies: dict[str, _Copy] = {}
        self._gathered: dict[tuple[str, str], _Gathered] = {}
        self.on_change: list[Callable[[Change], None]] = []

    def verdict(self, server: str, face: str = "") -> Verdict:
        copy = self._copies.get(server)
        if copy is None:
            return Verdict.UP
        verdict = copy.verdicts[face] if face else copy.verdict
        return Verdict.DRAINING if copy.draining and verdict.usable else verdict

    def load(self, server: str, face: str = "") -> Load:
        copy = self._copies.get(server)
        if copy is None:
            return Load()
        seconds = copy.seconds[face] if face else max(copy.seconds.values())
        return Load(seconds, copy.others + self._in_flight(server))

    def facing(self, face: str) -> BoardView:
        return Facing(self, face)

    def saw(self, sighting: Sighting) -> None:
        gathered = self._gathered.get((sighting.server, sighting.face))
        if gathered is None:
            gathered = self._gathered[sighting.server, sighting.face] = _Gathered()
        if sighting.seen is Seen.OK:
            gathered.answers += 1
            gathered.seconds += sighting.seconds
            # An answer ends what failed before it: the board must not hear of the two in the wrong order.
            gathered.failures.clear()
            return
        if len(gathered.failures) < MAX_FAILURES:
            gathered.failures.append(sighting)
        self._urgent()

    def report(self) -> dict[str, Any]:
        """JSON for Board.take_report; what was gathered is forgotten here."""
        gathered, self._gathered = self._gathered, {}
        sightings: list[list[Any]] = []
        for (server, face), seen in gathered.items():
            if seen.answers:
                sightings.append([server, face, Seen.OK.value, seen.seconds / seen.answers, ""])
            sightings += [[server, face, s.seen.value, s.seconds, s.reason] for s in seen.failures]
        return {"in_flight": {server: self._in_flight(server) for server in self._copies}, "sightings": sightings}

    def apply(self, snapshot: dict[str, Any]) -> None:
        """Take over what the board says. Raises ValueError for a snapshot of another version."""
        if snapshot["version"] != SNAPSHOT:
            raise ValueError(f"board snapshot of version {snapshot['version']}, {SNAPSHOT} is known here")
        before = self._copies
        self._copies = {name: _copy(entry) for name, entry in snapshot["servers"].items()}
        for name, copy in self._copies.items():
            old = before.get(name) or _Copy()
            for face in ("", *FACES):
                was = old.verdicts[face] if face else old.verdict
                now = copy.verdicts[face] if face else copy.verdict
                if was is not now:
                    self._announce(Change(name, face, was, now, copy.reasons.get(face, "")))

    def _announce(self, change: Change) -> None:
        for tell in self.on_change:
            tell(change)


def _copy(entry: dict[str, Any]) -> _Copy:
    faces = {face: entry["faces"][face] for face in FACES}
    return _Copy(
        Verdict(entry["verdict"]),
        bool(entry["draining"]),
        int(entry["in_flight"]),
        {face: Verdict(shown["verdict"]) for face, shown in faces.items()},
        {face: float(shown["seconds"]) for face, shown in faces.items()},
        {face: str(shown["reason"]) for face, shown in faces.items()},
    )
