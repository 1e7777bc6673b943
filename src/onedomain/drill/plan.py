"""What is done to whom, and when: acts in the order of their times, from a seed.

Pure. Knows that what was taken away is given back, that two servers which hold each other's copies are never away at
once, and that there is time to become whole in between. Does not know how anything is done.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum


class Way(Enum):
    KILL = "kill"    # SIGKILL for the whole tree
    STOP = "stop"    # SIGSTOP: connections stay open and nothing answers
    CUT = "cut"      # packets are dropped, as with a pulled cable
    PART = "part"    # an edge and the directory's database no longer hear each other

    @property
    def patience(self) -> float:
        """Seconds until log-ins have to be answered again."""
        return 3.0 if self is Way.KILL else 8.0


@dataclass(frozen=True, slots=True)
class Act:
    """`at` and `until` in seconds from the beginning: taken away, and given back. `edge`: it is one, not a server.

    `name` "": the server at which most accounts live at that moment. `together`: an edge and a server are taken at the
    same moment, and until the edge's lease has run out nobody may decide without it.
    """

    at: float
    way: Way
    name: str
    until: float
    edge: bool = False
    together: bool = False

    @property
    def patience(self) -> float:
        return max(self.way.patience, Way.STOP.patience if self.together else 0.0)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: before the first act, how long something is away, to become whole again, and after the last act; and
    between a server's return and the end of the one that took over from it.
    """

    warm: float = 5.0
    away: float = 8.0
    calm: float = 20.0
    rest: float = 10.0
    soon: float = 15.0


BRISK = Times(warm=4.0, away=6.0, calm=4.0, rest=5.0, soon=5.0)
SHORT = 60.0
"""Seconds: a drill that is shorter goes by BRISK."""
CYCLE = ("server", "edge", "twice", "server", "both")


def plan(
    seed: int,
    duration: float,
    servers: Mapping[str, Collection[Way]],
    edges: Mapping[str, Collection[Way]],
    ways: Collection[Way] = tuple(Way),
    times: Times | None = None,
) -> list[Act]:
    """As many acts as the duration has room for, every way and every name as evenly as can be.

    In turn: a server; an edge; the server with most accounts, and soon after it is back the one that they went to; a
    server; a server and an edge at the same moment. An edge is taken only if there are several, and one at a time.
    """
    times = times or (BRISK if duration < SHORT else Times())
    dice = random.Random(seed)
    of_servers = _draws(dice, servers, ways)
    of_edges = _draws(dice, edges if len(edges) > 1 else {}, ways)
    acts: list[Act] = []
    at = times.warm
    number = 0
    while at + times.away + times.rest <= duration:
        turn = CYCLE[number % len(CYCLE)]
        number += 1
        end = at + times.away
        edge = next(of_edges, None) if turn in ("edge", "both") else None
        if edge is not None:
            acts.append(Act(at, *edge, end, edge=True, together=turn == "both"))
        if edge is None or turn == "both":
            back = at + times.away * 2 / 3
            twice = turn == "twice" and Way.KILL in ways and back + times.soon + times.away + times.rest <= duration
            if twice:  # killed: it is known soon enough that it is not coming back at once
                end = back + times.soon + times.away
                acts += [Act(at, Way.KILL, "", back), Act(back + times.soon, Way.KILL, "", end)]
            else:
                acts.append(Act(at, *next(of_servers), end, together=edge is not None))
        at = end + times.calm
    return acts


def _draws(
    dice: random.Random, names: Mapping[str, Collection[Way]], ways: Collection[Way]
) -> Iterator[tuple[Way, str]]:
    """Every way and name once before any comes again, and no name twice running if it can be helped: after the first
    time nobody may live there.
    """
    every = [(way, name) for way in ways for name in sorted(names) if way in names[name]]
    last = ""
    while every:
        left = list(every)
        dice.shuffle(left)
        while left:
            chosen = next((one for one in left if one[1] != last), left[0])
            left.remove(chosen)
            last = chosen[1]
            yield chosen


def moments(acts: Collection[Act]) -> list[tuple[float, bool, Act]]:
    """(when, whether it is taken away, act), in order."""
    both = [(act.at, True, act) for act in acts] + [(act.until, False, act) for act in acts]
    return sorted(both, key=lambda one: (one[0], one[1], one[2].name))
