"""Moves in the database: one at a time per account, and never one that is overtaken."""

from __future__ import annotations

from dataclasses import replace

from onedomain.app.real import RealClock
from onedomain.directory.moves import Moves
from onedomain.directory.repository import Repository
from onedomain.model.account import Home
from onedomain.model.move import Move, Stage
from onedomain.store.sql import Database
from tests.directory.views import account


async def test_one_at_a_time(database: Database, repository: Repository) -> None:
    moves = Moves(database, RealClock())
    async with repository.writing() as writer:
        for name in ("a", "b", "c"):
            await writer.add_account(replace(account(f"{name}@example.com"), home=Home("s1")))
    wanted = [Move(f"{name}@example.com", "s1", "s2") for name in ("a", "b", "gone")]
    began = await moves.begin([*wanted, Move("c@example.com", "s9", "s2")])
    assert [move.account for move in began] == ["a@example.com", "b@example.com"], "not who is gone or elsewhere"
    assert await moves.begin(wanted) == [], "on their way already"
    assert [move.account for move in await moves.open()] == ["a@example.com", "b@example.com"]

    ended = await moves.stand(began[0], Stage.DONE, "")
    assert ended.ended > 0
    assert [move.account for move in await moves.open()] == ["b@example.com"]
    assert [move.stage for move in await moves.all(["a@example.com"])] == [Stage.DONE]
    assert len(await moves.begin(wanted)) == 1, "it may go again"
    await moves.stand(began[0], Stage.FAILED, "of the move before")
    assert {move.stage for move in await moves.open()} == {Stage.COPYING}, "an older move says nothing of this one"


async def test_who_cancels_has_the_last_word(database: Database, repository: Repository) -> None:
    moves = Moves(database, RealClock())
    async with repository.writing() as writer:
        await writer.add_account(replace(account("a@example.com"), home=Home("s1")))
    (move,) = await moves.begin([Move("a@example.com", "s1", "s2", keep=False, cause="drain")])
    await moves.stand(move, Stage.CANCELLED, "")
    await moves.stand(move, Stage.SWITCHING, "too late")
    (found,) = await moves.all()
    assert (found.stage, found.keep, found.cause) == (Stage.CANCELLED, False, "drain")
    await moves.forget("a@example.com")
    assert await moves.all() == []
