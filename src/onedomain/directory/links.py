"""The states of one-way links in the directory's database.

Knows who may save: the holder of the lease, for a home that has not changed since. Does not know what a state means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from onedomain.directory.spelling import read, spelt
from onedomain.model.ports import Clock
from onedomain.model.replica import LinkState
from onedomain.store import schema
from onedomain.store.sql import Database

LINKER = "linker"
"""The lease of whoever runs the links."""
BATCH = 500
STATE = ("source", "epoch", "state", "saved")


@dataclass(frozen=True, slots=True)
class SavedLink:
    """`epoch` is the home's for which it was saved; `saved` seconds since 1970. `accepted`: when an operator let the
    deletions go on that a brake stops in this state, 0: nobody did.
    """

    account: str
    source: str
    target: str
    epoch: int
    state: LinkState
    saved: float = 0.0
    accepted: float = 0.0


class Links:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def load(self, account: str) -> list[SavedLink]:
        columns = schema.link.c
        async with self._database.reading() as connection:
            query = select(schema.link).where(columns.account == account).order_by(columns.target)
            return [_link(row) for row in await connection.execute(query)]

    async def all(self, rows: int = BATCH) -> AsyncIterator[SavedLink]:
        """In the order of their accounts, never all in memory at once."""
        columns = schema.link.c
        async with self._database.reading() as connection:
            query: Select[Any] = select(schema.link).order_by(columns.account, columns.target)
            async with connection.stream(query) as found:
                async for part in found.partitions(rows):
                    for row in part:
                        yield _link(row)

    async def save(
        self, links: Iterable[SavedLink], token: int, accepted: Collection[str] = ()
    ) -> frozenset[str]:
        """In one transaction, durable on return; the accounts that were saved. Not saved: all, where the lease `linker`
        is not held under `token`; those whose home has another epoch or other servers by now, or that are gone.
        `accepted`: accounts of which all that is braked in these states is accepted; of others nothing is any more.
        """
        wanted = {(link.account, link.target): link for link in links}
        now = self._clock.time()
        rows = {at: link_row(link, now) for at, link in wanted.items()}  # spelt before anybody waits for us
        async with self._database.writing() as connection:
            if not await holds(connection, LINKER, token):
                return frozenset()
            valid = await _homes(connection, {account for account, _ in wanted})
            good = [link for link in wanted.values() if valid.get(link.account) == (link.source, link.epoch)]
            free: list[SavedLink] = []
            kept: list[SavedLink] = []
            for link in good:
                held = link.account in accepted and any(folder.braked for folder in link.state.folders)
                (kept if held else free).append(link)
            # What was accepted has been carried, or something else is braked by now: it is not for that.
            for some, columns in ((free, ()), (kept, STATE)):
                for start in range(0, len(some), BATCH):
                    part = [rows[link.account, link.target] for link in some[start : start + BATCH]]
                    await connection.execute(self._database.upsert(schema.link, columns), part)
            return frozenset(link.account for link in good)

    async def accept(self, account: str, epoch: int, token: int) -> bool:
        """What is braked in its link may be deleted. Durable on return; False: not written, as the lease is lost, the
        home is another, or there is no such link.
        """
        columns = schema.link.c
        async with self._database.writing() as connection:
            if not await holds(connection, LINKER, token):
                return False
            said = update(schema.link).where(columns.account == account, columns.epoch == epoch)
            done = await connection.execute(said.values(accepted=self._clock.time()))
            return done.rowcount > 0

    async def forget(self, account: str, target: str, token: int) -> None:
        """The link is no more: its account has other replicas now."""
        columns = schema.link.c
        async with self._database.writing() as connection:
            if await holds(connection, LINKER, token):
                gone = delete(schema.link).where(columns.account == account, columns.target == target)
                await connection.execute(gone)


async def holds(connection: AsyncConnection, name: str, token: int) -> bool:
    """Whether the lease is still the one with this token; nobody can take it before this transaction ends.

    FOR KEY SHARE: a renewal need not wait. Under FOR SHARE one transaction after another kept it waiting for ever.
    """
    query = select(schema.lease.c.token).where(schema.lease.c.name == name).with_for_update(read=True, key_share=True)
    return (await connection.execute(query)).scalar() == token


def link_row(link: SavedLink, now: float) -> dict[str, Any]:
    return {"account": link.account, "target": link.target, "source": link.source, "epoch": link.epoch,
            "state": spelt(link.state), "saved": now}


def _link(row: Row[Any]) -> SavedLink:
    state = read(LinkState, row.state)
    accepted = float(row.accepted)
    return SavedLink(row.account, row.source, row.target, int(row.epoch), state, float(row.saved), accepted)


async def _homes(connection: AsyncConnection, accounts: set[str]) -> dict[str, tuple[str, int]]:
    columns = schema.account.c
    ordered = sorted(accounts)
    found: dict[str, tuple[str, int]] = {}
    for start in range(0, len(ordered), BATCH):
        query = select(columns.address, columns.primary_server, columns.epoch)
        query = query.where(columns.address.in_(ordered[start : start + BATCH])).with_for_update(read=True)
        for row in await connection.execute(query):
            found[row.address] = row.primary_server, int(row.epoch)
    return found
