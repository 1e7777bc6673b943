"""The directory in its database: what is asked of it, and every change with its line in the change log.

Knows which changes are allowed where rows meet: one address has one owner, an epoch only grows. Does not know SQL
dialects (store/sql), columns (rows), nor what a row may contain (rules).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from onedomain.directory.delta import Delta
from onedomain.directory.rows import account_of, account_row, alias_of, alias_row
from onedomain.model.account import Account, Alias, Home
from onedomain.model.ports import Clock
from onedomain.store import schema
from onedomain.store.sql import Database

BATCH = 500
"""Keys per statement: SQLite takes 32,766 parameters, PostgreSQL as many, and plans are made for less."""

KEEP_CHANGES = 200_000
"""Lines of the change log. Who is further behind reads the directory anew, which takes seconds."""


class Conflict(Exception):
    """The change does not fit what is there; `key` is the address, `reason` one of exists, missing, taken."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


GONE_AFTER = 7 * 86400.0
"""An edge that has not said for a week that it is there is none any more."""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge as the others know it: where it is dialled, its certificate (PEM), when it last said so (seconds), and
    what of its file has to be the same at all of them (decision/agreement).
    """

    name: str
    address: str
    certificate: str
    seen: float
    settings: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """Which database this is, its last change, and the oldest change that its log still has."""

    id: str
    seq: int
    oldest: int


class Repository:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @asynccontextmanager
    async def writing(self, *, patient: bool = False) -> AsyncIterator[Writer]:
        """All changes of the block in one transaction, or none. Writers take turns: the log is in commit order.

        `patient` as in Database.
        """
        async with self._database.writing(patient=patient) as connection:
            seq = schema.meta.c.number
            row = update(schema.meta).where(schema.meta.c.name == "seq").values(number=seq + 0).returning(seq)
            writer = Writer(self._database, connection, int((await connection.execute(row)).scalar_one()))
            yield writer
            await writer.log(self._clock.time())

    async def account(self, key: str) -> Account | None:
        async with self._database.reading() as connection:
            return await _one_account(connection, key)

    async def alias(self, key: str) -> Alias | None:
        async with self._database.reading() as connection:
            return await _one_alias(connection, key)

    async def accounts(self, *, unit: str = "", server: str = "", matching: str = "") -> list[Account]:
        """In the order of their addresses; `matching` is a part of the address."""
        query = select(schema.account).order_by(schema.account.c.address)
        if unit:
            query = query.where(schema.account.c.unit == unit)
        if server:
            query = query.where(schema.account.c.primary_server == server)
        if matching:
            query = query.where(schema.account.c.address.contains(matching.lower(), autoescape=True))
        async with self._database.reading() as connection:
            return [account_of(row) for row in await connection.execute(query)]

    async def aliases(self, *, matching: str = "") -> list[Alias]:
        query = select(schema.alias).order_by(schema.alias.c.address)
        if matching:
            query = query.where(schema.alias.c.address.contains(matching.lower(), autoescape=True))
        async with self._database.reading() as connection:
            return [alias_of(row) for row in await connection.execute(query)]

    async def aliases_to(self, address: str) -> list[Alias]:
        """Those that name the address itself as a target."""
        columns = schema.alias.c
        quoted = json.dumps(address, ensure_ascii=False)
        query = select(schema.alias).where(columns.targets.contains(quoted, autoescape=True)).order_by(columns.address)
        async with self._database.reading() as connection:
            return [alias_of(row) for row in await connection.execute(query)]

    async def count(self) -> dict[tuple[str, str], int]:
        """(unit, primary server) -> accounts."""
        columns = schema.account.c.unit, schema.account.c.primary_server
        async with self._database.reading() as connection:
            rows = await connection.execute(select(*columns, func.count()).group_by(*columns))
            return {(unit, server): int(number) for unit, server, number in rows}

    async def draining(self) -> tuple[str, ...]:
        async with self._database.reading() as connection:
            return await _draining(connection)

    async def edges(self) -> list[Edge]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(schema.edge).order_by(schema.edge.c.name))
            return [Edge(row.name, row.address, row.certificate, row.seen, row.settings) for row in rows]

    async def put_edge(self, edge: Edge) -> None:
        """An edge says that it is there. No change of the directory: nobody is told."""
        async with self._database.writing() as connection:
            row = {"name": edge.name, "address": edge.address, "certificate": edge.certificate, "seen": edge.seen,
                   "settings": edge.settings}
            columns = ("address", "certificate", "seen", "settings")
            await connection.execute(self._database.upsert(schema.edge, columns), row)

    async def version(self) -> Version:
        async with self._database.reading() as connection:
            return await _version(connection)

    async def whole(self, rows: int = 1000) -> AsyncIterator[Delta]:
        """The directory as a run of deltas (see Delta), never all in memory at once."""
        async with self._database.reading() as connection:
            seq = (await _version(connection)).seq
            yield Delta(seq, whole=True, more=True)
            async with connection.stream(select(schema.account)) as accounts:
                async for part in accounts.partitions(rows):
                    yield Delta(seq, accounts=tuple(map(account_of, part)), whole=True, more=True)
            async with connection.stream(select(schema.alias)) as aliases:
                async for part_ in aliases.partitions(rows):
                    yield Delta(seq, aliases=tuple(map(alias_of, part_)), whole=True, more=True)
            gone = tuple((row.address, row.epoch) for row in await connection.execute(select(schema.departed)))
            yield Delta(seq, draining=await _draining(connection), epochs=gone, whole=True)

    async def changes(self, after: int, rows: int = BATCH) -> Delta | None:
        """The rows that the next `rows` changes after `after` touched, as these are now; None if none came."""
        log = schema.change.c
        query = select(log.seq, log.kind, log.key).where(log.seq > after).order_by(log.seq).limit(rows)
        async with self._database.reading() as connection:
            lines = (await connection.execute(query)).all()
            if not lines:
                return None
            keys: dict[str, set[str]] = {"account": set(), "alias": set(), "server": set()}
            for _, kind, key in lines:
                keys.setdefault(kind, set()).add(key)
            found = await _some(connection, select(schema.account), schema.account.c.address, keys["account"])
            accounts = tuple(map(account_of, found))
            found = await _some(connection, select(schema.alias), schema.alias.c.address, keys["alias"])
            aliases = tuple(map(alias_of, found))
            return Delta(
                lines[-1].seq,
                accounts=accounts,
                aliases=aliases,
                gone_accounts=tuple(sorted(keys["account"] - {row.address for row in accounts})),
                gone_aliases=tuple(sorted(keys["alias"] - {row.address for row in aliases})),
                draining=await _draining(connection) if keys["server"] else None,
            )

    async def prune(self, keep: int = KEEP_CHANGES) -> int:
        """Forget the oldest changes; how many."""
        async with self._database.writing() as connection:
            last = (await _version(connection)).seq
            done = await connection.execute(delete(schema.change).where(schema.change.c.seq <= last - keep))
            return int(done.rowcount)


class Writer:
    """Changes of one transaction, which `Repository.writing` began and will end."""

    def __init__(self, database: Database, connection: AsyncConnection, seq: int) -> None:
        self._database = database
        self._connection = connection
        self._seq = seq
        self._changed: dict[tuple[str, str], None] = {}

    @property
    def connection(self) -> AsyncConnection:
        """For rows that belong into the same transaction."""
        return self._connection

    @property
    def last(self) -> int:
        """The number that the last change so far will have."""
        return self._seq + len(self._changed)

    async def accounts(self, keys: Iterable[str]) -> list[Account]:
        """Those that are there, in the order of their addresses."""
        query = select(schema.account).order_by(schema.account.c.address)
        return [account_of(row) for row in await _some(self._connection, query, schema.account.c.address, keys)]

    async def account(self, key: str) -> Account | None:
        return await _one_account(self._connection, key)

    async def alias(self, key: str) -> Alias | None:
        return await _one_alias(self._connection, key)

    async def add_account(self, account: Account) -> Account:
        """The account as it was written: an address that was in use before goes on from its last epoch.

        Raises Conflict: exists, or taken by an alias.
        """
        if await self.account(account.address):
            raise Conflict(account.address, "exists")
        if await self.alias(account.address):
            raise Conflict(account.address, "taken")
        gone = schema.departed.c
        last = await self._connection.execute(select(gone.epoch).where(gone.address == account.address))
        epoch = max(account.home.epoch, int(last.scalar() or 0) + 1)
        account = replace(account, home=replace(account.home, epoch=epoch))
        await self._connection.execute(insert(schema.account), account_row(account))
        self._note("account", account.address)
        return account

    async def set_account(self, account: Account) -> Account:
        """The account as it was written: a changed home gets the next epoch. Raises Conflict: missing."""
        before = await self.account(account.address)
        if before is None:
            raise Conflict(account.address, "missing")
        account = replace(account, home=next_home(before.home, account.home))
        if account != before:
            await self._connection.execute(self._database.upsert(schema.account), account_row(account))
            await self.keep_links([(before, account)])
            self._note("account", account.address)
        return account

    async def keep_links(self, changed: Iterable[tuple[Account, Account]]) -> None:
        """(before, now) each: the link between two servers that are what they were goes on, in the home's new epoch."""
        link = schema.link.c
        same = update(schema.link).where(
            link.account == bindparam("key"), link.target == bindparam("to"), link.epoch == bindparam("was"))
        rows = [{"key": now.address, "to": now.home.replicas[0], "was": old.home.epoch, "now": now.home.epoch}
                for old, now in changed
                if now.home.replicas and now.home.epoch != old.home.epoch and _pair(old.home) == _pair(now.home)]
        if rows:
            await self._connection.execute(same.values(epoch=bindparam("now")), rows)

    async def remove_account(self, key: str) -> Account:
        """Raises Conflict: missing. The mail at the home is not touched."""
        account = await self.account(key)
        if account is None:
            raise Conflict(key, "missing")
        await self._connection.execute(delete(schema.account).where(schema.account.c.address == key))
        await self._connection.execute(delete(schema.link).where(schema.link.c.account == key))
        await self._connection.execute(delete(schema.promotion).where(schema.promotion.c.account == key))
        row = {"address": key, "epoch": account.home.epoch}
        await self._connection.execute(self._database.upsert(schema.departed), row)
        self._note("account", key)
        return account

    async def add_alias(self, alias: Alias) -> None:
        """Raises Conflict: exists, or taken by an account."""
        if await self.alias(alias.address):
            raise Conflict(alias.address, "exists")
        await self.set_alias(alias)

    async def set_alias(self, alias: Alias) -> None:
        """Make it, or give it these targets. Raises Conflict: taken by an account."""
        if await self.account(alias.address):
            raise Conflict(alias.address, "taken")
        await self._connection.execute(self._database.upsert(schema.alias), alias_row(alias))
        self._note("alias", alias.address)

    async def remove_alias(self, key: str) -> None:
        """Raises Conflict: missing."""
        done = await self._connection.execute(delete(schema.alias).where(schema.alias.c.address == key))
        if not done.rowcount:
            raise Conflict(key, "missing")
        self._note("alias", key)

    async def set_draining(self, server: str, draining: bool) -> None:
        """What the operator wants, beside what the configuration says."""
        row = {"name": server, "draining": draining}
        await self._connection.execute(self._database.upsert(schema.server_state), row)
        self._note("server", server)

    async def put_many(self, accounts: Collection[Account] = (), aliases: Collection[Alias] = ()) -> None:
        """Rows in bulk, new ones and others, as they are: whoever calls has looked at conflicts and epochs."""
        for table, rows in (
            (schema.account, [account_row(account) for account in accounts]),
            (schema.alias, [alias_row(alias) for alias in aliases]),
        ):
            for start in range(0, len(rows), BATCH * 10):
                await self._connection.execute(self._database.upsert(table), rows[start : start + BATCH * 10])
        for account in accounts:
            self._note("account", account.address)
        for alias in aliases:
            self._note("alias", alias.address)

    async def everything(self) -> tuple[dict[str, Account], dict[str, Alias], dict[str, int]]:
        """Accounts, aliases, and the last epochs of accounts that are gone, by address."""
        accounts = [account_of(row) for row in await self._connection.execute(select(schema.account))]
        aliases = [alias_of(row) for row in await self._connection.execute(select(schema.alias))]
        gone = {row.address: int(row.epoch) for row in await self._connection.execute(select(schema.departed))}
        return {row.address: row for row in accounts}, {row.address: row for row in aliases}, gone

    async def log(self, now: float) -> None:
        """Write the change log and tell the listeners; `Repository.writing` does it before the commit."""
        if not self._changed:
            return
        rows = [
            {"seq": seq, "kind": kind, "key": key, "at": now}
            for seq, (kind, key) in enumerate(self._changed, self._seq + 1)
        ]
        for start in range(0, len(rows), BATCH * 10):
            await self._connection.execute(insert(schema.change), rows[start : start + BATCH * 10])
        last = update(schema.meta).where(schema.meta.c.name == "seq").values(number=self._seq + len(rows))
        await self._connection.execute(last)
        await self._database.notify(self._connection)

    def _note(self, kind: str, key: str) -> None:
        self._changed[kind, key] = None


