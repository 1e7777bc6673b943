"""Leases in the directory's database: who runs the links, and which edges may still write.

Knows one clock, the database's. Each change is one statement, so two edges cannot both succeed. Does not know what a
lease allows (decision/link/succession).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from onedomain.store import schema
from onedomain.store.sql import AWAY, Database

CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EdgeLease:
    """`left`: seconds that its lease still runs, negative where it has run out. `seq`: what all of it goes by."""

    edge: str
    left: float
    seq: int


@dataclass(frozen=True, slots=True)
class Grant:
    """`granted` False: the edge does not go by `barrier` yet. `others`: the edges with a lease now, this one too."""

    granted: bool
    seq: int
    barrier: int
    others: tuple[EdgeLease, ...] = ()


class Leases:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, holder: str, seconds: float) -> int:
        """Its token, or 0: somebody else has it. Who is its holder already gets a new token: the process that had the
        old one may be alive, and must not be able to renew it.
        """
        lease, now = schema.lease, self._database.now
        make: Any = postgresql.insert if self._database.is_postgres else sqlite.insert
        statement = make(lease).values(name=name, holder=holder, until=now + seconds, token=1)
        statement = statement.on_conflict_do_update(
            index_elements=[lease.c.name],
            set_={"holder": holder, "until": now + seconds, "token": lease.c.token + 1},
            where=or_(lease.c.holder == holder, lease.c.until <= now),
        ).returning(lease.c.token)
        mine = select(lease.c.token).where(lease.c.name == name, or_(lease.c.holder == holder, lease.c.until <= now))
        async with self._database.writing() as connection:
            # What has been begun under the old token (`holds`) ends first; another's lease that runs is left alone.
            await connection.execute(mine.with_for_update())
            return int((await connection.execute(statement)).scalar() or 0)

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        """False: it has another token by now, or ran out; not to be gone by any more."""
        lease, now = schema.lease.c, self._database.now
        statement = update(schema.lease).where(lease.name == name, lease.token == token, lease.until > now)
        async with self._database.writing() as connection:
            return bool((await connection.execute(statement.values(until=now + seconds))).rowcount)

    async def give_up(self, name: str, token: int) -> None:
        """Others need not wait for its end."""
        lease = schema.lease.c
        async with self._database.writing() as connection:
            statement = update(schema.lease).where(lease.name == name, lease.token == token)
            await connection.execute(statement.values(until=0.0))

    async def holder(self, name: str) -> str:
        """Who has it now, or ""."""
        lease = schema.lease.c
        async with self._database.reading() as connection:
            query = select(lease.holder).where(lease.name == name, lease.until > self._database.now)
            return str((await connection.execute(query)).scalar() or "")

    async def renew_edge(self, edge: str, seq: int, seconds: float) -> Grant:
        """`seq`: what everything of this edge goes by. An edge that stays behind a promotion is granted nothing more,
        so that nobody waits for it longer than a lease. The edge's row must be there already (Repository.put_edge).
        """
        columns, now, meta = schema.edge.c, self._database.now, schema.meta.c
        barrier = select(meta.number).where(meta.name == "barrier").scalar_subquery()
        last = select(meta.number).where(meta.name == "seq").scalar_subquery()
        statement = (
            update(schema.edge)
            .where(columns.name == edge)
            .values(seq=seq, lease_until=case((barrier <= seq, now + seconds), else_=columns.lease_until))
            .returning(barrier <= seq, barrier, last)
        )
        async with self._database.writing() as connection:
            row = (await connection.execute(statement)).first()
            others = await _edges(self._database, connection)
        if row is None:
            return Grant(False, 0, 0, others)
        return Grant(bool(row[0]), int(row[2]), int(row[1]), others)

    async def edges(self) -> tuple[EdgeLease, ...]:
        """All that were ever granted one."""
        async with self._database.reading() as connection:
            return await _edges(self._database, connection)


class StandingLeases:
    """`renew_edge` over a connection that is kept, and made again after it failed."""

    def __init__(self, open_database: Callable[[], Awaitable[Database]]) -> None:
        self._open = open_database
        self._database: Database | None = None

    async def renew_edge(self, edge: str, seq: int, seconds: float) -> Grant:
        """Raises AWAY, DatabaseError."""
        if self._database is None:
            self._database = await self._open()
        try:
            return await Leases(self._database).renew_edge(edge, seq, seconds)
        except BaseException:
            broken, self._database = self._database, None
            # It may hang in a network that drops packets; nobody waits for its farewell.
            with suppress(*AWAY):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await broken.close()
            raise


async def _edges(database: Database, connection: Any) -> tuple[EdgeLease, ...]:
    columns = schema.edge.c
    query = select(columns.name, columns.lease_until - database.now, columns.seq).where(columns.lease_until > 0)
    rows = await connection.execute(query.order_by(columns.name))
    return tuple(EdgeLease(name, float(left), int(seq)) for name, left, seq in rows)
