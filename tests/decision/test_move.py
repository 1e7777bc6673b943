"""What a move does next, as a table; and every order of events leads to an end."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from onedomain.decision.move import ChangeReplicas, Compare, Progress, Stand, Step, Switch, cancelled, next_step
from onedomain.model.account import Home
from onedomain.model.move import Move, Stage

MOVE = Move("hanako@example.com", "old", "new")
DROP = Move("hanako@example.com", "old", "new", keep=False)
SAME = replace(DROP, differ=0)
OTHER = replace(DROP, differ=3)
GONE = replace(DROP, cause="drop", stage=Stage.FINISHING)
FORCED = replace(DROP, force=True)
WHOLE = Progress(whole=True)
ASTRAY = Stand(Stage.FAILED, "it lives at new, and old stays as a replica: links go to third, so nobody compares it")
UP = ("old", "new", "third")


@pytest.mark.parametrize(
    ("move", "home", "link", "returned", "usable", "step"),
    [
        (MOVE, None, None, False, UP, Stand(Stage.FAILED, "the account is gone")),
        (MOVE, Home("old"), None, False, UP, ChangeReplicas(("new",))),
        (MOVE, Home("old", ("third",)), WHOLE, False, UP, ChangeReplicas(("new", "third"))),
        (MOVE, Home("old", ("third", "new")), WHOLE, False, UP, ChangeReplicas(("new", "third"))),
        (MOVE, Home("old", ("new",)), None, False, UP, Stand(Stage.COPYING, "the link has not begun")),
        (MOVE, Home("old", ("new",)), Progress(False, behind=7), False, UP, Stand(Stage.COPYING, "7 messages to go")),
        (MOVE, Home("old", ("new",)), Progress(True, "brake"), False, UP, Stand(Stage.COPYING, "brake")),
        (MOVE, Home("old", ("new",)), WHOLE, False, UP, Switch()),
        (MOVE, Home("old", ("new",)), WHOLE, False, ("new",), Stand(Stage.COPYING, "old is not usable")),
        (MOVE, Home("old", ("new",)), WHOLE, False, ("old",), Stand(Stage.COPYING, "new is not usable")),
        (MOVE, Home("third", ("new",)), WHOLE, False, UP, Stand(Stage.FAILED, "its home has become third meanwhile")),
        (MOVE, Home("old", ("new",), pending=True), WHOLE, False, UP,
         Stand(Stage.COPYING, "old is just becoming the primary")),
        (MOVE, Home("new", ("old",), pending=True), None, False, UP, Stand(Stage.SWITCHING)),
        (MOVE, Home("new", ("old",)), None, False, UP, Stand(Stage.FINISHING, "what came late at old is brought")),
        (MOVE, Home("new", ("old",)), WHOLE, True, UP, Stand(Stage.DONE)),
        (DROP, Home("new", ("old", "third")), WHOLE, True, UP, Compare()),
        (DROP, Home("new", ("old",)), None, True, UP, Stand(Stage.FINISHING, "the link has not begun")),
        (DROP, Home("new", ("old",)), Progress(False, behind=7), True, UP, Stand(Stage.FINISHING, "7 messages to go")),
        (DROP, Home("new", ("old",)), Progress(True, "brake"), True, UP, Stand(Stage.FINISHING, "brake")),
        (DROP, Home("new", ("third", "old")), WHOLE, True, UP, ASTRAY),
        (SAME, Home("new", ("third", "old")), WHOLE, True, UP, ChangeReplicas(("third",))),
        (FORCED, Home("new", ("third", "old")), WHOLE, True, UP, ChangeReplicas(("third",))),
        (SAME, Home("new", ("old", "third")), WHOLE, True, UP, ChangeReplicas(("third",))),
        (SAME, Home("new", ("old",)), None, True, UP, ChangeReplicas(())),
        (OTHER, Home("new", ("old",)), WHOLE, True, UP,
         Stand(Stage.FAILED, "it lives at new, and old stays as the replica: 3 messages differ")),
        (replace(OTHER, force=True), Home("new", ("old",)), WHOLE, True, UP, ChangeReplicas(())),
        (FORCED, Home("new", ("old",)), WHOLE, True, UP, Compare()),
        (GONE, Home("new", ("old",)), None, False, UP, Stand(Stage.FINISHING, "what came late at old is brought")),
        (replace(GONE, force=True), Home("new", ("old", "third")), None, False, UP, ChangeReplicas(("third",))),
        (replace(GONE, force=True), Home("new", ("old",), pending=True), None, False, UP, Stand(Stage.SWITCHING)),
        (replace(GONE, force=True), Home("new", ("old",)), WHOLE, True, UP, Compare()),
        (FORCED, Home("new", ("old",)), Progress(False, behind=7), True, UP,
         Stand(Stage.FINISHING, "7 messages to go")),
        (FORCED, Home("new", ("old",)), Progress(True, "no log-in"), True, UP, ChangeReplicas(())),
        (FORCED, Home("new", ("old",)), Progress(True, "no log-in"), False, UP,
         Stand(Stage.FINISHING, "what came late at old is brought")),
        (DROP, Home("new", ("third",)), None, True, UP, Stand(Stage.DONE)),
    ],
)  # fmt: skip
def test_the_next_step(
    move: Move, home: Home | None, link: Progress | None, returned: bool, usable: tuple[str, ...], step: Step
) -> None:
    assert next_step(move, home, link, returned=returned, usable=usable) == step


@pytest.mark.parametrize(
    ("move", "home", "step"),
    [
        (MOVE, Home("old", ("new",)), Stand(Stage.CANCELLED)),
        (DROP, Home("old", ("new", "third")), ChangeReplicas(("third",))),
        (replace(DROP, before=("new", "third")), Home("old", ("new", "third")), Stand(Stage.CANCELLED)),
        (replace(DROP, before=("third", "new")), Home("old", ("new", "third")), ChangeReplicas(("third", "new"))),
        (replace(MOVE, before=("third",)), Home("old", ("new", "third")), ChangeReplicas(("third",))),
        (replace(MOVE, before=()), Home("old", ("new",)), Stand(Stage.CANCELLED)),
        (replace(DROP, before=()), Home("old", ("new",)), ChangeReplicas(())),
        (replace(DROP, before=("third",)), Home("old", ("new", "other")), ChangeReplicas(("other",))),
        (replace(DROP, before=("third",)), Home("old", ("third",)), Stand(Stage.CANCELLED)),
        (DROP, Home("new", ("old",)), Stand(Stage.CANCELLED)),
        (DROP, None, Stand(Stage.CANCELLED)),
    ],
)
def test_cancelled(move: Move, home: Home | None, step: Step) -> None:
    assert cancelled(move, home) == step


@pytest.mark.parametrize("seed", range(200))
def test_it_ends_at_the_target_whatever_comes_between(seed: int) -> None:
    """A link that stops and goes on, servers that come and go: never two primaries, never back at the old one."""
    dice = random.Random(seed)
    move = dice.choice((MOVE, DROP))
    home = Home("old", dice.choice(((), ("third",), ("third", "new"))))
    whole, returned, switched = False, False, False
    for turn in range(500):
        calm = turn > 100
        usable = UP if calm or dice.random() < 0.7 else tuple(name for name in UP if dice.random() < 0.5)
        link = Progress(whole, "" if calm or dice.random() < 0.8 else "brake") if home.replicas else None
        step = next_step(move, home, link, returned=returned, usable=usable)
        match step:
            case ChangeReplicas(replicas):
                assert home.primary not in replicas and (home.primary == "old" or move.differ == 0)
                home, whole = Home(home.primary, replicas, home.epoch + 1), whole and switched
            case Compare():
                assert whole and returned and not move.keep
                move = replace(move, differ=0)
            case Switch():
                assert whole and not switched and home.replicas[0] == "new"
                home, switched = Home("new", ("old", *home.replicas[1:]), home.epoch + 1, pending=True), True
            case Stand(Stage.DONE):
                break
            case Stand(stage):
                assert stage.open
        whole = whole or dice.random() < 0.3
        if home.pending and dice.random() < 0.5:
            home = Home(home.primary, home.replicas, home.epoch)
        elif switched and dice.random() < 0.3:
            returned = True
    else:
        raise AssertionError(f"seed {seed}: no end: {home} {step}")
    assert home.primary == "new"
    assert ("old" in home.replicas) == move.keep
