"""Acts of a drill: nothing is away that its copy may need, and what is taken is given back."""

from __future__ import annotations

from collections import Counter

import pytest

from onedomain.drill.plan import Times, Way, moments, plan

SERVERS, EDGES, WAYS = ("s1", "s2"), ("e1", "e2"), tuple(Way)


@pytest.mark.parametrize("seed", range(20))
def test_one_server_and_one_edge_at_a_time(seed: int) -> None:
    times = Times()
    acts = plan(seed, 600, SERVERS, EDGES, WAYS, times)
    assert len(acts) >= 25
    away: set[str] = set()
    for when, taken, act in moments(acts):
        assert when <= 600 - times.rest
        assert taken != (act.name in away), "taken once, given back once"
        away ^= {act.name}
        assert len(away & set(SERVERS)) <= 1 and len(away & set(EDGES)) <= 1
    assert not away
    ways = Counter((act.way, act.name) for act in acts if not act.edge)
    assert max(ways.values()) - min(ways.values()) <= 1 and len(ways) == len(WAYS) * len(SERVERS)
    assert any(act.edge for act in acts)
    together = [one for one in acts for other in acts if one.at == other.at and one.edge and not other.edge]
    assert together, "an edge and a server at the same moment"


def test_an_edge_alone_is_left_alone() -> None:
    assert not any(act.edge for act in plan(1, 600, SERVERS, ("e1",), WAYS))


def test_it_replays() -> None:
    assert plan(7, 300, SERVERS, EDGES, WAYS) == plan(7, 300, SERVERS, EDGES, WAYS)
    assert plan(7, 300, SERVERS, EDGES, WAYS) != plan(8, 300, SERVERS, EDGES, WAYS)
