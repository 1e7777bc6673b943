"""What safety nets have rescued, by the servers, of the last day only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from onedomain.model.ports import Clock
from onedomain.queue.rescued import HOUR, HOURS, Rescued


@dataclass
class Watch:
    now: float = 5 * HOUR

    def monotonic(self) -> float:
        return self.now


def test_of_the_last_day() -> None:
    watch = Watch()
    rescued = Rescued(cast(Clock, watch))
    assert rescued.last_day() == []
    for server in ("b", "b", "c"):
        rescued.add("a", server)
    watch.now += (HOURS - 1) * HOUR
    rescued.add("a", "b")
    assert rescued.last_day() == [("a", "b", 3), ("a", "c", 1)]
    watch.now += HOUR
    assert rescued.last_day() == [("a", "b", 1)]
    rescued.add("b", "a")
    assert len(rescued._hours) == 2, "what is over is forgotten"
