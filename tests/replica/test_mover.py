"""Moves as they are carried out: bounded, one thing after the other, going on after whatever went wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from onedomain.decision.move import Progress
from onedomain.model.account import Home
from onedomain.model.failure import Failed, again
from onedomain.model.move import Move, Report, Stage
from onedomain.replica import dropping as dropping_module
from onedomain.replica.comparison import Line, Verdict
from onedomain.replica.dropping import Dropping
from onedomain.replica.mover import Bounds, Mover


@dataclass
class World:
    """A directory, links that become whole after a while, and a failover that carries out what was committed."""

    dice: random.Random
    homes: dict[str, Home] = field(default_factory=dict)
    moves: dict[str, Move] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    notes: list[dict[str, Any]] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)
    reports: dict[str, Report] = field(default_factory=dict)
    away: float = 0.0
    most: int = 0

    def _answer(self) -> None:
        if self.dice.random() < self.away:
            raise Failed(again(451, "4.3.0", "away"))

    async def open(self) -> Sequence[Move]:
        self._answer()
        return [replace(move, differ=self.reports[move.account].differ if move.account in self.reports else None)
                for move in self.moves.values() if move.stage.open]

    async def stand(self, move: Move, stage: Stage, why: str) -> Move:
        self._answer()
        now = self.moves[move.account] = replace(self.moves[move.account], stage=stage, why=why)
        return now

    async def change_replicas(self, account: str, home: Home, replicas: tuple[str, ...]) -> None:
        self._answer()
        if self.homes[account] == home:
            self.homes[account] = replace(home, replicas=replicas, epoch=home.epoch + 1)
            self.whole.discard(account)

    async def switch(self, move: Move) -> bool:
        self._answer()
        home = self.homes[move.account]
        assert move.account in self.whole and home.replicas[0] == move.target
        if self.dice.random() < 0.2:
            return False
        self.homes[move.account] = Home(move.target, (home.primary, *home.replicas[1:]), home.epoch + 1, pending=True)
        self.whole.discard(move.account)
        self._answer()  # committed, and the answer is lost
        return True

    async def compare(self, account: str, folders: Collection[str]) -> AsyncGenerator[Line, None]:
        self._answer()
        assert self.homes[account].primary == "new" and self.homes[account].replicas == ("old",)
        yield Line("INBOX", 1, 1, Verdict.SAME)

    async def keep_report(self, move: Move, report: Report) -> None:
        self._answer()
        self.reports[move.account] = report

    def link(self, account: str) -> Progress | None:
        home = self.homes[account]
        trouble = "no log-in" if account in self.stopped else ""
        return None if home.pending or not home.replicas else Progress(account in self.whole and not trouble, trouble)

    def usable(self) -> Collection[str]:
        return ("old", "new", "third")

    def note(self, event: str, **fields: Any) -> None:
        self.notes.append({"event": event, **fields})

    def turn(self) -> None:
        """What links and the failover have come to meanwhile."""
        for account, home in self.homes.items():
            if home.pending and self.dice.random() < 0.4:
                self.homes[account] = replace(home, pending=False)
            elif home.replicas and self.dice.random() < 0.3:
                self.whole.add(account)
        on_the_way = [account for account, home in self.homes.items() if home.primary == "old" and home.replicas]
        self.most = max(self.most, len(on_the_way))


def world(seed: int, count: int, *, keep: bool = True) -> World:
    made = World(random.Random(seed))
    for number in range(count):
        account = f"a{number}@example.com"
        made.homes[account] = Home("old")
        made.moves[account] = Move(account, "old", "new", keep)
    return made


def mover(made: World, bounds: Bounds | None = None) -> Mover:
    dropping = Dropping(made.compare, made.keep_report, lambda: 0.0, made)
    return Mover(made, made.homes.get, made.link, made.usable, dropping, made, bounds)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("seed", range(20))
async def test_all_arrive_however_often_the_database_is_away(
    seed: int, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropping_module, "AFTER_FAILURE", 0.0)
    made = world(seed, 30, keep=keep)
    made.away = 0.05
    moving = mover(made, Bounds(copying=8, switching=2))
    for _ in range(3000):
        try:
            if not await moving.look():
                break
        except Failed:
            pass  # as run() does: looked at again
        made.turn()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert keep or made.reports.keys() == made.homes.keys()
    assert {move.stage for move in made.moves.values()} == {Stage.DONE}
    assert all(home.primary == "new" and home.replicas == (("old",) if keep else ()) for home in made.homes.values())
    assert made.most <= 8
    done = [note["account"] for note in made.notes if note.get("stage") == "done"]
    assert sorted(done) == sorted(made.homes), "told once each"


async def test_who_waits_for_a_turn_is_told_so() -> None:
    made = world(1, 3)
    await mover(made, Bounds(copying=1)).look()
    assert [move.why for move in made.moves.values()] == ["", "waiting for its turn", "waiting for its turn"]


async def test_those_that_stand_still_hold_up_nobody() -> None:
    """Though not so many that a server in trouble gets all at once."""
    made = world(1, 40)
    made.stopped = {f"a{number}@example.com" for number in range(12)}
    moving = mover(made, Bounds(copying=4, switching=2, stuck=10))
    for _ in range(400):
        await moving.look()
        made.turn()
    open_now = {move.account for move in made.moves.values() if move.stage is not Stage.DONE}
    assert open_now == made.stopped and made.most <= 14
    more = world(2, 40)
    more.stopped = set(more.homes)
    for _ in range(50):
        await mover(more, Bounds(copying=4, stuck=10)).look()
        more.turn()
    assert sum(bool(home.replicas) for home in more.homes.values()) == 14
