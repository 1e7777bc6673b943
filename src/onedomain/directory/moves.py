"""Moves in the directory's database: any edge's command line writes them, the holder of the links carries them out.

Knows that an account has one move at a time. Does not know what a move does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, Select, delete, select, update

from onedomain.directory.links import BATCH
from onedomain.directory.repository import Repository
from onedomain.model.move import Move, Stage
from onedomain.model.ports import Clock
from onedomain.store import schema
from onedomain.store.sql import Database

OPEN = tuple(stage.value for stage in Stage if stage.open)


class Moves:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._repository = Repository(database, clock)
        self._clock = clock

    async def begin(self, moves: Iterable[Move]) -> list[Move]:
        """All at once; those that were written. An account that is on its way already, or whose home is not `source`
        any more, is left out.
        """
        wanted = {move.account: move for move in moves}
        now = self._clock.time()
        async with self._repository.writing() as writer:
            homes = {account.address: account.home for account in await writer.accounts(wanted)}
            columns = schema.move.c
            busy = set(await writer.connection.scalars(select(columns.account).where(columns.stage.in_(OPEN))))
            good = [replace(move, at=now) for key, move in sorted(wanted.items())
                    if key not in busy and key in homes and homes[key].primary == move.source]
            for start in range(0, len(good), BATCH):
                rows = [_row(move) for move in good[start : start + BATCH]]
                await writer.connection.execute(self._database.upsert(schema.move), rows)
        return good

    async def open(self) -> list[Move]:
        """In the order in which they were begun."""
        return await self._read(select(schema.move).where(schema.move.c.stage.in_(OPEN)))

    async def all(self, accounts: Sequence[str] = (), since: float = 0.0) -> list[Move]:
        """Those of some accounts, or of all; open ones, and those that ended at or after `since`."""
        columns = schema.move.c
        query = select(schema.move).where(columns.stage.in_(OPEN) | (columns.ended >= since))
        return await self._read(query.where(columns.account.in_(accounts)) if accounts else query)

    async def stand(self, move: Move, stage: Stage, why: str) -> Move:
        """Where it has got to. Only if nobody has cancelled or replaced it since."""
        ended = 0.0 if stage.open else self._clock.time()
        columns = schema.move.c
        statement = update(schema.move).where(
            columns.account == move.account, columns.at == move.at, columns.stage.in_(OPEN))
        async with self._database.writing() as connection:
            await connection.execute(statement.values(stage=stage.value, why=why, ended=ended))
        return replace(move, stage=stage, why=why, ended=ended)

    async def forget(self, account: str) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(schema.move).where(schema.move.c.account == account))

    async def _read(self, query: Select[Any]) -> list[Move]:
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(schema.move.c.at, schema.move.c.account))
            return [_move(row) for row in rows]


def _row(move: Move) -> dict[str, Any]:
    return {"account": move.account, "source": move.source, "target": move.target, "keep": move.keep,
            "cause": move.cause, "stage": move.stage.value, "why": move.why, "at": move.at, "ended": move.ended}


def _move(row: Row[Any]) -> Move:
    return Move(row.account, row.source, row.target, bool(row.keep), row.cause, Stage(row.stage), row.why,
                float(row.at), float(row.ended))
