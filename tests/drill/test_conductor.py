"""What the conductor writes down of who was taken, and of whose people stayed; on a theatre without a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from onedomain.drill import conductor as conducting
from onedomain.drill.conductor import Conductor, Load
from onedomain.drill.coverage import Coverage
from onedomain.drill.plan import Act, Way
from onedomain.drill.theatre import Theatre


class Part:
    def take(self, way: Way) -> None:
        pass

    give = take


@dataclass
class Stage:
    """As much of a Theatre as acts need."""

    where: dict[str, str]
    servers: Mapping[str, Part] = field(default_factory=lambda: {"s1": Part(), "s2": Part()})
    edges: Mapping[str, Part] = field(default_factory=lambda: {"e1": Part()})

    def homes(self) -> dict[str, str]:
        return dict(self.where)


@pytest.mark.parametrize("edge_first", [True, False])
def test_who_follows_is_asked_at_the_next_moment_and_not_at_the_same(tmp_path: Path, edge_first: bool) -> None:
    stage = Stage({"moves": "s1", "stays": "s1", "other": "s2"})
    conductor = Conductor(cast(Theatre, stage), [], Load(1.0, duration=1.0, seed=1), tmp_path)
    conductor._coverage = Coverage(lambda: {"moves": 0.1, "stays": 0.1})
    server = Act(5.0, Way.KILL, "s1", 9.0, together=True)
    edge = Act(5.0, Way.KILL, "e1", 9.0, edge=True, together=True)
    for act in (edge, server) if edge_first else (server, edge):
        conductor._act(act, away=True)
    (death,) = conductor._deaths
    assert death.accounts == {"moves", "stays"} and not death.stayed, "nobody can have followed yet"
    stage.where["moves"] = "s2"
    conductor._act(server, away=False)
    conductor._act(Act(30.0, Way.KILL, "s2", 40.0), away=True)
    assert conductor._deaths[0].accounts == {"moves"} and conductor._deaths[0].stayed == {"stays"}
    assert conductor._deaths[1].accounts == {"moves", "other"}


class Time:
    """Of which nothing passes but what somebody takes."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("asking", "starting"), [(0.0, 0.0), (3.5, 0.0), (0.0, 6.0), (3.5, 6.0)])
def test_on_a_busy_machine_all_is_away_as_long_as_it_was_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asking: float, starting: float
) -> None:
    """Or it is back before anybody gives it up, and the same server is the one with most accounts again."""
    clock = Time()
    monkeypatch.setattr(conducting, "time", clock)
    taken: dict[str, list[float]] = {"s1": [], "s2": [], "e1": []}

    class Slow:
        def __init__(self, name: str) -> None:
            self.name = name

        def take(self, way: Way) -> None:
            taken[self.name].append(clock.now)

        def give(self, way: Way) -> None:
            clock.sleep(starting)
            taken[self.name].append(clock.now)

    class Busy(Stage):
        def homes(self) -> dict[str, str]:
            clock.sleep(asking)
            return dict(self.where)

    stage = Busy({"one": "s1", "other": "s2"}, {"s1": Slow("s1"), "s2": Slow("s2")}, {"e1": Slow("e1")})
    acts = [Act(4.0, Way.KILL, "e1", 8.0, edge=True), Act(12.0, Way.KILL, "s1", 16.0), Act(21.0, Way.KILL, "s2", 27.0)]
    conductor = Conductor(cast(Theatre, stage), acts, Load(1.0, duration=1.0, seed=1), tmp_path)
    conductor._coverage = Coverage(lambda: {"one": 0.1, "other": 0.1})
    conductor._began = clock.now
    conductor._perform()
    for act in acts:
        begun, over = taken[act.name]
        assert over - begun >= act.until - act.at
    assert taken["s1"][0] - taken["e1"][1] >= 4.0 and taken["s2"][0] - taken["s1"][1] >= 5.0, "time to become whole"
    if not asking and not starting:
        assert [taken[name][0] - 1000.0 for name in ("e1", "s1", "s2")] == [4.0, 12.0, 21.0]
