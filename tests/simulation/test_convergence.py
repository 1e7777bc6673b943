"""Links under a busy account and a failing network, from many seeds. A failing seed names itself: run it again with
`ONEDOMAIN_SEED=<seed>`; `ONEDOMAIN_SEEDS=<n>` runs n of them for each pair.
"""

from __future__ import annotations

import pytest

from .seeds import PAIRS, seeds
from .world import World


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_replicator_killed_at_any_point_converges(source: str, target: str) -> None:
    """Invariants 2, 6 and 7."""
    for seed in seeds(25, (source, target)):
        world = World(seed, source, target, accidents=0.05)
        for _ in range(12):
            world.sweep(audit=world.random.random() < 0.2)
        world.quiet()
        world.check_equal()
        world.check_ledger(world.source)
        world.check_ledger(world.target)
        assert not world.net, world.label


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_what_there_is_no_room_for_is_deleted_later(source: str, target: str) -> None:
    """Where the disk of the edge that runs the links is full; nothing is deleted that is not kept there."""
    for seed in seeds(5, (source, target)):
        world = World(seed, source, target, accidents=0.02, crowded=0.7)
        for _ in range(12):
            world.sweep(audit=world.random.random() < 0.2)
        world.quiet()
        world.check_equal()
        world.check_ledger(world.source)
        world.check_ledger(world.target)
        assert not world.net, world.label


def test_a_folder_that_went_before_the_return_goes_when_there_is_room() -> None:
    """Deleted at the new primary while the old one was away."""
    world = World(0, "node", "node", pace=0.0)
    world.source.create("Lists")
    world.source.append("Lists", b"Message-ID: <1>\r\n\r\none", frozenset(), 1)
    world.quiet()
    state, promotion = world.disk.state, world.fail_over()
    assert not promotion.refused
    world.delete(world.target, "Lists")
    world.bring_back(state, promotion)
    world.crowded = 1.0
    reports = [world.sweep() for _ in range(3)]
    assert all(report is not None and report.whole for report in reports) and "Lists" in world.target.boxes
    world.quiet()
    assert "Lists" not in world.target.boxes, "or people would see it again after the next failover"
    world.check_equal()
