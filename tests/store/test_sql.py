"""Databases: migrated once however many start, tables as the code expects, clear words where they can't be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert, select, text, update

from onedomain.store import schema
from onedomain.store.sql import AWAY, STALL_SECONDS, Database, DatabaseError
from tests.directory.conftest import database, database_url  # noqa: F401


async def numbers(of: Database) -> dict[str, int]:
    async with of.reading() as connection:
        return {row.name: row.number for row in await connection.execute(select(schema.meta))}


async def test_edges_that_start_at_once_migrate_once(database_url: str) -> None:  # noqa: F811
    databases = await asyncio.gather(*(Database.open(database_url) for _ in range(4)))
    try:
        ids = set()
        for each in databases:
            async with each.reading() as connection:
                ids.add((await connection.execute(text("select text from meta where name = 'id'"))).scalar_one())
        assert len(ids) == 1
        assert await numbers(databases[0]) == {"seq": 0, "schema": schema.SCHEMA, "least": 1, "id": 0,
                                               "barrier": 0}
    finally:
        for each in databases:
            await each.close()


async def test_migrations_make_the_tables_of_the_schema(database: Database) -> None:  # noqa: F811
    def differences(connection: Connection) -> list[object]:
        found = compare_metadata(MigrationContext.configure(connection), schema.metadata)
        return [item for item in found if "alembic_version" not in str(item)]

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_code_of_version_1_works_beside_this_one(database: Database) -> None:  # noqa: F811
    """Its statements, as it wrote them: it names its own columns and no others."""
    insert = text(
        "insert into account (address, unit, primary_server, replicas, epoch, mailbox, password, forward_to, keep_copy,"
        " enabled) values ('a@b', 'u', 's1', '[]', 1, '', '', '[]', true, true)"
        " on conflict (address) do update set epoch = excluded.epoch + 1"
    )
    edge = text(
        "insert into edge (name, address, certificate, seen) values ('e1', 'x', 'y', 1.0) on conflict (name) do update"
        " set address = excluded.address, certificate = excluded.certificate, seen = excluded.seen"
    )
    async with database.writing() as connection:
        await connection.execute(insert)
        await connection.execute(update(schema.account).values(pending=True))
        await connection.execute(edge)
        await connection.execute(update(schema.edge).values(lease_until=5.0))
        await connection.execute(insert)
        await connection.execute(edge)
    async with database.reading() as connection:
        row = (await connection.execute(select(schema.account))).one()
        assert (row.epoch, row.pending, row.no_modseq) == (2, True, False)
        assert (await connection.execute(select(schema.edge.c.lease_until))).scalar() == 5.0


async def test_a_database_of_version_1_is_expanded(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    old = create_engine(f"sqlite:///{path}")
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("insert into account values ('a@b', 'u', 's1', '[\"s2\"]', 7, '', '', '[]', 1, 1)"))
    old.dispose()
    opened = await Database.open(f"sqlite:///{path}")
    try:
        assert (await numbers(opened))["schema"] == schema.SCHEMA
        async with opened.reading() as connection_:
            row = (await connection_.execute(select(schema.account))).one()
            assert (row.replicas, row.epoch, row.pending, row.no_modseq) == ('["s2"]', 7, False, False)
    finally:
        await opened.close()


async def test_a_newer_database_is_used_as_long_as_it_allows(database: Database, database_url: str) -> None:  # noqa: F811
    async def put(name: str, number: int) -> None:
        async with database.writing() as connection:
            await connection.execute(update(schema.meta).where(schema.meta.c.name == name).values(number=number))

    await put("schema", schema.SCHEMA + 1)
    await (await Database.open(database_url)).close()
    await put("least", schema.SCHEMA + 1)
    with pytest.raises(DatabaseError, match="newer OneDomain"):
        await Database.open(database_url)


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:  # noqa: F811
    with pytest.raises(ZeroDivisionError):
        async with database.writing() as connection:
            await connection.execute(update(schema.meta).values(number=77))
            raise ZeroDivisionError
    assert (await numbers(database))["seq"] == 0


async def test_a_commit_wakes_the_watcher(database: Database, database_url: str) -> None:  # noqa: F811
    other = await Database.open(database_url)
    try:
        async with database.watching(5.0) as watcher:
            async with other.writing() as connection:
                await connection.execute(update(schema.meta).values(number=1))
                await other.notify(connection)
            assert await asyncio.wait_for(watcher.wait(), 1)
    finally:
        await other.close()


async def test_a_lease_wakes_nobody(tmp_path: Path) -> None:
    """In SQLite, which tells of every commit."""
    database = await Database.open(f"sqlite:///{tmp_path}/d.db")  # noqa: F811
    other = await Database.open(f"sqlite:///{tmp_path}/d.db")
    try:
        async with database.watching(0.3) as watcher:
            async with other.writing() as connection:
                await connection.execute(insert(schema.lease).values(name="x", holder="y", until=1.0, token=1))
            assert await watcher.wait() is False
            async with other.writing() as connection:
                await connection.execute(update(schema.meta).where(schema.meta.c.name == "seq").values(number=1))
            assert await watcher.wait() is True
    finally:
        await database.close()
        await other.close()


async def test_sqlite_is_durable_and_shared(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/d.db")  # noqa: F811
    try:
        async with database.reading() as connection:
            pragmas = [
                (await connection.execute(text(f"pragma {name}"))).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
        assert (tmp_path / "d.db").stat().st_mode & 0o777 == 0o600
        assert pragmas == ["wal", 2, 1, 10_000]
    finally:
        await database.close()


async def test_a_file_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/d.db")  # noqa: F811
    try:
        async with database.watching(0.1) as watcher:
            assert await watcher.wait() is False
            (tmp_path / "d.db").rename(tmp_path / "old.db")
            (tmp_path / "d.db").touch()
            with pytest.raises(OSError, match="taken the place"):
                await watcher.wait()
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "must be sqlite"),
        ("mysql://x/y", "use sqlite or postgresql"),
        ("sqlite://", "names no file"),
        ("sqlite:////nowhere/at/all.db", "is not a folder"),
    ],
)
async def test_urls_that_cannot_be(url: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=message):
        await Database.open(url)


async def test_who_stalls_in_the_middle_of_a_change_holds_up_the_others_for_seconds_only(postgres_url: str) -> None:
    """An edge that is stopped, or cut off, while it saves: the lease row that it has locked is another's to take."""
    url = postgres_url.replace("+asyncpg", "")
    stalled, other = await Database.open(url), await Database.open(url)
    change = update(schema.meta).where(schema.meta.c.name == "seq").values(number=5)
    try:
        with pytest.raises(AWAY):
            async with stalled.writing() as connection:
                await connection.execute(change)
                async with asyncio.timeout(STALL_SECONDS + 5), other.writing() as second:
                    await second.execute(change.values(number=6))
        assert (await numbers(other))["seq"] == 6
        async with stalled.writing(patient=True) as connection:
            await connection.execute(change)
            await asyncio.sleep(STALL_SECONDS + 0.5)
        async with stalled.reading() as connection:
            await connection.execute(select(schema.meta))
            await asyncio.sleep(STALL_SECONDS + 0.5)
            await connection.execute(select(schema.meta))
        assert (await numbers(other))["seq"] == 5
    finally:
        await stalled.close()
        await other.close()
