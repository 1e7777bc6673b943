"""A database, SQLite or PostgreSQL: connections, transactions, migrations, and word of changes.

Knows how the two differ, so that nobody else has to. Does not know what the rows mean.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, Connection, Float, Insert, event, inspect, literal_column, select, text
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from onedomain.store import schema

AWAY = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""What a database that is away, restarting or broken raises; worth another try later."""

CHANNEL = "onedomain"
STALLS = "idle_in_transaction_session_timeout"
MIGRATING = 0x6F6E65646F6D  # any number, the same in all edges
CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 60.0
BUSY_SECONDS = 10.0
BUSY_PAUSE = 0.02
STALL_SECONDS = 3.0
"""An edge that was stopped, or whose network is gone, in the middle of a change: what it has locked, such as who runs
the links, is given back to the rest of the domain after this. A lease is not longer.
"""
PATIENT_SECONDS = 600.0
"""For what thinks between two statements: a whole directory that is read, an import."""


class DatabaseError(Exception):
    """The database is there and cannot be used; the message says what to do."""


class Database:
    """One engine. `open` leaves it migrated. Close it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.is_postgres = engine.dialect.name == "postgresql"

    @classmethod
    async def open(cls, url: str) -> Database:
        """`sqlite:///path` (made if it is not there) or `postgresql://…`.

        Raises DatabaseError for what only people can mend, and AWAY.
        """
        engine = _engine(url)
        database = cls(engine)
        try:
            await database._migrate()
        except BaseException:
            await engine.dispose()
            raise
        return database

    async def close(self) -> None:
        await self.engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view of everything."""
        async with self.engine.connect() as connection:
            if self.is_postgres:
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                await self._be_patient(connection)
                yield connection

    @asynccontextmanager
    async def writing(self, *, patient: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction; committed, and durable, when the block is left without an error. `patient`: between two of its
        statements there may be more than STALL_SECONDS.
        """
        async with self.engine.connect() as connection:
            await connection.execution_options(onedomain_writes=True)
            async with connection.begin():
                if patient:
                    await self._be_patient(connection)
                yield connection

    async def _be_patient(self, connection: AsyncConnection) -> None:
        if self.is_postgres:
            await connection.execute(text(f"set local {STALLS} = {PATIENT_SECONDS * 1000:.0f}"))

    def upsert(self, table: SqlTable, columns: Collection[str] = ()) -> Insert:
        """INSERT, or UPDATE of all other columns (or those named) where the key is there already."""
        make: Any = postgresql.insert if self.is_postgres else sqlite.insert
        insert = make(table)
        others = {column.name: insert.excluded[column.name] for column in table.columns
                  if (column.name in columns if columns else not column.primary_key)}
        done: Insert = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=others)
        return done

    @property
    def now(self) -> ColumnElement[float]:
        """The database's own clock, in seconds since 1970: leases go by it, as no two machines' clocks agree."""
        if self.is_postgres:
            return literal_column("extract(epoch from clock_timestamp())::double precision", Float())
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float())

    async def notify(self, connection: AsyncConnection) -> None:
        """Tell the listeners once this transaction is committed. SQLite's look for themselves."""
        if self.is_postgres:
            await connection.execute(text("select pg_notify(:channel, '')"), {"channel": CHANNEL})

    @asynccontextmanager
    async def watching(self, poll: float) -> AsyncIterator[Watcher]:
        """Something to wait on for other people's commits."""
        async with self.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            path = Path(self.engine.url.database or "")
            watcher = _Listener(driver, poll) if self.is_postgres else _Poller(driver, poll, path)
            try:
                await watcher.start()
                yield watcher
            finally:
                await connection.invalidate()  # it listens, or is lost: not to go back to the pool

    async def _migrate(self) -> None:
        async with self.engine.connect() as connection:
            if await connection.run_sync(_is_current):
                return
        async with self.writing() as connection:
            # One edge migrates, the others wait here: SQLite's writer lock, or this one.
            if self.is_postgres:
                await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATING})
            if not await connection.run_sync(_is_current):
                await connection.run_sync(_upgrade)


