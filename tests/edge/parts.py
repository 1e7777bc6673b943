"""Small stand-ins for what an edge is given."""

from __future__ import annotations

import threading
import time
from typing import Any

from onedomain.model.account import Account
from onedomain.model.health import Load, Verdict


class StoppedClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1.7e9


class RealClock:
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


class CountingNonce:
    def __init__(self) -> None:
        self._count = 0

    def token(self, size: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(size, "big")

    def random(self) -> float:
        return 0.5


class FakePasswords:
    """A hash is "{X}" and the password."""

    def __init__(self) -> None:
        self.checked = 0
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def verify(self, hash: str, password: str) -> bool:
        with self._lock:
            self.checked += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(0.002)
        with self._lock:
            self._now -= 1
        return hash == "{X}" + password


class Notes:
    """Trace and Changes."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.changes: list[tuple[str, str, str]] = []

    def note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def changed(self, account: str, what: str, folder: str = "", deliveries: tuple[str, ...] = ()) -> int:
        self.changes.append((account, what, folder))
        return 0

    async def covered(self, account: str, ticket: int, seconds: float) -> bool:
        return True

    def named(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


class Board:
    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {}

    def verdict(self, server: str) -> Verdict:
        return self.verdicts.get(server, Verdict.UP)

    def load(self, server: str) -> Load:
        return Load()


class Lease:
    """A Gate: this edge has one, or not."""

    def __init__(self) -> None:
        self.held = True

    def may_write(self, account: Account) -> bool:
        return self.held
