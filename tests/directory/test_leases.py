"""Leases: one holder at a time, by the database's clock; an edge that stays behind a promotion is granted nothing."""

from __future__ import annotations

import asyncio

from sqlalchemy import update

from onedomain.directory.leases import Leases
from onedomain.directory.links import holds
from onedomain.directory.repository import Edge, Repository
from onedomain.store import schema
from onedomain.store.sql import Database


async def run_out(database: Database) -> None:
    async with database.writing() as connection:
        await connection.execute(update(schema.lease).values(until=1.0))


async def test_one_holder_at_a_time(database: Database) -> None:
    leases = Leases(database)
    tokens = await asyncio.gather(*(leases.take("linker", f"e{number}", 30) for number in range(4)))
    assert sorted(tokens) == [0, 0, 0, 1]
    holder = f"e{tokens.index(1)}"
    assert await leases.holder("linker") == holder
    assert await leases.renew("linker", 1, 30)
    assert await leases.take("other", "e9", 30) == 1, "another name is another lease"


async def test_the_token_grows_whenever_it_changes_hands(database: Database) -> None:
    leases = Leases(database)
    assert await leases.take("linker", "a", 30) == 1
    assert await leases.take("linker", "a", 30) == 2, "a new process of the same edge"
    assert not await leases.renew("linker", 1, 30), "and the old one is out"
    await run_out(database)
    assert not await leases.renew("linker", 2, 30), "what ran out may have been somebody else's since"
    assert await leases.take("linker", "b", 30) == 3
    await leases.give_up("linker", 2)
    assert await leases.holder("linker") == "b", "only one's own is given up"
    await leases.give_up("linker", 3)
    assert await leases.holder("linker") == ""
    assert await leases.take("linker", "a", 30) == 4


async def test_an_edge_is_granted_a_lease_while_it_goes_by_the_last_promotion(database: Database,
                                                                              repository: Repository) -> None:
    leases = Leases(database)
    assert not (await leases.renew_edge("e1", 0, 3)).granted, "nobody knows it"
    for name in ("e1", "e2"):
        await repository.put_edge(Edge(name, "", "", 1.0))
    assert await leases.edges() == ()
    grant = await leases.renew_edge("e1", 5, 30)
    assert grant.granted and [(each.edge, each.seq) for each in grant.others] == [("e1", 5)]
    async with database.writing() as connection:
        await connection.execute(update(schema.meta).where(schema.meta.c.name == "barrier").values(number=6))
    assert not (behind := await leases.renew_edge("e1", 5, 300)).granted and behind.barrier == 6
    assert 0 < behind.others[0].left <= 30, "the old one goes on to its end"
    assert not (await leases.renew_edge("e2", 0, 30)).granted
    assert [each.edge for each in await leases.edges()] == ["e1"], "nothing to wait for where nothing was ever granted"
    assert (await leases.renew_edge("e1", 6, 300)).granted
    await repository.put_edge(Edge("e1", "x:1", "pem", 2.0))
    (lease,) = await leases.edges()
    assert lease.seq == 6 and lease.left > 250, "an edge that says it is there keeps its lease"


async def test_work_under_a_lease_keeps_nobody_from_renewing_it_but_from_taking_it(database: Database) -> None:
    """PostgreSQL lets share locks join one another past a writer that waits."""
    leases = Leases(database)
    token = await leases.take("linker", "a", 30)
    if not database.is_postgres:
        return  # one writer at a time

    async def work(seconds: float) -> None:
        async with database.writing() as connection:
            assert await holds(connection, "linker", token)
            await asyncio.sleep(seconds)

    async def always(begin: float) -> None:
        await asyncio.sleep(begin)
        while True:
            await work(0.1)

    busy = [asyncio.create_task(always(number * 0.04)) for number in range(3)]
    await asyncio.sleep(0.2)
    try:
        for _ in range(5):
            async with asyncio.timeout(1.0):
                assert await leases.renew("linker", token, 30)
    finally:
        for each in busy:
            each.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
    working = asyncio.create_task(work(0.5))
    await asyncio.sleep(0.1)
    assert await leases.take("linker", "b", 30) == 0 and not working.done(), "one that runs is not waited for"
    await run_out(database)
    assert await leases.take("linker", "b", 30) == token + 1
    assert working.done(), "what was begun under the old token came to its end before"
    await working