class Watcher:
    """Waits until the database may have changed (True), or for some time in which it did not (False).

    Works on the driver's own connection, outside any transaction: inside one nothing new is seen.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    async def start(self) -> None:
        raise NotImplementedError

    async def wait(self) -> bool:
        raise NotImplementedError


class _Listener(Watcher):
    """LISTEN, with a look every `poll` seconds in case a notification, or the whole connection, was lost unnoticed."""

    def __init__(self, driver: Any, poll: float) -> None:
        super().__init__(driver)
        self._poll = poll
        self._woken = asyncio.Event()

    async def start(self) -> None:
        self._driver.add_termination_listener(lambda *_: self._woken.set())
        await self._driver.add_listener(CHANNEL, lambda *_: self._woken.set())

    async def wait(self) -> bool:
        try:
            await asyncio.wait_for(self._woken.wait(), self._poll)
        except TimeoutError:
            await self._driver.execute("select 1", timeout=CONNECT_SECONDS)
        self._woken.clear()
        return True


class _Poller(Watcher):
    """PRAGMA data_version tells a connection that another one has committed; asking costs some 50 µs. Leases and links
    are saved many times a second: only what stands in `meta`, as changes of the directory do, is worth a closer look.
    """

    PAUSE = 0.1

    def __init__(self, driver: Any, poll: float, path: Path) -> None:
        super().__init__(driver)
        self._rounds = max(1, round(poll / self.PAUSE))
        self._path = path

    async def start(self) -> None:
        self._inode = self._path.stat().st_ino
        self._version = await self._read("pragma data_version")
        self._meta = await self._read("select * from meta")

    async def wait(self) -> bool:
        for _ in range(self._rounds):
            await asyncio.sleep(self.PAUSE)
            if (version := await self._read("pragma data_version")) != self._version:
                self._version = version
                if (meta := await self._read("select * from meta")) != self._meta:
                    self._meta = meta
                    return True
        if self._path.stat().st_ino != self._inode:
            raise OSError("another database file has taken the place of the one that is open")
        return False

    async def _read(self, question: str) -> list[tuple[Any, ...]]:
        async with self._driver.execute(question) as cursor:
            return [tuple(row) for row in await cursor.fetchall()]


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseError("the directory's URL must be sqlite:///path or postgresql://user@host/name") from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgres_engine(parsed)
    raise DatabaseError(f"the directory cannot be in {parsed.get_backend_name()!r}: use sqlite or postgresql")


def _sqlite_engine(url: URL) -> AsyncEngine:
    if not url.database or url.database == ":memory:":
        raise DatabaseError("the directory's URL names no file: sqlite:////var/lib/onedomain/directory.db")
    folder = Path(url.database).parent
    if not folder.is_dir():
        raise DatabaseError(f"{folder} is not a folder: make it, or change the directory's URL")
    _make_file(Path(url.database))
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"), connect_args={"timeout": BUSY_SECONDS, "isolation_level": None}
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        _log_ahead(cursor)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"pragma {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "invalidate")
    def _let_go(connection: Any, _record: object, error: BaseException | None) -> None:
        # Who is cancelled in the middle of a write loses the connection. SQLite keeps a closed one, and its lock on the
        # file, as long as a statement of it has not been collected (sqlite3_close_v2): nobody else could write.
        if isinstance(error, asyncio.CancelledError):
            with suppress(sqlite3.Error, ValueError, asyncio.CancelledError):  # the cancellation goes on by itself
                await_only(asyncio.shield(connection.driver_connection.rollback()))

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE: a transaction that will write waits for its turn here, and not half way through.
        writes = connection.get_execution_options().get("onedomain_writes")
        connection.exec_driver_sql("begin immediate" if writes else "begin")

    return engine


def _log_ahead(cursor: Any) -> None:
    """For this change alone SQLite does not wait for others who open the file at the same moment."""
    for _ in range(int(BUSY_SECONDS / BUSY_PAUSE)):
        try:
            cursor.execute("pragma journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        await_only(asyncio.sleep(BUSY_PAUSE))
    cursor.execute("pragma journal_mode=WAL")


def _make_file(path: Path) -> None:
    """It holds password hashes, so it is its owner's alone; and made by root, it still has to be the edge's."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)
    finally:
        os.close(handle)


def _postgres_engine(url: URL) -> AsyncEngine:
    query = dict(url.query)
    if "sslmode" in query:  # libpq's word for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg", query=query),
        pool_size=4,
        max_overflow=4,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": COMMAND_SECONDS,
            "server_settings": {"application_name": "onedomain"},
        },
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        # Not among the server_settings: PgBouncer refuses connections that begin with a word it doesn't know.
        cursor = connection.cursor()
        cursor.execute(f"set {STALLS} = {STALL_SECONDS * 1000:.0f}")
        cursor.close()
        connection.commit()

    return engine


def _is_current(connection: Connection) -> bool:
    """Whether the tables need nothing. Raises DatabaseError where this program is too old for them."""
    if not inspect(connection).has_table(schema.meta.name):
        return False
    rows = connection.execute(select(schema.meta.c.name, schema.meta.c.number)).all()
    found = {name: int(number) for name, number in rows}
    if found["least"] > schema.SCHEMA:
        raise DatabaseError(
            f"the directory's database has tables of version {found['schema']}, which this program (version"
            f" {schema.SCHEMA}) cannot use any more: install a newer OneDomain"
        )
    return found["schema"] >= schema.SCHEMA


def _upgrade(connection: Connection) -> None:
    # Imported here: it is needed once in a release, and takes a fifth of a second.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
