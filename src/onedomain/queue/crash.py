"""Named moments at which a test may kill the process, so that every gap between two promises is hit on purpose.

Knows the names and how to die. Does not know why anybody would want to.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Protocol

VARIABLE = "ONEDOMAIN_CRASH_AT"

AFTER_WRITE = "after-write"                            # in the page cache, not on the disk, no 250
AFTER_SYNC = "after-sync"                              # on the disk, no 250
AFTER_250 = "after-250"                                # the edge's: the client knows, dispatch doesn't
AFTER_ATTEMPT = "after-attempt"                        # the attempt is on record, the final dot not sent
AFTER_FAR_250 = "after-far-250-before-record"          # the server has it, we have not noted it
AFTER_RECORD = "after-record"                          # noted, perhaps not on the disk
AFTER_BOUNCE = "after-bounce-before-record"            # the bounce is on the disk, the failure is not noted
IN_COMPACTION = "in-compaction"                        # copied, the old segment still there
IN_ADOPTION = "in-adoption"                            # copied, the dead worker's log still there
IN_SETTING_ASIDE = "in-setting-aside"                  # copied out of the log by the safety net, still there, too
AFTER_RESCUE = "after-rescue-before-record"            # the new primary has it, we have not noted it

POINTS = frozenset({
    AFTER_WRITE, AFTER_SYNC, AFTER_250, AFTER_ATTEMPT, AFTER_FAR_250, AFTER_RECORD, AFTER_BOUNCE, IN_COMPACTION,
    IN_ADOPTION, IN_SETTING_ASIDE, AFTER_RESCUE,
})


class CrashPoints(Protocol):
    def reach(self, point: str) -> None:
        """Called when the moment has come. Returns, except in tests."""
        ...


class NoCrash:
    def reach(self, point: str) -> None:
        pass


class CrashAt:
    """SIGKILL at the nth time the point is reached."""

    def __init__(self, point: str, count: int = 1) -> None:
        if point not in POINTS:
            raise ValueError(f"{point!r} is no crash point: {', '.join(sorted(POINTS))}")
        self._point = point
        self._count = count

    def reach(self, point: str) -> None:
        if point == self._point:
            self._count -= 1
            if self._count == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def crash_points(environment: Mapping[str, str]) -> CrashPoints:
    """ONEDOMAIN_CRASH_AT=<point>[:<nth time>], or nothing. Raises ValueError."""
    text = environment.get(VARIABLE, "")
    if not text:
        return NoCrash()
    point, _, count = text.partition(":")
    return CrashAt(point, int(count or 1))
