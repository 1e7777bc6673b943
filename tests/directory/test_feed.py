"""The book follows the database: within a second, over its death, and from the local snapshot while it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from onedomain.app.real import RealClock, RealNonce
from onedomain.directory import feed
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.directory.feed import Feed
from onedomain.directory.repository import Repository
from onedomain.directory.snapshot import Snapshot
from onedomain.model.account import Account, Alias, Home
from onedomain.store import schema
from onedomain.store.sql import Database
from tests.directory.views import account
from tests.lab.postgres import Postgres

TARO = account("taro@example.com")
HANA = account("hana@example.com")


class Notes:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def count(self, name: str) -> int:
        return sum(event == name for event, _ in self.events)


class Edge:
    """What the keeper of one edge has of the directory, and the book of one worker fed by it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.book = Book([], [], [])
        self.worker = Book([], [], [])
        self.notes = Notes()
        self.changed = asyncio.Event()
        self.ended: list[str] = []
        snapshot = Snapshot(folder / "snapshot")
        clock, nonce = RealClock(), RealNonce()
        self.feed = Feed(
            lambda: Database.open(url), self.book, snapshot, self.publish, clock=clock, nonce=nonce, trace=self.notes
        )

    def publish(self, delta: Delta, ended: tuple[str, ...]) -> None:
        self.worker.apply(Delta.decode(delta.encode()))
        self.ended += ended
        self.changed.set()

    async def sees(self, key: str, wanted: Callable[[Account | None], bool], within: float = 1.0) -> None:
        async with asyncio.timeout(within):
            while not wanted(self.worker.account(key)):
                self.changed.clear()
                await self.changed.wait()


    async def settled(self, within: float = 5.0) -> None:
        """Connected, and with a snapshot on disk."""
        async with asyncio.timeout(within):
            while not self.feed.connected:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(edge: Edge) -> AsyncIterator[Edge]:
    task = asyncio.create_task(edge.feed.run())
    try:
        yield edge
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def there(row: Account | None) -> bool:
    return row is not None


def gone(row: Account | None) -> bool:
    return row is None


async def write(repository: Repository, *rows: Account | Alias) -> None:
    async with repository.writing() as writer:
        for row in rows:
            if isinstance(row, Account):
                await writer.add_account(row)
            else:
                await writer.set_alias(row)


async def test_a_change_reaches_every_edge_within_a_second(
    repository: Repository, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "1").mkdir(), (tmp_path / "2").mkdir()
    await write(repository, TARO, Alias("info@example.com", (TARO.address,)))
    async with running(Edge(database_url, tmp_path / "1")) as one, running(Edge(database_url, tmp_path / "2")) as two:
        await asyncio.gather(one.feed.loaded(), two.feed.loaded())
        assert one.worker.account(TARO.address) == TARO and one.worker.alias("info@example.com")
        start = time.monotonic()
        await write(repository, HANA)
        await asyncio.gather(*(edge.sees(HANA.address, there) for edge in (one, two)))
        async with repository.writing() as writer:
            await writer.remove_account(TARO.address)
        await asyncio.gather(*(edge.sees(TARO.address, gone) for edge in (one, two)))
        assert time.monotonic() - start < 1.0
        assert one.ended == two.ended == [TARO.address]
        assert one.feed.connected and (one.feed.age or 0) < 1


async def test_followers_far_behind_read_everything(
    repository: Repository, database_url: str, tmp_path: Path
) -> None:
    await write(repository, TARO)
    async with running(Edge(database_url, tmp_path)) as edge:
        await edge.settled()
    await write(repository, HANA)
    async with repository.writing() as writer:
        await writer.remove_account(TARO.address)
    await repository.prune(keep=0)
    async with running(Edge(database_url, tmp_path)) as edge:
        await edge.sees(HANA.address, there)
        assert edge.worker.account(TARO.address) is None
        assert not edge.notes.count("directory from snapshot")