def _pair(home: Home) -> tuple[str, ...]:
    return (home.primary, *home.replicas[:1])


def next_home(before: Home, wanted: Home) -> Home:
    """The home as it is to be written: the epoch grows by one exactly when its servers change. What a promotion left
    to do at a primary does not follow to another one; while it is to be done it is known by the epoch, which stays:
    nobody is let in yet and no link runs.
    """
    if (before.primary, before.replicas) == (wanted.primary, wanted.replicas):
        return before
    pending = before.pending and wanted.primary == before.primary
    return replace(
        wanted, epoch=before.epoch + (not pending), pending=pending, no_modseq=before.no_modseq, shown=before.shown,
        uidl=before.uidl, modseq_of=before.modseq_of,
    )  # fmt: skip


async def _one_account(connection: AsyncConnection, key: str) -> Account | None:
    row = (await connection.execute(select(schema.account).where(schema.account.c.address == key))).first()
    return None if row is None else account_of(row)


async def _one_alias(connection: AsyncConnection, key: str) -> Alias | None:
    row = (await connection.execute(select(schema.alias).where(schema.alias.c.address == key))).first()
    return None if row is None else alias_of(row)


async def _some(connection: AsyncConnection, query: Select[Any], column: Any, keys: Iterable[str]) -> list[Row[Any]]:
    ordered = sorted(keys)
    found: list[Row[Any]] = []
    for start in range(0, len(ordered), BATCH):
        found += await connection.execute(query.where(column.in_(ordered[start : start + BATCH])))
    return found


async def _draining(connection: AsyncConnection) -> tuple[str, ...]:
    state = schema.server_state.c
    return tuple(await connection.scalars(select(state.name).where(state.draining).order_by(state.name)))


async def _version(connection: AsyncConnection) -> Version:
    rows = {row.name: row for row in await connection.execute(select(schema.meta))}
    oldest = (await connection.execute(select(func.min(schema.change.c.seq)))).scalar()
    seq = int(rows["seq"].number)
    return Version(rows["id"].text, seq, seq + 1 if oldest is None else int(oldest))
