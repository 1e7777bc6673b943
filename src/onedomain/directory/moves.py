"""Moves in the directory's database: any edge's command line writes them, the holder of the links carries them out.

Knows that an account has one move at a time, and one report, of its last one. Does not know what a move does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, Select, delete, select, update

from onedomain.directory.links import BATCH
from onedomain.directory.repository import Repository
from onedomain.directory.spelling import read, spelt
from onedomain.model.account import Home
from onedomain.model.move import Move, Report, Stage
from onedomain.model.ports import Clock
from onedomain.store import schema
from onedomain.store.sql import Database

OPEN = tuple(stage.value for stage in Stage if stage.open)
BEFORE = (Stage.COPYING, Stage.SWITCHING)


class Moves:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._repository = Repository(database, clock)
        self._clock = clock

    async def begin(self, moves: Iterable[Move]) -> list[Move]:
        """All at once; those that were written. An account that is on its way already, or whose home is not `source`
        any more, is left out. Of those that begin with FINISHING the home has to be `target`, with `source` a replica.
        """
        wanted = {move.account: move for move in moves}
        now = self._clock.time()
        async with self._repository.writing() as writer:
            homes = {account.address: account.home for account in await writer.accounts(wanted)}
            columns = schema.move.c
            busy = set(await writer.connection.scalars(select(columns.account).where(columns.stage.in_(OPEN))))
            good = [replace(move, at=now, before=homes[key].replicas) for key, move in sorted(wanted.items())
                    if key not in busy and key in homes and _begins(move, homes[key])]
            for start in range(0, len(good), BATCH):
                rows = [_row(move) for move in good[start : start + BATCH]]
                await writer.connection.execute(self._database.upsert(schema.move), rows)
        return good

    async def open(self) -> list[Move]:
        """In the order in which they were begun."""
        return await self._read(_all().where(schema.move.c.stage.in_(OPEN)))

    async def all(self, accounts: Sequence[str] = (), since: float = 0.0) -> list[Move]:
        """Those of some accounts, or of all; open ones, and those that ended at or after `since`."""
        columns = schema.move.c
        query = _all().where(columns.stage.in_(OPEN) | (columns.ended >= since))
        return await self._read(query.where(columns.account.in_(accounts)) if accounts else query)

    async def stand(self, move: Move, stage: Stage, why: str) -> Move:
        """Where it has got to. Only if nobody has cancelled or replaced it since. Before the switch there is no
        report: if its new server died when all was but done, the old copy has been the home, and is compared again.
        """
        ended = 0.0 if stage.open else self._clock.time()
        columns = schema.move.c
        statement = update(schema.move).where(
            columns.account == move.account, columns.at == move.at, columns.stage.in_(OPEN))
        async with self._database.writing() as connection:
            await connection.execute(statement.values(stage=stage.value, why=why, ended=ended))
            if stage in BEFORE:
                kept = schema.move_report.c
                stale = delete(schema.move_report).where(kept.account == move.account, kept.at == move.at)
                await connection.execute(stale)
        return replace(move, stage=stage, why=why, ended=ended)

    async def keep_report(self, move: Move, report: Report) -> None:
        """Instead of that of an earlier move."""
        row = {"account": move.account, "at": move.at, "differ": report.differ, "report": spelt(report)}
        async with self._database.writing() as connection:
            await connection.execute(self._database.upsert(schema.move_report), [row])

    async def report(self, account: str) -> Report | None:
        """Of its last move that had one."""
        columns = schema.move_report.c
        async with self._database.reading() as connection:
            found = await connection.scalar(select(columns.report).where(columns.account == account))
            return read(Report, found) if found is not None else None

    async def forget(self, account: str) -> None:
        async with self._database.writing() as connection:
            for table in (schema.move, schema.move_report):
                await connection.execute(delete(table).where(table.c.account == account))

    async def _read(self, query: Select[Any]) -> list[Move]:
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(schema.move.c.at, schema.move.c.account))
            return [_move(row) for row in rows]


def _begins(move: Move, home: Home) -> bool:
    if move.stage is Stage.FINISHING:
        return home.primary == move.target and move.source in home.replicas
    return home.primary == move.source


def _all() -> Select[Any]:
    """With what each one's own report says, not that of an earlier move."""
    move, report = schema.move, schema.move_report
    both = move.outerjoin(report, (report.c.account == move.c.account) & (report.c.at == move.c.at))
    return select(move, report.c.differ).select_from(both)


def _row(move: Move) -> dict[str, Any]:
    return {"account": move.account, "source": move.source, "target": move.target, "keep": move.keep,
            "cause": move.cause, "stage": move.stage.value, "why": move.why, "at": move.at, "ended": move.ended,
            "forced": move.at if move.force else 0.0,
            "before": "" if move.before is None else json.dumps([move.at, move.before])}


def _move(row: Row[Any]) -> Move:
    return Move(row.account, row.source, row.target, bool(row.keep), row.cause, Stage(row.stage), row.why,
                float(row.at), float(row.ended), bool(row.forced) and row.forced == row.at, row.differ,
                _before(row))


def _before(row: Row[Any]) -> tuple[str, ...] | None:
    at, replicas = json.loads(row.before) if row.before else (None, ())
    return tuple(replicas) if at == row.at else None
