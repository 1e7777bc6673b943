"""Moves in the database: one at a time per account, and never one that is overtaken."""

from __future__ import annotations

from dataclasses import replace

from onedomain.app.real import RealClock
from onedomain.directory.moves import Moves
from onedomain.directory.repository import Repository
from onedomain.model.account import Home
from onedomain.model.move import Count, Entry, Move, Report, Stage
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


async def test_a_report_is_of_one_move(database: Database, repository: Repository) -> None:
    moves = Moves(database, RealClock())
    async with repository.writing() as writer:
        await writer.add_account(replace(account("a@example.com"), home=Home("s1", ("s0",))))
    wanted = Move("a@example.com", "s1", "s2", keep=False, force=True)
    (move,) = await moves.begin([wanted])
    assert move.force and move.differ is None and await moves.report("a@example.com") is None
    entries = (Entry("INBOX", 0, 7, "only there"), Entry("旅行", 3, 4, "other bytes", "x"))
    kept = Report(5.5, 2, (Count("same", 9), Count("only there", 1), Count("other bytes", 1)), 2, entries)
    await moves.keep_report(move, kept)
    (found,) = await moves.open()
    assert (found.differ, found.force) == (2, True)
    assert await moves.report("a@example.com") == kept
    await moves.stand(found, Stage.FAILED, "")

    (again,) = await moves.begin([replace(wanted, force=False)])
    (found,) = await moves.open()
    assert found == again and found.differ is None and not found.force, "what was said of another move is not for it"
    assert await moves.report("a@example.com") == kept, "until there is another"
    await moves.keep_report(again, replace(kept, differ=0, entries=()))
    (found,) = await moves.all(["a@example.com"])
    assert found.differ == 0
    await moves.stand(found, Stage.FINISHING, "")
    assert (await moves.open())[0].differ == 0
    await moves.stand(found, Stage.COPYING, "its new server died, and the old one was the home again")
    assert (await moves.open())[0].differ is None, "what is copied anew is compared anew"
    await moves.keep_report(again, replace(kept, differ=0, entries=()))
    await moves.forget("a@example.com")
    assert await moves.report("a@example.com") is None


async def test_what_begins_with_its_end(database: Database, repository: Repository) -> None:
    """A copy that is to be dropped: the home is the target already."""
    moves = Moves(database, RealClock())
    async with repository.writing() as writer:
        await writer.add_account(replace(account("a@example.com"), home=Home("s1", ("s0",))))
    drop = Move("a@example.com", "s0", "s1", keep=False, stage=Stage.FINISHING)
    assert not await moves.begin([replace(drop, source="s2")]), "no replica of it"
    assert not await moves.begin([replace(drop, target="s2")]), "not its home"
    assert len(await moves.begin([drop])) == 1