async def test_at_a_start_the_database_is_asked_before_anybody_is_answered(
    repository: Repository, database_url: str, tmp_path: Path
) -> None:
    """Else the first mail after a restart goes by a forward or a home of before it."""
    await write(repository, TARO)
    async with running(Edge(database_url, tmp_path)) as edge:
        await edge.settled()
    moved = replace(TARO, home=Home("s2", (), 2), forward_to=("elsewhere@example.net",), keep_copy=True)
    async with repository.writing() as writer:
        await writer.set_account(moved)
    async with running(Edge(database_url, tmp_path)) as edge:
        await edge.feed.loaded()
        assert edge.book.account(TARO.address) == moved
        assert not edge.notes.count("directory from snapshot")
        await edge.settled()
    head, _ = Snapshot(tmp_path / "snapshot").read() or (None, None)
    assert head and time.time() - head.at < 5


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refusing"])
async def test_a_database_that_does_not_answer_is_not_waited_for_long(
    repository: Repository, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    await write(repository, TARO)
    async with running(Edge(database_url, tmp_path)) as edge:
        await edge.settled()
    edge = Edge(database_url, tmp_path)
    answers = asyncio.Event()

    async def away(url: str) -> Database:
        if silent:
            await answers.wait()
        if not answers.is_set():
            raise ConnectionRefusedError
        return await opened(url)

    opened = Database.open
    monkeypatch.setattr(Database, "open", away)
    monkeypatch.setattr(feed, "ASK_FIRST", 0.3)
    began = time.monotonic()
    async with running(edge):
        async with asyncio.timeout(10):
            await edge.feed.loaded()
        assert time.monotonic() - began >= 0.3
        assert edge.book.account(TARO.address) == TARO and not edge.feed.connected
        assert edge.notes.count("directory from snapshot") == 1
        answers.set()
        await edge.settled(10)


async def test_an_edge_restarted_while_the_database_is_down(
    start_postgres: Callable[..., Postgres], tmp_path: Path
) -> None:
    """And another one that goes on, and both hear of what was changed as soon as it is back."""
    postgres = start_postgres()
    url = postgres.url(postgres.create_database())
    (tmp_path / "1").mkdir(), (tmp_path / "2").mkdir()
    database = await Database.open(url)
    await write(Repository(database, RealClock()), TARO)
    await database.close()
    async with running(Edge(url, tmp_path / "2")) as two:
        async with running(Edge(url, tmp_path / "1")) as one:
            await asyncio.gather(one.settled(), two.settled())
        postgres.kill()
        async with running(Edge(url, tmp_path / "1")) as one:
            await one.feed.loaded()
            assert one.worker.account(TARO.address) == TARO
            assert not one.feed.connected and one.feed.age is not None
            assert two.worker.account(TARO.address) == TARO
            async with asyncio.timeout(5):
                while two.feed.connected:
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(postgres.start)
            database = await Database.open(url)
            await write(Repository(database, RealClock()), HANA)
            await database.close()
            await asyncio.gather(one.sees(HANA.address, there, 5), two.sees(HANA.address, there, 5))
            assert two.notes.count("directory away") == 1, "one line for one outage"


async def test_a_lost_commit_brings_no_old_home_back(database: Database, database_url: str, tmp_path: Path) -> None:
    repository = Repository(database, RealClock())
    await write(repository, TARO)
    async with running(Edge(database_url, tmp_path)) as edge:
        await edge.feed.loaded()
        async with repository.writing() as writer:
            await writer.set_account(replace(TARO, home=Home("s2", (), 1)))
        await edge.sees(TARO.address, lambda row: row is not None and row.home == Home("s2", (), 2))
        async with database.writing() as connection:
            old = schema.account.update().values(primary_server="s1", epoch=1)
            await connection.execute(old)
            await connection.execute(schema.change.delete().where(schema.change.c.seq > 1))
            await connection.execute(update(schema.meta).where(schema.meta.c.name == "seq").values(number=1))
            await database.notify(connection)
        async with asyncio.timeout(2):
            while edge.worker.seq != 1:
                edge.changed.clear()
                await edge.changed.wait()
        found = edge.worker.account(TARO.address)
        assert found is not None and found.home == Home("s2", (), 2)
        assert edge.worker.conflicts and edge.book.conflicts


async def test_an_empty_file_in_place_of_the_directory_is_not_believed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    database = await Database.open(url)
    await write(Repository(database, RealClock()), TARO)
    await database.close()
    async with running(Edge(url, tmp_path)) as edge:
        await edge.settled()
    for file in tmp_path.glob("d.db*"):
        file.unlink()
    async with running(Edge(url, tmp_path)) as edge:
        async with asyncio.timeout(5):
            while not edge.notes.count("directory away"):
                await asyncio.sleep(0.02)
        assert edge.worker.account(TARO.address) == TARO
        assert "empty database" in edge.notes.events[-1][1]["reason"]


@pytest.mark.slow
async def test_100_000_accounts_from_the_database(repository: Repository, database_url: str, tmp_path: Path) -> None:
    hashed = "$argon2id$v=19$m=65536,t=3,p=4$" + "s" * 22 + "$" + "h" * 43
    rows = [Account(f"user{i}@example.com", "head", Home(f"s{i % 3}"), password=hashed) for i in range(100_000)]
    async with repository.writing() as writer:
        await writer.put_many(rows)
    start = time.process_time()
    async with running(Edge(database_url, tmp_path)) as edge:
        async with asyncio.timeout(60):
            await edge.feed.loaded()
        cost = time.process_time() - start
        assert len(edge.book) == len(edge.worker) == 100_000
    print(f"100,000 accounts: {cost:.1f} s of CPU, encoding and a worker's book included")
    assert cost < 20
