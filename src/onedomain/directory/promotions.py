"""Promotions in the directory's database: the homes of a dead server change all at once, and what follows account by
account.

Knows which changes belong into one transaction. Does not know when a server is dead, which replica is fit, nor what a
promotion's plan does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from onedomain.directory.links import BATCH, LINKER, SavedLink, holds, link_row
from onedomain.directory.repository import Repository, Writer
from onedomain.directory.spelling import read, spelt
from onedomain.model.account import Account, Home
from onedomain.model.ports import Clock
from onedomain.model.replica import LinkState, Promotion
from onedomain.store import schema
from onedomain.store.sql import Database

Choose = Callable[[Account], str]
"""The replica that is to be an account's primary, or "": it stays as it is."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """`state`: the link as it was last saved, None if there never was one. `result` None: not settled yet. Both only
    where one account's promotion is asked for (`details`): all of a server's are not held in memory.

    `at`, `settled`, `returned`: seconds since 1970, the latter two 0 where that has not happened. `renumbered`: folders
    that clients load anew; `added`, `aside`: messages that only the old primary had, and what became of them.
    """

    account: str
    epoch: int
    old: str
    new: str
    cause: str
    at: float
    state: LinkState | None = None
    result: Promotion | None = None
    settled: float = 0.0
    returned: float = 0.0
    renumbered: int = 0
    added: int = 0
    aside: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A promotion's plan is done. The rest is what clients would see otherwise than before, as in Home."""

    account: str
    epoch: int
    result: Promotion
    no_modseq: bool = False
    shown: str = ""
    uidl: str = ""
    modseq_of: str = ""


