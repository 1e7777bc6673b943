"""The line of messages for one server, and how fast it may move.

While the server fails nothing is sent but one try after each growing pause; when that one gets through, everything
goes. Ids only are kept here, so that a server may be down with a million messages waiting.

Knows who is next and how many at once. Does not know how anything is sent, nor what time it is.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from onedomain.decision.retry import Pauses


class Job(NamedTuple):
    """Something to do for a message at this server: deliver it, or (`doubt`) look up whether it is there."""

    id: str
    doubt: bool


class Wait(NamedTuple):
    """`parked`: the server failed, so its return ends the wait, too."""

    seconds: float
    parked: bool


AFTER_DEFECT = Wait(60.0, parked=False)
NOT_READY = Wait(1.0, parked=False)



class Lane:
    """`server` is its name; times are monotonic seconds."""

    def __init__(self, server: str, pauses: Pauses) -> None:
        self.server = server
        self.active = 0
        self.failures = 0
        self.paused_until = 0.0
        self._pauses = pauses
        self._ready: deque[Job] = deque()
        self._queued: set[Job] = set()
        self._doubts: set[Job] = set()        # of those that wait, for their turn or for a moment
        self._waiting: dict[Job, float] = {}  # until when
        self._parked: set[Job] = set()        # of those, who wait because the server failed
        self._tries: dict[Job, int] = {}

    def __len__(self) -> int:
        """Jobs that wait, whether for their turn or for a moment."""
        return len(self._queued) + len(self._waiting)

    def add(self, job: Job) -> None:
        """At the end of the line, unless it is there or waits for its moment."""
        if job not in self._queued and job not in self._waiting:
            self._queued.add(job)
            self._ready.append(job)
            if job.doubt:
                self._doubts.add(job)

    def next(self, now: float, limit: int) -> Job | None:
        """Whose turn it is, or None: nobody's, the server pauses, or as many as may are under way."""
        if now < self.paused_until or self.active >= (1 if self.failures else limit):
            return None
        while self._ready:
            job = self._ready.popleft()
            if job in self._queued:
                self._queued.discard(job)
                self._doubts.discard(job)
                return job
        return None

    @property
    def doubts(self) -> int:
        """Messages in doubt here."""
        return len(self._doubts)

    @property
    def has_ready(self) -> bool:
        return bool(self._queued)

    # -- waiting

    def defer(self, job: Job, until: float, *, parked: bool) -> None:
        """Not before `until`; `parked`: or when the server is back."""
        self._queued.discard(job)
        self._waiting[job] = until
        if job.doubt:
            self._doubts.add(job)
        if parked:
            self._parked.add(job)

    def due(self, job: Job, until: float) -> bool:
        """The moment has come: True if the job was still waiting for it, and is ready now."""
        if self._waiting.get(job) != until:
            return False
        self._wake(job)
        return True

    def wake(self, job: Job) -> None:
        """Now, whatever it waits for."""
        if job in self._waiting:
            self._wake(job)
        else:
            self.add(job)

    def _wake(self, job: Job) -> None:
        del self._waiting[job]
        self._parked.discard(job)
        self.add(job)

    def until(self, job: Job) -> float | None:
        """The moment a job waits for, None if it doesn't."""
        return self._waiting.get(job)

    def forget(self, job: Job) -> None:
        """It is over."""
        self._queued.discard(job)
        self._waiting.pop(job, None)
        self._doubts.discard(job)
        self._parked.discard(job)
        self._tries.pop(job, None)

    def tried(self, job: Job) -> int:
        """How often in a row it has failed, this time included."""
        tries = self._tries.get(job, 0) + 1
        self._tries[job] = tries
        return tries

    # -- the server

    def failed(self, now: float, chance: float) -> bool:
        """The server failed: begins a pause, or not if one has just begun (many fail at once, it is one failure)."""
        if now < self.paused_until:
            return False
        self.failures += 1
        self.paused_until = now + self._pauses.after(self.failures, chance)
        return True

    def worked(self) -> None:
        """It is there. After a real outage what waited for it goes at once; after a single failure, which may have been
        one message's fault, that message keeps its own pause.
        """
        was_down = self.failures > 1
        self.failures = 0
        self.paused_until = 0.0
        if was_down:
            self._unpark()

    def kick(self) -> None:
        """Somebody has seen it work: no more pauses."""
        self.failures = 0
        self.paused_until = 0.0
        self._unpark()

    def _unpark(self) -> None:
        for job in list(self._parked):
            self._wake(job)
