"""A promotion is cut off anywhere, as the new primary dies, and is taken back: the old one goes on, and the link does
from where it was, over a target on which a part of the plan was done. Later that is promoted in earnest, and returns.
"""

from __future__ import annotations

import os

import pytest

from onedomain.decision.link.promote import GAP, promote
from onedomain.model.replica import Numbering

from .driver import Crash
from .seeds import PAIRS, seeds
from .test_failover import Client
from .world import World

COUNT = 60 if os.environ.get("ONEDOMAIN_LONG") else 3


def cut_off(world: World, after: int) -> bool:
    """Whether the whole plan was carried out before the new primary died."""
    world.busy = False
    world.driver.settle()  # the link's connections were timed out before
    end = world.steps + after
    world.crash_at = lambda step, action: "before" if step > end else ""
    allowed = dict.fromkeys(world.source.boxes, 20)
    try:
        world.driver.run(promote(world.disk.state, world.target.traits.powers, allowed, world.shown,
                                 now=world.source.newest, sent=world.driver.sent.by_folder()))
        return True
    except Crash:
        return False
    finally:
        world.busy, world.crash_at = True, None


def story(seed: int, pair: tuple[str, str], after: int) -> bool:
    """Whether its plan came to its end."""
    world = World(seed, *pair, accidents=0.02)
    for _ in range(world.random.randrange(2, 6)):
        world.sweep()
    for _ in range(world.random.randrange(6)):
        world.act(world.source)
    end = world.steps + world.random.randrange(40)
    world.crash_at = lambda step, action: "before" if step >= end else ""
    world.sweep()
    done = cut_off(world, after)
    for _ in range(world.random.randrange(2)):  # or nothing runs before the next death
        world.sweep()
    for _ in range(world.random.randrange(8)):
        world.act(world.source)
    if world.random.random() < 0.7:
        world.quiet()
        world.check_equal()
        world.check_ledger(world.target)
    client = Client(world.source)
    state = world.disk.state
    promotion = world.fail_over()
    if promotion.refused:
        return done
    client.come_back(world.target, promotion, world.label)
    world.check_covered(world.target)
    world.check_ledger(world.target)
    for _ in range(world.random.randrange(8)):
        world.act(world.target)
    world.bring_back(state, promotion)
    world.busy = True
    for _ in range(3):
        world.sweep()
    world.quiet()
    world.check_equal()
    for server in (world.source, world.target):
        world.check_ledger(server)
    if world.target.traits.powers.numbering is not Numbering.BURNED:  # beyond the gap nothing stays
        wide = [run for link in world.disk.state.folders for run in link.runs if abs(run.source - run.target) >= GAP]
        assert not wide, world.label
    return done


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_promotion_is_taken_back_wherever_it_was(pair: tuple[str, str]) -> None:
    """Invariants 1, 2, 4, 6, 7 and 11: nothing that the plan did is taken for a deletion, or for a side put back."""
    cut = 0
    for seed in seeds(COUNT, pair):
        after = 0
        while not story(seed, pair, after):
            cut += after > 0
            after += 1 + after // 3  # a plan that burns has hundreds
    assert cut, "in the middle, and not before the beginning only"