class Promotions:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._repository = Repository(database, clock)
        self._clock = clock

    async def promote_server(
        self, dead: str, choose: Choose, cause: str, token: int | None = None
    ) -> tuple[list[Promoted], int]:
        """All accounts whose primary is `dead` and for which `choose` names a replica, in one transaction: primary and
        replica change places, the epoch grows, `pending` is set. -> (promotions, the last change: edges that go by it
        know). Here as elsewhere nothing where the lease `linker` is not held under `token` (None: none is needed).
        """
        columns = schema.account.c
        query: Select[Any] = select(columns.address).where(columns.primary_server == dead, columns.replicas != "[]")
        async with self._repository.writing() as writer:
            if token is not None and not await holds(writer.connection, LINKER, token):
                return [], 0
            addresses = list(await writer.connection.scalars(query.order_by(columns.address)))
            return await self._promote(writer, addresses, choose, cause)

    async def promote_accounts(
        self, addresses: Collection[str], choose: Choose, cause: str, token: int | None = None
    ) -> tuple[list[Promoted], int]:
        """The same for some accounts, whatever their primaries."""
        async with self._repository.writing() as writer:
            if token is not None and not await holds(writer.connection, LINKER, token):
                return [], 0
            return await self._promote(writer, sorted(addresses), choose, cause)

    async def _promote(
        self, writer: Writer, addresses: list[str], choose: Choose, cause: str
    ) -> tuple[list[Promoted], int]:
        now = self._clock.time()
        promoted: list[Promoted] = []
        accounts: list[Account] = []
        for account in await writer.accounts(addresses):
            new = choose(account)
            if new not in account.home.replicas:
                continue
            home = swapped(account.home, new)
            accounts.append(replace(account, home=home))
            promoted.append(Promoted(account.address, home.epoch, account.home.primary, new, cause, now))
        if not promoted:
            return [], 0
        for start in range(0, len(promoted), BATCH):
            rows = [_row(each) for each in promoted[start : start + BATCH]]
            await writer.connection.execute(self._database.upsert(schema.promotion), rows)
        await _take_states(writer.connection, promoted)
        await writer.put_many(accounts=accounts)
        barrier = update(schema.meta).where(schema.meta.c.name == "barrier").values(number=writer.last)
        await writer.connection.execute(barrier)
        return promoted, writer.last

    async def take_back(self, olds: Mapping[str, str], cause: str, token: int | None = None) -> list[Promoted]:
        """Of accounts (with their old primaries) whose promotion is not settled: the old one is the primary again, at
        once and with all that there is, as nobody has written anywhere meanwhile. The link goes on from where it was.
        -> what is promoted now.
        """
        now = self._clock.time()
        async with self._repository.writing() as writer:
            if token is not None and not await holds(writer.connection, LINKER, token):
                return []
            accounts: list[Account] = []
            taken: list[Promoted] = []
            rows = []
            found = await _unsettled(writer.connection, olds)
            for account in await writer.accounts(olds):
                home, old = account.home, olds[account.address]
                row = found.get((account.address, home.epoch)) if home.pending else None
                if row is None or (row.new, row.old) != (home.primary, old) or old not in home.replicas:
                    continue
                again = replace(swapped(home, old), pending=False)
                accounts.append(replace(account, home=again))
                taken.append(Promoted(account.address, again.epoch, row.new, row.old, cause, now))
                rows.append({"key": account.address, "number": home.epoch, "to": row.new, "by": row.old,
                             "now": again.epoch, "left": row.state})
            if not taken:
                return []
            columns, link = schema.promotion.c, schema.link.c
            undone = delete(schema.promotion)
            undone = undone.where(columns.account == bindparam("key"), columns.epoch == bindparam("number"))
            await writer.connection.execute(undone, rows)
            goes_on = update(schema.link).where(link.account == bindparam("key"), link.target == bindparam("to"))
            goes_on = goes_on.values(source=bindparam("by"), epoch=bindparam("now"), state=bindparam("left"), saved=now)
            if some := [row for row in rows if row["left"]]:
                await writer.connection.execute(goes_on, some)
            await writer.put_many(accounts=accounts)
            return taken

    async def save_state(self, account: str, epoch: int, state: LinkState, token: int | None = None) -> bool:
        """A promotion whose old primary still answered has carried more since it was committed. False: it was taken
        back meanwhile, or the lease is lost.
        """
        columns = schema.promotion.c
        statement = update(schema.promotion).where(columns.account == account, columns.epoch == epoch)
        statement = statement.values(state=spelt(state))
        async with self._database.writing() as connection:
            if token is not None and not await holds(connection, LINKER, token):
                return False
            return (await connection.execute(statement)).rowcount > 0

    async def settle(self, settled: Iterable[Settled], token: int | None = None) -> frozenset[str]:
        """Their plans are done: people may come in. In one transaction; the accounts whose home still was that one."""
        wanted = {each.account: each for each in settled}
        results = {account: spelt(each.result) for account, each in wanted.items()}  # before anybody waits for us
        now = self._clock.time()
        async with self._repository.writing() as writer:
            if token is not None and not await holds(writer.connection, LINKER, token):
                return frozenset()
            accounts = [account for account in await writer.accounts(sorted(wanted))
                        if account.home.pending and account.home.epoch == wanted[account.address].epoch]
            if not accounts:
                return frozenset()
            homes = []
            rows = []
            for account in accounts:
                each = wanted[account.address]
                home = replace(account.home, pending=False, no_modseq=each.no_modseq, shown=each.shown, uidl=each.uidl,
                               modseq_of=each.modseq_of)
                homes.append(replace(account, home=home))
                rows.append({"key": each.account, "number": each.epoch, "result": results[each.account],
                             "settled": now, "renumbered": sum(shown.renumbered for shown in each.result.folders)})
            columns, link = schema.promotion.c, schema.link.c
            done = update(schema.promotion)
            done = done.where(columns.account == bindparam("key"), columns.epoch == bindparam("number"))
            await writer.connection.execute(done, rows)
            # The link that led here is part of the promotion now.
            gone = delete(schema.link).where(link.account == bindparam("key"), link.target == bindparam("to"))
            await writer.connection.execute(gone, [{"key": each.address, "to": each.home.primary} for each in homes])
            await writer.put_many(accounts=homes)
            return frozenset(account.address for account in accounts)

    async def returned(
        self, account: str, epoch: int, link: SavedLink | None, token: int | None = None, added: int = 0, aside: int = 0
    ) -> bool:
        """What only the old primary had has been brought, and the link runs the other way from here: one transaction.
        False, and nothing is written, where the home is another by now. None: the old primary is no replica any more.
        """
        columns = schema.promotion.c
        now = self._clock.time()
        row = link_row(link, now) if link is not None else None  # spelt before anybody waits for us
        async with self._repository.writing() as writer:
            if token is not None and not await holds(writer.connection, LINKER, token):
                return False
            found = await writer.account(account)
            if found is None or (link is not None and found.home.epoch != link.epoch):
                return False
            statement = update(schema.promotion).where(columns.account == account, columns.epoch == epoch)
            await writer.connection.execute(statement.values(returned=now, added=added, aside=aside))
            if row is not None:
                await writer.connection.execute(self._database.upsert(schema.link), [row])
            return True

    async def left(self, account: str, server: str) -> LinkState | None:
        """The link from this server as it was when it last ceased to be the account's primary."""
        columns = schema.promotion.c
        query = select(columns.state).where(columns.account == account, columns.old == server)
        async with self._database.reading() as connection:
            state = await connection.scalar(query.order_by(columns.epoch.desc()).limit(1))
        return read(LinkState, state) if state else None

    async def details(self, account: str, epoch: int) -> Promoted | None:
        """With state and result."""
        columns = schema.promotion.c
        query = select(schema.promotion).where(columns.account == account, columns.epoch == epoch)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
            return _detailed(row) if row is not None else None

    async def pending(self, server: str = "") -> list[Promoted]:
        """Committed and not settled; `server`: the new primary."""
        columns = schema.promotion.c
        return await self._read(_brief().where(columns.settled == 0.0, _lives_there()), columns.new, server)

    async def unreturned(self, server: str = "") -> list[Promoted]:
        """Settled, and the old primary (`server`) has not been brought back yet. Also while another promotion is
        pending, which may be taken back.
        """
        columns = schema.promotion.c
        there = _lives_there() | _account(schema.account.c.pending)
        query = _brief().where(columns.settled > 0.0, columns.returned == 0.0, there)
        return await self._read(query, columns.old, server)

    async def recent(self, since: float) -> list[Promoted]:
        """Those at or after `since`."""
        columns = schema.promotion.c
        async with self._database.reading() as connection:
            query = _brief().where(columns.at >= since).order_by(columns.at, columns.account)
            return [_promoted(row) for row in await connection.execute(query)]

    async def _read(self, query: Select[Any], column: Any, server: str) -> list[Promoted]:
        """In the order in which they were made; those of homes that have changed since are nobody's to finish."""
        columns = schema.promotion.c
        query = query.where(column == server) if server else query
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(columns.at, columns.account))
            return [_promoted(row) for row in rows]


