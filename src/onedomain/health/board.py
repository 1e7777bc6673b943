"""The current verdict and load of every server, fed by probes and by real traffic.

Knows who is told when a verdict changes and when a doubt calls for another probe. Does not know how a verdict is
reached (decision/health) nor how anything is asked (prober). One per machine, in the keeper; workers have a mirror.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from onedomain.decision.health import NEVER, Health, Patience, after, fell_together, overall
from onedomain.health.view import FACES, SNAPSHOT, Change, Facing
from onedomain.model.health import BoardView, Load, Seen, Sighting, Verdict
from onedomain.model.ports import Clock
from onedomain.model.server import Server


@dataclass(slots=True)
class _Line:
    draining: bool
    faces: dict[str, Health] = field(default_factory=lambda: {face: Health() for face in FACES})
    in_flight: dict[str, int] = field(default_factory=dict)  # by worker
    message: dict[str, Any] = field(default_factory=dict)  # the last probe message, by probe account

    def verdict(self, face: str = "") -> Verdict:
        shown = [self.faces[face]] if face else self.faces.values()
        return overall((health.verdict for health in shown), self.draining)

    def seconds(self, face: str = "") -> float:
        return self.faces[face].seconds if face else max(health.seconds for health in self.faces.values())


class Board:
    """Implements model.health.BoardView (the whole server: its worst face) and Watch (real traffic).

    `on_change` is called with every Change, `on_doubt` with (server, face) when another probe should come soon.
    """

    def __init__(self, servers: Iterable[Server], clock: Clock, patience: Patience | None = None) -> None:
        self._clock = clock
        self._patience = patience or Patience()
        self._lines: dict[str, _Line] = {}
        self.on_change: list[Callable[[Change], None]] = []
        self.on_doubt: list[Callable[[str, str], None]] = []
        self.configure(servers)

    def configure(self, servers: Iterable[Server]) -> None:
        """The servers there are now, and which are being drained; what is known of those that stay is kept."""
        lines: dict[str, _Line] = {}
        changes: list[Change] = []
        for server in servers:
            line = lines[server.name] = self._lines.get(server.name) or _Line(server.draining)
            before = line.verdict()
            line.draining = server.draining
            if line.verdict() is not before:
                changes.append(Change(server.name, "", before, line.verdict(), "configured"))
        self._lines = lines
        self._announce(changes)

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(self._lines)

    # ---- what is asked of it

    def verdict(self, server: str, face: str = "") -> Verdict:
        """A server that is not on the board is nobody's to doubt: UP."""
        line = self._lines.get(server)
        return line.verdict(face) if line else Verdict.UP

    def load(self, server: str, face: str = "") -> Load:
        line = self._lines.get(server)
        return Load(line.seconds(face), sum(line.in_flight.values())) if line else Load()

    def facing(self, face: str) -> BoardView:
        """The same for one face: deliveries need not wait because IMAP is down."""
        return Facing(self, face)

    # ---- what it is told

    def saw(self, sighting: Sighting) -> None:
        self._take(sighting, probe=False)

    def probed(self, sighting: Sighting) -> None:
        self._take(sighting, probe=True)

    def message_probed(self, account: str, sighting: Sighting) -> None:
        """The result of a probe message: kept for `status`; its failure accuses as real traffic does."""
        line = self._lines.get(sighting.server)
        if line is None:
            return
        line.message[account] = {
            "seen": sighting.seen.value,
            "seconds": round(sighting.seconds, 6),
            "reason": sighting.reason,
            "at": self._clock.time(),
        }
        if sighting.seen is not Seen.OK:
            self.saw(sighting)

    def take_report(self, worker: str, report: dict[str, Any]) -> None:
        """What a worker's mirror has collected; see Mirror.report."""
        for server, line in self._lines.items():
            line.in_flight[worker] = int(report["in_flight"].get(server, 0))
        for server, face, seen, seconds, reason in report["sightings"]:
            self.saw(Sighting(server, face, Seen(seen), seconds, reason))

    def forget_worker(self, worker: str) -> None:
        for line in self._lines.values():
            line.in_flight.pop(worker, None)

    def snapshot(self, worker: str = "") -> dict[str, Any]:
        """JSON for the workers and for `status`. In flight is what others than `worker` have."""
        now = self._clock.monotonic()
        return {
            "version": SNAPSHOT,
            "servers": {
                name: {
                    "verdict": line.verdict().value,
                    "draining": line.draining,
                    "in_flight": sum(count for owner, count in line.in_flight.items() if owner != worker),
                    "faces": {face: _shown(health, now) for face, health in line.faces.items()},
                    "message": line.message,
                }
                for name, line in self._lines.items()
            },
        }

    def _take(self, sighting: Sighting, *, probe: bool) -> None:
        line = self._lines.get(sighting.server)
        if line is None or sighting.face not in line.faces:
            return
        now = self._clock.monotonic()
        before = {name: line.verdict(name) for name in ("", *FACES)}
        health = after(line.faces[sighting.face], sighting, now, self._patience, probe=probe)
        line.faces[sighting.face] = health
        for one, other in permutations(FACES, 2):
            line.faces[one] = fell_together(line.faces[one], line.faces[other], now, self._patience)
        changes = [
            Change(sighting.server, name, before[name], line.verdict(name), line.faces[name or sighting.face].reason)
            for name in (*FACES, "")
            if line.verdict(name) is not before[name]
        ]
        self._announce(changes)
        if health.doubtful:
            for ask in self.on_doubt:
                ask(sighting.server, sighting.face)

    def _announce(self, changes: list[Change]) -> None:
        for change in changes:
            for tell in self.on_change:
                tell(change)


def _shown(health: Health, now: float) -> dict[str, Any]:
    return {
        "verdict": health.verdict.value,
        "seconds": round(health.seconds, 6),
        "reason": health.reason,
        "age": None if health.since == NEVER else round(now - health.since, 3),
        "heard": None if health.heard == NEVER else round(now - health.heard, 3),
    }
