"""Up to when what was answered is known to be on the replica, account by account: asked of the links all the time, so
that the last word before a death is there when nobody can be asked any more.

Knows how old each answer is. Does not know how links are asked (theatre), nor what follows (judge).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

EVERY = 0.5

Ages = Callable[[], Mapping[str, float]]
"""By account: what was answered more than so many seconds ago is on the replica. Without those of whom nobody knows."""


class Coverage:
    """`ages` may take its time, but has to return."""

    def __init__(self, ages: Ages) -> None:
        self._ages = ages
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> dict[str, float]:
        """By account, in seconds since 1970. Does not go back: what was on the replica then, was."""
        asked = time.time()  # before the question, as an answer that is slow has grown old on its way
        ages = self._ages()
        with self._lock:
            for account, age in ages.items():
                self._until[account] = max(self._until.get(account, 0.0), asked - age)
        return self.known()

    def known(self) -> dict[str, float]:
        """As it was at the last look."""
        with self._lock:
            return dict(self._until)

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            self.look()
