"""The directory in its database: the same on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from onedomain.app.real import RealClock
from onedomain.directory.book import Book
from onedomain.directory.repository import Conflict, Edge, Repository, next_home
from onedomain.model.account import Account, Alias, Home
from onedomain.store.sql import Database
from tests.directory.views import account, book

TARO = Account(
    address="taro+箱@example.com",
    unit="head",
    home=Home("s1", ("s2", "s3"), 1),
    mailbox="taro",
    password="{SHA}x'\"",
    forward_to=("a@b.example", "モモ@c.example"),
    keep_copy=False,
)
HANA = account("hana@example.com", enabled=False)
INFO = Alias("info@example.com", (TARO.address, "x@y.example"))


async def changed(repository: Repository, book: Book) -> Book:
    """Apply what the log has."""
    while delta := await repository.changes(book.seq, rows=2):
        book.apply(delta)
    return book


async def loaded(repository: Repository) -> Book:
    fresh = Book([], [], [])
    async for delta in repository.whole(rows=1):
        fresh.apply(delta)
    return fresh


def content(book: Book) -> tuple[object, ...]:
    whole = book.whole()
    return sorted(whole.accounts, key=str), sorted(whole.aliases, key=str), whole.draining, whole.seq


async def test_rows_come_back_as_they_went(repository: Repository) -> None:
    async with repository.writing() as writer:
        assert await writer.add_account(TARO) == TARO
        await writer.add_account(HANA)
        await writer.add_alias(INFO)
        await writer.set_draining("s1", True)
    assert await repository.account(TARO.address) == TARO
    assert await repository.accounts() == [HANA, TARO]
    assert await repository.alias(INFO.address) == INFO
    assert await repository.aliases() == [INFO]
    assert await repository.aliases_to(TARO.address) == [INFO]
    assert await repository.aliases_to("aro+箱@example.com") == []
    assert await repository.draining() == ("s1",)
    assert await repository.count() == {("head", "s1"): 2}


async def test_filters(repository: Repository) -> None:
    rows = [account("a_1@example.com"), replace(account("ab1@example.com"), unit="sales", home=Home("s2"))]
    async with repository.writing() as writer:
        await writer.put_many(rows)
    assert await repository.accounts(unit="sales") == [rows[1]]
    assert await repository.accounts(server="s1") == [rows[0]]
    assert await repository.accounts(matching="A_1") == [rows[0]]
    assert await repository.accounts(matching="%") == []


async def test_one_address_has_one_owner(repository: Repository) -> None:
    async with repository.writing() as writer:
        await writer.add_account(HANA)
        await writer.add_alias(INFO)
    for action, reason in (
        (lambda w: w.add_account(HANA), "exists"),
        (lambda w: w.add_account(account(INFO.address)), "taken"),
        (lambda w: w.add_alias(INFO), "exists"),
        (lambda w: w.set_alias(Alias(HANA.address, ("a@b.example",))), "taken"),
        (lambda w: w.set_account(TARO), "missing"),
        (lambda w: w.remove_account(TARO.address), "missing"),
        (lambda w: w.remove_alias("nix@example.com"), "missing"),
    ):
        with pytest.raises(Conflict) as caught:
            async with repository.writing() as writer:
                await writer.set_draining("s9", True)
                await action(writer)
        assert caught.value.reason == reason
    assert await repository.draining() == (), "all or nothing"
    assert (await repository.version()).seq == 2


async def test_the_epoch_grows_at_every_change_of_home_and_survives_removal(repository: Repository) -> None:
    async def write(row: Account) -> int:
        async with repository.writing() as writer:
            return (await writer.set_account(row)).home.epoch

    async with repository.writing() as writer:
        await writer.add_account(TARO)
    assert await write(replace(TARO, unit="sales")) == 1
    assert await write(replace(TARO, home=Home("s2", ("s1",), 1))) == 2
    assert await write(replace(TARO, home=Home("s2", ("s1",), 99))) == 2, "nobody sets an epoch by hand"
    assert await write(replace(TARO, home=Home("s2", (), 2))) == 3
    async with repository.writing() as writer:
        await writer.remove_account(TARO.address)
    async with repository.writing() as writer:
        assert (await writer.add_account(TARO)).home.epoch == 4


def test_next_home() -> None:
    pending = Home("a", ("b",), 5, pending=True, no_modseq=True)
    assert next_home(pending, Home("a", ("b", "c"), 5)) == Home("a", ("b", "c"), 5, True, True), "the promotion's epoch"
    assert next_home(pending, replace(pending, replicas=())) == replace(pending, replicas=())
    assert next_home(pending, replace(pending, primary="b", replicas=())) == Home("b", (), 6, no_modseq=True)
    shown = Home("a", ("b",), 5, no_modseq=True, shown="9 5:7", uidl="%u", modseq_of="z")
    assert next_home(shown, Home("a", ("c",), 5)) == replace(shown, replicas=("c",), epoch=6)
    assert next_home(Home("a", (), 5), Home("a", (), 1)) == Home("a", (), 5)
    assert next_home(Home("a", ("b",), 5), Home("b", ("a",), 5)) == Home("b", ("a",), 6)


async def test_followers_see_every_change_in_order(repository: Repository) -> None:
    follower = Book([], [], [])
    async with repository.writing() as writer:
        await writer.put_many([TARO, HANA], [INFO])
        await writer.set_draining("s1", True)
    await changed(repository, follower)
    assert content(follower) == content(await loaded(repository))
    assert follower.seq == 4
    async with repository.writing() as writer:
        await writer.remove_account(HANA.address)
        await writer.remove_alias(INFO.address)
        await writer.set_draining("s1", False)
        await writer.set_account(replace(TARO, unit="sales"))
        await writer.set_account(replace(TARO, unit="branch"))
    await changed(repository, follower)
    assert content(follower) == content(await loaded(repository))
    assert follower.seq == 8, "two changes of one row in one transaction are one"
    assert await repository.changes(8) is None


async def test_no_change_no_line(repository: Repository) -> None:
    async with repository.writing() as writer:
        await writer.add_account(TARO)
    async with repository.writing() as writer:
        await writer.set_account(TARO)
    assert (await repository.version()).seq == 1


async def test_a_reader_never_passes_a_writer_that_commits_later(database: Database) -> None:
    """A sequence would give numbers in the order of their taking; whoever commits later would be missed."""
    repository = Repository(database, RealClock())
    inside, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with repository.writing() as writer:
            await writer.add_account(TARO)
            inside.set()
            await leave.wait()

    async def second() -> None:
        await inside.wait()
        async with repository.writing() as writer:
            await writer.add_account(HANA)

    tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
    await inside.wait()
    await asyncio.sleep(0.05)  # the second one's chance to be wrong
    assert await repository.changes(0) is None
    leave.set()
    await asyncio.gather(*tasks)
    follower = await changed(repository, Book([], [], []))
    assert {row.address for row in follower.accounts()} == {TARO.address, HANA.address}


async def test_a_log_that_was_cut_says_where_it_begins(repository: Repository) -> None:
    assert (await repository.version()).oldest == 1
    async with repository.writing() as writer:
        await writer.put_many([account(f"a{i}@example.com") for i in range(10)])
    assert (await repository.version()).oldest == 1
    assert await repository.prune(keep=3) == 7
    version = await repository.version()
    assert (version.oldest, version.seq) == (8, 10)
    assert await repository.prune(keep=0) == 3
    assert (await repository.version()).oldest == 11


async def test_who_is_cancelled_in_a_change_holds_up_nobody(repository: Repository, database_url: str) -> None:
    """Whichever statement it was in, and also as long as somebody still looks at how it ended."""
    database = await Database.open(database_url)
    other = Repository(database, RealClock())
    ended = []
    for moment in range(100):
        task = asyncio.create_task(other.prune())
        await asyncio.sleep(moment * 0.00005)
        task.cancel()
        ended += await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            await repository.prune()
    await database.close()
    assert any(isinstance(one, asyncio.CancelledError) for one in ended)


async def test_edges(repository: Repository) -> None:
    one = Edge("mx1.example.com", "10.0.0.1:7465", "PEM", 12.5)
    await repository.put_edge(one)
    await repository.put_edge(replace(one, seen=13.5))
    await repository.put_edge(replace(one, name="mx2.example.com"))
    assert [edge.seen for edge in await repository.edges()] == [13.5, 12.5]
    assert (await repository.version()).seq == 0


def test_views_used_here_are_what_they_seem() -> None:
    assert content(book(HANA))[0] == [HANA]
