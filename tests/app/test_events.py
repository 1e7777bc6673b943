"""What a worker tells the linker, and what it hears: tickets, batches, a keeper that is replaced, bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from onedomain.app import events as module
from onedomain.app.events import Events
from onedomain.control.link import LinkError
from onedomain.model.account import Account, Domain, Home, Unit
from onedomain.model.server import Endpoint, Server, ServerClass
from tests.directory.views import book
from tests.queue.fakes import ManualClock

NOWHERE = Endpoint("127.0.0.1", 1)
ANN, BOB, EVE, JOE = "ann@example.com", "bob@example.com", "eve@example.com", "joe@example.com"
LINK: Any = None


class FakeLine:
    def __init__(self) -> None:
        self.connected = True
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.answer: asyncio.Future[Any] | None = None

    def tell(self, verb: str, **arguments: Any) -> None:
        if self.connected:
            self.told.append((verb, arguments))

    async def call(self, verb: str, *, timeout: float, **arguments: Any) -> Any:
        self.told.append((verb, arguments))
        if self.answer is None:
            raise LinkError("nobody there")
        return await self.answer

    @property
    def touched(self) -> list[list[Any]]:
        return [event for verb, said in self.told if verb == "touched" for event in said["events"]]


class FakeNet:
    def __init__(self) -> None:
        self.released: list[tuple[str, list[str], list[str], int]] = []

    def release(self, account: str, confirmed: Iterable[str], consumed: Iterable[str], epoch: int) -> None:
        self.released.append((account, list(confirmed), list(consumed), epoch))

    def held(self, account: str = "") -> dict[str, list[tuple[str, float]]]:
        return {account or ANN: [("id", 1.5)]}


class Stage:
    def __init__(self) -> None:
        self.book = book(
            Account(ANN, "head", Home("s1", ("s2",))), Account(BOB, "head", Home("s1", ("s2",))),
            Account(EVE, "head", Home("s9", ("s2",))), Account(JOE, "head", Home("s1")))
        servers = [Server("s1", "imap", NOWHERE, NOWHERE), Server("s2", "imap", NOWHERE, NOWHERE),
                   Server("s9", "imap", NOWHERE, NOWHERE, class_=ServerClass.FOREIGN)]
        self.book.configure([Domain("example.com", "example.com")], [Unit("head")], servers)
        self.line = FakeLine()
        self.net = FakeNet()
        self.events = Events(self.book, self.line, ManualClock(1000.0), self.net)

    async def covered(self, account: str, ticket: int) -> None:
        await self.events.handlers()["covered"](LINK, account=account, ticket=ticket)

    async def released(self, account: str, **said: Any) -> None:
        await self.events.handlers()["released"](LINK, account=account, **said)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_accounts_without_a_link_cost_nothing(stage: Stage) -> None:
    for account in (JOE, EVE, "nobody@example.com"):
        assert stage.events.changed(account, "STORE", "INBOX") == 0
        assert await stage.events.covered(account, 0, 0)
    await turn()
    assert stage.line.told == []


async def test_a_turn_of_the_loop_is_one_line(stage: Stage) -> None:
    first = stage.events.changed(ANN, "DELIVER", "", ("id1",))
    second = stage.events.changed(BOB, "STORE", "Archive")
    assert second == first + 1 > 1000 * 1_000_000
    assert stage.line.told == []
    await turn()
    assert stage.line.told == [
        ("touched", {"events": [[first, ANN, "DELIVER", "", ["id1"]], [second, BOB, "STORE", "Archive", []]]})]
    stage.events.changed(BOB, "STORE", "Archive")
    await turn()
    assert len(stage.line.told) == 2


async def test_a_line_carries_so_many(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_LINE", 3)
    for number in range(7):
        stage.events.changed(ANN, "STORE", str(number))
    await turn()
    assert [len(said["events"]) for _, said in stage.line.told] == [3, 3, 1]


async def test_waits_until_covered(stage: Stage) -> None:
    first, second = stage.events.changed(ANN, "APPEND", "Sent"), stage.events.changed(ANN, "APPEND", "Sent")
    other = stage.events.changed(BOB, "APPEND", "Sent")
    waits = [asyncio.create_task(stage.events.covered(ANN, ticket, 5)) for ticket in (first, second)]
    waits.append(asyncio.create_task(stage.events.covered(BOB, other, 5)))
    await turn()
    await stage.covered(ANN, first)
    await turn()
    assert [wait.done() for wait in waits] == [True, False, False]
    await stage.covered(ANN, second + 1000)
    assert await waits[0] and await waits[1]
    assert await stage.events.covered(ANN, second, 0), "what is covered stays covered"
    assert not await stage.events.covered(BOB, other, 0.01)
    await stage.covered(BOB, other)
    assert await waits[2]


async def test_a_delivery_is_covered_by_its_release(stage: Stage) -> None:
    stored = stage.events.changed(ANN, "STORE", "INBOX")
    delivered = stage.events.changed(ANN, "DELIVER", "", ("id1",))
    waits = [asyncio.create_task(stage.events.covered(ANN, ticket, 5)) for ticket in (stored, delivered)]
    await turn()
    await stage.released(ANN, confirmed=["id1"], consumed=["id0"])
    assert stage.net.released == [(ANN, ["id1"], ["id0"], 0)]
    await turn()
    assert [wait.done() for wait in waits] == [False, True]
    stage.line.told.clear()
    stage.events.tell_all()
    assert [event[0] for event in stage.line.touched] == [stored]
    await stage.covered(ANN, stored)
    assert await waits[0]


async def test_a_release_of_an_older_epoch_covers_nothing(stage: Stage) -> None:
    delivered = stage.events.changed(ANN, "DELIVER", "", ("id1",))
    await stage.released(ANN, confirmed=["id1"], epoch=7)
    assert not await stage.events.covered(ANN, delivered, 0)
    await stage.released(ANN, confirmed=["id1"], epoch=1)
    assert await stage.events.covered(ANN, delivered, 0)


async def test_a_new_keeper_is_told_all_that_is_open(stage: Stage) -> None:
    stage.line.connected = False
    assert stage.events.trouble(ANN) == "the keeper is not there"
    tickets = [stage.events.changed(account, "STORE", "INBOX") for account in (BOB, ANN, BOB)]
    await turn()
    stage.line.connected = True
    await stage.covered(BOB, tickets[0])
    stage.events.tell_all()
    await turn()
    assert [event[:2] for event in stage.line.touched] == [[tickets[1], ANN], [tickets[2], BOB]]
    await stage.events.handlers()["retell"](LINK)
    assert len(stage.line.touched) == 4


async def test_memory_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_ACCOUNT", 4)
    first = stage.events.changed(ANN, "APPEND", "Sent")
    wait = asyncio.create_task(stage.events.covered(ANN, first, 5))
    await turn()
    tickets = [stage.events.changed(ANN, "STORE", str(number)) for number in range(4)]
    stage.line.told.clear()
    stage.events.tell_all()
    assert stage.line.touched == [[tickets[-1], ANN, "", "", []]]
    await stage.covered(ANN, tickets[0])
    await turn()
    assert not wait.done(), "what was put together with later ones is covered with them"
    assert not await stage.events.covered(ANN, tickets[0], 0)
    await stage.covered(ANN, tickets[-1])
    assert await wait
    monkeypatch.setattr(module, "IN_ALL", 2)
    for account in (ANN, BOB, ANN, BOB, ANN):
        last = stage.events.changed(account, "STORE", "INBOX")
    stage.line.told.clear()
    stage.events.tell_all()
    assert [event[1] for event in stage.line.touched] == [BOB, ANN]
    assert stage.line.touched[-1][0] == last


async def test_a_link_that_stopped_is_not_waited_for(stage: Stage) -> None:
    ticket = stage.events.changed(ANN, "APPEND", "Sent")
    wait = asyncio.create_task(stage.events.covered(ANN, ticket, 5))
    await turn()
    assert stage.events.trouble(ANN) == ""
    await stage.events.handlers()["links"](LINK, stopped=[ANN])
    assert not await wait
    assert not await stage.events.covered(ANN, ticket, 5)
    assert stage.events.trouble(ANN) == "its link has stopped"
    await stage.events.handlers()["links"](LINK, stopped=[])
    assert stage.events.trouble(ANN) == ""
    assert stage.events.trouble(JOE) == "the account has no replica"


async def test_an_account_that_loses_its_replica(stage: Stage) -> None:
    ticket = stage.events.changed(ANN, "APPEND", "Sent")
    wait = asyncio.create_task(stage.events.covered(ANN, ticket, 5))
    await turn()
    stage.events.account_changed(ANN, Account(ANN, "head", Home("s1", (), 2)))
    assert not await wait
    stage.line.told.clear()
    stage.events.tell_all()
    assert stage.line.touched == []


async def test_what_the_net_holds(stage: Stage) -> None:
    assert await stage.events.handlers()["net"](LINK, account=BOB) == {BOB: [("id", 1.5)]}


async def test_the_linker_says_whether_a_message_may_be_tried_and_without_one_mail_goes_on(stage: Stage) -> None:
    for said in (False, True):
        stage.line.answer = asyncio.get_running_loop().create_future()
        stage.line.answer.set_result(said)
        assert await stage.events.may_try(ANN) is said
    stage.line.answer = None
    assert await stage.events.may_try(ANN)
    assert stage.line.told[-1] == ("trying", {"account": ANN})
