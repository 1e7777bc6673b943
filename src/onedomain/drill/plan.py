"""What is done to whom, and when: acts in the order of their times, from a seed.

Pure. Knows that what was taken away is given back, that two servers which hold each other's copies are never away at
once, and that there is time to become whole in between. Does not know how anything is done.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Way(Enum):
    KILL = "kill"    # SIGKILL for the whole tree
    STOP = "stop"    # SIGSTOP: connections stay open and nothing answers
    CUT = "cut"      # packets are dropped, as with a pulled cable

    @property
    def patience(self) -> float:
        """Seconds until log-ins have to be answered again."""
        return 3.0 if self is Way.KILL else 8.0


@dataclass(frozen=True, slots=True)
class Act:
    """`at` and `until` in seconds from the beginning: taken away, and given back. `edge`: it is one, not a server."""

    at: float
    way: Way
    name: str
    until: float
    edge: bool = False


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: before the first act, how long something is away, to become whole again, and after the last act."""

    warm: float = 5.0
    away: float = 8.0
    calm: float = 12.0
    rest: float = 10.0


def plan(
    seed: int,
    duration: float,
    servers: Sequence[str],
    edges: Sequence[str],
    ways: Sequence[Way],
    times: Times = Times(),
) -> list[Act]:
    """As many acts as the duration has room for, every way and every server as evenly as can be.

    Each third act is an edge's, or, from the sixth on, a server and an edge at the same moment; at most one edge of
    several is ever away.
    """
    dice = random.Random(seed)
    acts: list[Act] = []
    at = times.warm
    number = 0
    queue: list[tuple[Way, str]] = []
    while at + times.away + times.rest <= duration:
        number += 1
        if not queue:
            queue = [(way, name) for way in ways for name in servers]
            dice.shuffle(queue)
        edge = dice.choice(sorted(edges)) if len(edges) > 1 and number % 3 == 0 else ""
        if edge:
            acts.append(Act(at, Way.KILL, edge, at + times.away / 2, edge=True))
        if not edge or number % 6 == 0:
            way, name = queue.pop()
            acts.append(Act(at, way, name, at + times.away))
        at += times.away + times.calm
    return acts


def moments(acts: Sequence[Act]) -> list[tuple[float, bool, Act]]:
    """(when, whether it is taken away, act), in order."""
    both = [(act.at, True, act) for act in acts] + [(act.until, False, act) for act in acts]
    return sorted(both, key=lambda one: (one[0], one[1], one[2].name))
