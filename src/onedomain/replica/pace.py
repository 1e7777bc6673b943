"""Whose turn it is: queues that are fair between accounts, bounds per server, pauses after failures.

Knows names, kinds of passes and a clock's readings. Does not know what a pass does, nor that there is a loop.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from onedomain.replica.linked import Linked


class Kind(Enum):
    """Why a pass is due. An event's goes before a sweep's; a first copy has a bound of its own."""

    EVENT = "event"
    SWEEP = "sweep"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Passes at once that use one server. Sweeps may have half of them, first copies a quarter, at least one."""

    passes: int = 16

    def of(self, kind: Kind) -> int:
        share = {Kind.EVENT: 1, Kind.SWEEP: 2, Kind.FIRST: 4}[kind]
        return max(1, self.passes // share)


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds: the first pause, doubled up to the longest; each is varied by half of it to both sides."""

    first: float = 0.05
    longest: float = 60.0

    def after(self, failures: int, dice: float) -> float:
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30)) * (0.5 + dice)


SERVER_PAUSES = Pauses(0.2, 30.0)
DOUBT_AFTER = 3
"""Failures in a row at a server, of whatever accounts, before it is left alone for a while."""


@dataclass(slots=True)
class _Server:
    running: Counter[Kind] = field(default_factory=Counter)
    failures: int = 0
    reason: str = ""
    until: float = 0.0  # monotonic: nothing begins before, and then one pass alone
    trying: bool = False


class Pace:
    """`usable(server)`: what the board says."""

    def __init__(self, bounds: Bounds, usable: Callable[[str], bool], dice: Callable[[], float]) -> None:
        self._bounds = bounds
        self._usable = usable
        self._dice = dice
        self._servers: dict[str, _Server] = {}
        self._queues: OrderedDict[tuple[str, str, Kind], deque[Linked]] = OrderedDict()

    # -- the queues

    def add(self, linked: Linked, kind: Kind) -> None:
        """At the end of its queue; nothing where it waits for as good a reason already."""
        if linked.queued == kind.value or (linked.queued and kind is Kind.SWEEP):
            return
        linked.queued = kind.value
        self._queues.setdefault((linked.source, linked.target, kind), deque()).append(linked)

    def remove(self, linked: Linked) -> None:
        linked.queued = ""  # what is left in a queue is passed over

    @property
    def waiting(self) -> int:
        return sum(each.queued == kind.value for (_, _, kind), queue in self._queues.items() for each in queue)

    def next(self, now: float) -> tuple[Linked, Kind] | None:
        """Whose pass may begin now; its places are taken. Pairs of servers take turns."""
        for kind in Kind:
            for key in [key for key in self._queues if key[2] is kind]:
                source, target, _ = key
                if not self._may(source, target, kind, now):
                    continue
                queue = self._queues[key]
                linked = self._first(queue, key)
                if not queue:
                    del self._queues[key]
                else:
                    self._queues.move_to_end(key)
                if linked is not None:
                    linked.queued = ""
                    self._take(source, target, kind, now)
                    return linked, kind
        return None

    @staticmethod
    def _first(queue: deque[Linked], key: tuple[str, str, Kind]) -> Linked | None:
        while queue:
            linked = queue.popleft()
            home = linked.account.home
            if linked.queued == key[2].value and home.replicas and (linked.source, linked.target) == key[:2]:
                return linked
        return None

    def wanted(self, source: str, target: str, kind: Kind) -> bool:
        """Whether somebody waits for the place of such a pass."""
        names = {source, target}
        full = any(self._at(name).running.total() >= self._bounds.passes for name in names)
        return any(
            (full or why is kind) and names & {one, other} and any(each.queued == why.value for each in queue)
            for (one, other, why), queue in self._queues.items()
        )

    def wake_at(self, now: float) -> float | None:
        """When a pause ends that keeps somebody waiting."""
        pauses = [self._at(name).until for key in self._queues for name in key[:2] if self._at(name).until > now]
        return min(pauses, default=None)

    # -- bounds

    def _may(self, source: str, target: str, kind: Kind, now: float) -> bool:
        for name in (source, target):
            server = self._at(name)
            if not self._usable(name) or now < server.until:
                return False
            if server.failures >= DOUBT_AFTER and server.trying:
                return False
            if server.running[kind] >= self._bounds.of(kind) or server.running.total() >= self._bounds.passes:
                return False
        return True

    def _take(self, source: str, target: str, kind: Kind, now: float) -> None:
        for name in (source, target):
            server = self._at(name)
            server.running[kind] += 1
            server.trying = server.failures >= DOUBT_AFTER

    def give(self, source: str, target: str, kind: Kind) -> None:
        for name in (source, target):
            server = self._at(name)
            server.running[kind] -= 1
            server.trying = False

    def running(self, name: str) -> int:
        return self._at(name).running.total()

    def _at(self, name: str) -> _Server:
        return self._servers.setdefault(name, _Server())

    # -- how it went

    def succeeded(self, *names: str) -> None:
        for name in names:
            server = self._at(name)
            server.failures, server.until = 0, 0.0

    def failed(self, name: str, now: float, reason: str, *, surely: bool) -> None:
        """`surely`: it was the server, not the account: no connection came to be."""
        server = self._at(name)
        server.reason = reason
        server.failures += 1
        if surely and server.failures < DOUBT_AFTER:
            server.failures = DOUBT_AFTER
        if server.failures >= DOUBT_AFTER:
            server.until = now + SERVER_PAUSES.after(server.failures - DOUBT_AFTER + 1, self._dice())

    def trouble(self, name: str) -> str:
        """Why no pass that uses this server can be expected to succeed, or ""."""
        if not self._usable(name):
            return f"{name} is down"
        server = self._at(name)
        return f"{name}: {server.reason or 'fails'}" if server.failures >= DOUBT_AFTER else ""

    def kick(self, name: str) -> None:
        """The board says that it is up again: it is tried at once."""
        self._at(name).until = 0.0
