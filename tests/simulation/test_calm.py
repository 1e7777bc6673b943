"""Where a link says that nothing has to be done: what a whole pass would have done."""

from __future__ import annotations

import random

import pytest

from onedomain.decision.link import sweep as module
from onedomain.decision.link.actions import ListFolders, Look, Save, Whole
from onedomain.decision.link.calm import calm
from onedomain.decision.link.order import Order
from onedomain.decision.link.sweep import sweep

from .seeds import PAIRS, seeds
from .server import Server
from .world import World

STEPS = 12


def would_do(world: World) -> list[object]:
    """What a pass does beside looking, were it not for `calm`."""
    state, found, answer = world.disk.state, [], None
    plan = sweep(state, world.source.traits.powers, world.target.traits.powers, Order(world.now))
    while True:
        try:
            action = plan.send(answer)
        except StopIteration:
            return found
        if isinstance(action, Look | ListFolders):
            answer = world.driver.perform(action)
            continue
        if not isinstance(action, Whole) and action != Save(state):
            found.append(action)
            plan.close()
            return found
        answer = None


def tamper(dice: random.Random, world: World) -> None:
    """Somebody does something at the source, or at the replica, where nobody should."""
    if dice.random() < 0.7:
        world.act(world.source)
        return
    target: Server = world.target
    name = dice.choice(sorted(target.boxes))
    match dice.randrange(5):
        case 0:
            target.append(name, b"Message-ID: <odd>\r\n\r\nodd", frozenset(), 5)
        case 1:
            target.expunge(name, tuple(target.boxes[name].messages)[:1])
        case 2:
            target.subscribe(name, name not in target.subscriptions)
        case 3 if name != "INBOX":
            target.delete(name)
        case 4 if name != "INBOX":
            target.rename(name, f"{name}-elsewhere")


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_nothing_has_to_be_done_where_it_says_so(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = 0
    for seed in seeds(6):
        world = World(seed, source, target)
        dice = random.Random(seed)
        for _ in range(8):
            world.act(world.source)
        for _ in range(STEPS):
            world.quiet()
            while True:
                nothing = calm(world.disk.state, world.source.listing(), world.target.listing())
                with monkeypatch.context() as patch:
                    patch.setattr(module, "calm", lambda *_: False)
                    done = would_do(world)
                assert not (nothing and done), f"{world.label}: {done}"
                said += nothing
                if not nothing or dice.random() < 0.5:
                    break
                tamper(dice, world)
            tamper(dice, world)
    # Where nothing tells changes, everything is compared.
    assert bool(said) == world.source.traits.powers.changes, f"{source} -> {target}"


@pytest.mark.parametrize(("source", "target"), [("node", "node"), ("dovecot", "cyrus"), ("node", "plain")])
@pytest.mark.parametrize("how", ["before", "within", "after"])
def test_a_pass_that_was_cut_off_leaves_nothing_that_is_owed_for_ever(source: str, target: str, how: str) -> None:
    """Or each look at the account would go through all of its folders from then on."""
    step, reached = 0, True
    while reached:
        step += 1
        world = World(0, source, target, pace=0.0)
        world.source.create("Lists")
        for number in range(1, 7):
            world.source.append("INBOX", f"Message-ID: <{number}>\r\n\r\n{number}".encode(), frozenset(), number)
        world.quiet()
        world.expunge(world.source, "INBOX", (3,))
        world.copy(world.source, "INBOX", 4, "Lists", move=True)
        end = world.steps + step
        world.crash_at = lambda now, action, end=end: how if now == end else ""  # type: ignore[misc]
        reached = world.sweep() is None
        world.crash_at = None
        reports = [world.sweep() for _ in range(2)]
        assert all(report is not None and report.whole for report in reports), step
        assert calm(world.disk.state, world.source.listing(), world.target.listing()), (step, world.disk.state)
