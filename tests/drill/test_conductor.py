"""What the conductor writes down of who was taken, and of whose people stayed; on a theatre without a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

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
