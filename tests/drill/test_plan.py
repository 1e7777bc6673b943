"""Acts of a drill: nothing is away that its copy may need, and what is taken is given back."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from onedomain.drill.plan import Act, Times, Way, moments, plan

WAYS = (Way.KILL, Way.STOP, Way.CUT)
SERVERS, EDGES = dict.fromkeys(("s1", "s2"), WAYS), {"e1": (Way.KILL, Way.PART), "e2": (Way.KILL, Way.PART)}


@pytest.mark.parametrize("seed", range(20))
def test_one_server_and_one_edge_at_a_time(seed: int) -> None:
    times = Times()
    acts = plan(seed, 600, SERVERS, EDGES, tuple(Way), times)
    assert len(acts) >= 22
    away: set[Act] = set()
    for when, taken, act in moments(acts):
        assert when <= 600 - times.rest
        assert taken != (act in away), "taken once, given back once"
        away ^= {act}
        assert sum(one.edge for one in away) <= 1 and sum(not one.edge for one in away) <= 1
    assert not away
    named = [act for act in acts if act.name and not act.edge]
    ways = Counter((act.way, act.name) for act in named)
    assert max(ways.values()) - min(ways.values()) <= 1 and len(ways) == len(WAYS) * len(SERVERS)
    assert {act.way for act in acts if act.edge} == {Way.KILL, Way.PART}
    assert [one.name for one in named[:2]] in (["s1", "s2"], ["s2", "s1"]), "where somebody lives"
    together = [one for one in acts if sum(one.at == other.at for other in acts) == 2]
    assert together and all(one.together and one.patience == 8 for one in together), "the edge's is judged by both, too"
    assert not any(one.together for one in acts if one not in together)
    twice = [(act, after) for act, after in pairwise(acts) if not act.name and not after.name]
    assert len(twice) >= 3 and sum(not act.name for act in acts) == 2 * len(twice)
    for act, after in twice:
        assert after.at - act.until == times.soon, "the second soon after the first"
        assert {(one.way, one.patience, one.edge) for one in (act, after)} == {(Way.KILL, 3, False)}


def test_an_edge_alone_is_left_alone() -> None:
    assert not any(act.edge for act in plan(1, 600, SERVERS, {"e1": (Way.KILL,)}))


def test_only_what_is_asked_for_and_can_be_done() -> None:
    acts = plan(1, 600, SERVERS, EDGES, (Way.STOP,))
    assert {act.way for act in acts if act.name} == {Way.STOP} and not any(act.edge for act in acts)


def test_it_replays() -> None:
    assert plan(7, 300, SERVERS, EDGES) == plan(7, 300, SERVERS, EDGES)
    assert plan(7, 300, SERVERS, EDGES) != plan(8, 300, SERVERS, EDGES)