def swapped(home: Home, new: str) -> Home:
    """The old primary takes the place that the new one had among the replicas. What its clients were shown stays noted
    until it is settled.
    """
    replicas = tuple(home.primary if name == new else name for name in home.replicas)
    return replace(home, primary=new, replicas=replicas, epoch=home.epoch + 1, pending=True)


async def _take_states(connection: AsyncConnection, promoted: list[Promoted]) -> None:
    """From row to row, unread: decoded and spelt again, those of 2,000 accounts hold everybody up for seconds."""
    columns, link = schema.promotion.c, schema.link.c
    state = select(link.state).where(link.account == columns.account, link.source == columns.old,
                                     link.target == columns.new).scalar_subquery()
    query = update(schema.promotion).where(columns.account == bindparam("key"), columns.epoch == bindparam("number"))
    for start in range(0, len(promoted), BATCH):
        keys = [{"key": each.account, "number": each.epoch} for each in promoted[start : start + BATCH]]
        await connection.execute(query.values(state=func.coalesce(state, "")), keys)


async def _unsettled(connection: AsyncConnection, addresses: Collection[str]) -> dict[tuple[str, int], Any]:
    columns = schema.promotion.c
    query = select(columns.account, columns.epoch, columns.old, columns.new, columns.state)
    query = query.where(columns.settled == 0.0)
    ordered = sorted(addresses)
    found: dict[tuple[str, int], Any] = {}
    for start in range(0, len(ordered), BATCH):
        for row in await connection.execute(query.where(columns.account.in_(ordered[start : start + BATCH]))):
            found[row.account, int(row.epoch)] = row
    return found


def _row(each: Promoted) -> dict[str, Any]:
    return {"account": each.account, "epoch": each.epoch, "old": each.old, "new": each.new, "cause": each.cause,
            "state": "", "result": "", "at": each.at, "settled": 0.0, "returned": 0.0, "renumbered": 0, "added": 0,
            "aside": 0}


def _account(it: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the promotion's account is so now."""
    account = schema.account.c
    return select(account.address).where(account.address == schema.promotion.c.account, it).exists()


def _lives_there() -> ColumnElement[bool]:
    return _account(schema.account.c.primary_server == schema.promotion.c.new)


def _brief() -> Select[Any]:
    columns = schema.promotion.c
    return select(columns.account, columns.epoch, columns.old, columns.new, columns.cause, columns.at, columns.settled,
                  columns.returned, columns.renumbered, columns.added, columns.aside)


def _promoted(row: Row[Any]) -> Promoted:
    return Promoted(row.account, int(row.epoch), row.old, row.new, row.cause, float(row.at),
                    settled=float(row.settled), returned=float(row.returned), renumbered=int(row.renumbered),
                    added=int(row.added), aside=int(row.aside))


def _detailed(row: Row[Any]) -> Promoted:
    return replace(_promoted(row), state=read(LinkState, row.state) if row.state else None,
                   result=read(Promotion, row.result) if row.result else None)
