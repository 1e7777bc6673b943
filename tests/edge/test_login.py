"""Letting people in: who, how long it takes, what is counted and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from onedomain.backend.base import Backend
from onedomain.directory.delta import Delta
from onedomain.edge.login import (
    TRIES_AT_ONCE,
    WAIT_AT_ONCE,
    WAIT_AT_ONCE_AT_ACCOUNT,
    Admission,
    LoginParts,
    LoginRules,
    LogIns,
)
from onedomain.edge.submission import SubmissionLogIn
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, Kind, again, refuse
from onedomain.model.server import Endpoint, LoginWay, Server
from onedomain.net.shared import SharedTable
from onedomain.protocol.sasl import Credentials
from onedomain.trace.counters import Counters
from tests.directory.views import book, server
from tests.edge.parts import CountingNonce, FakePasswords, Notes, StoppedClock

JOE = Account("joe@example.com", "head", Home("s1"), password="{X}right")
ANN = Account("ann@example.com", "head", Home("s1"))
OFF = Account("off@example.com", "head", Home("s1"), password="{X}right", enabled=False)


class Door:
    """LogIns with time that passes only where somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = StoppedClock()
        self.notes = Notes()
        self.counters = Counters()
        self.passwords = FakePasswords()
        self.failures, self.known = SharedTable(), SharedTable(half_life=86_400.0)
        for table in (self.failures, self.known):
            table.start(0)
        self.entered: list[Admission] = []
        self.book = book(JOE, ANN, OFF)
        parts = LoginParts(
            self.book, self.passwords, self.failures, self.known, self.clock, CountingNonce(), self.notes,
            self.counters,
        )
        self.log_ins = LogIns(parts, LoginRules("example.com"))

        async def sleep(seconds: float) -> None:
            self.clock.now += seconds

        monkeypatch.setattr("onedomain.edge.login.asyncio.sleep", sleep)

    async def enter(self, admission: Admission) -> str:
        self.entered.append(admission)
        if not admission.verified and admission.password != "home's own":
            raise Failed(refuse(535, "5.7.8", "no", "home said no"))
        return "in"

    async def try_(
        self, login: str, password: str, address: str = "192.0.2.1", authorize: str = "",
        enter: Callable[[Admission], Awaitable[Any]] | None = None,
    ) -> tuple[Any, float]:
        """What came of it, and the seconds it took."""
        began = self.clock.now
        try:
            account, result = await self.log_ins.log_in(
                Credentials(login, password, authorize), address, "imap", enter or self.enter
            )
            assert result == "in"
            return account.address, self.clock.now - began
        except Failed as error:
            return error.failure, self.clock.now - began


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(monkeypatch)


async def test_our_own_hash_decides(door: Door) -> None:
    assert await door.try_("joe", "right") == ("joe@example.com", 0.0)
    assert door.entered == [Admission(JOE, "right", True)]
    assert door.notes.events == [
        ("login", {"account": "joe@example.com", "client": "192.0.2.1", "service": "imap", "seconds": 0.0})
    ]


async def test_without_a_hash_the_home_decides(door: Door) -> None:
    assert await door.try_("ann", "home's own") == ("ann@example.com", 0.0)
    assert door.entered == [Admission(ANN, "home's own", False)]
    failure, _ = await door.try_("ann", "guess")
    assert failure.enhanced == "5.7.8"


async def test_who_submits_mail_is_known_where_our_own_hash_has_decided(door: Door) -> None:
    def nowhere(name: str) -> Backend:
        raise AssertionError(f"{name} is not to be asked")

    submission = SubmissionLogIn(door.log_ins, nowhere)
    await door.try_("joe", "right")
    await door.try_("ann", "home's own")
    assert submission.at_once(Credentials("joe", "right"), "192.0.2.1") is JOE
    assert door.notes.named("login")[-1] == {
        "account": "joe@example.com", "client": "192.0.2.1", "service": "submission", "seconds": 0.0}
    assert submission.at_once(Credentials("joe", "wrong"), "192.0.2.1") is None
    assert submission.at_once(Credentials("joe", "right"), "192.0.2.2") is None
    assert submission.at_once(Credentials("ann", "home's own"), "192.0.2.1") is None, "her home decides, each time"
    assert len(door.notes.named("login")) == 3


async def test_nobody_gets_in_where_nobody_would_look_at_the_password(door: Door) -> None:
    """Our own way in is for passwords that we have found right; with any other the home is asked."""
    master = server("s1", login_way=LoginWay.MASTER)
    assert Admission(ANN, "home's own", verified=False).password_for(master) == "home's own"
    assert Admission(JOE, "right", verified=True).password_for(master) is None
    assert Admission(JOE, "right", verified=True).password_for(server("s1")) == "right"


async def test_every_refusal_looks_the_same(door: Door) -> None:
    async def home_says_no(admission: Admission) -> str:
        door.clock.now += 0.7
        raise Failed(refuse(535, "5.7.8", "other words", "home"))

    seen = [
        await door.try_("joe", "guess", "192.0.2.1"),
        await door.try_("nobody", "guess", "192.0.2.2"),
        await door.try_("off", "right", "192.0.2.3"),
        await door.try_("off", "guess", "192.0.2.4"),
        await door.try_("joe", "right", "192.0.2.5", authorize="ann"),
        await door.try_("ann", "guess", "192.0.2.6", enter=home_says_no),
        await door.try_("joe doe@@", "guess", "192.0.2.7"),
    ]
    assert len({(f.kind, f.code, f.enhanced, f.text, round(seconds, 6)) for f, seconds in seen}) == 1
    assert seen[0][0].kind is Kind.REFUSE
    assert len({f.reason for f, _ in seen}) == 5
    assert not any("guess" in str(event) for event in door.notes.events)


async def test_acting_as_oneself_is_fine(door: Door) -> None:
    assert (await door.try_("joe", "right", authorize="Joe@example.com"))[0] == "joe@example.com"


async def test_a_home_that_is_down_counts_as_nobodys_failure(door: Door) -> None:
    async def down(admission: Admission) -> str:
        raise Failed(again(451, "4.4.1", "the mail server does not answer", "dial"))

    for _ in range(20):
        failure, seconds = await door.try_("joe", "right", enter=down)
        assert (failure.kind, seconds) == (Kind.AGAIN, 0.0)


async def test_a_home_that_disagrees_with_our_hash_is_the_operators_fault(door: Door) -> None:
    async def disagrees(admission: Admission) -> str:
        raise Failed(refuse(535, "5.7.8", "no", "wrong"))

    failure, _ = await door.try_("joe", "right", enter=disagrees)
    assert failure.kind is Kind.AGAIN
    assert "right here and wrong at the home" in failure.reason


async def test_guessing_gets_slow_per_address_and_the_rest_of_the_world_does_not(door: Door) -> None:
    times = [(await door.try_(f"u{i}", "guess", "192.0.2.1"))[1] for i in range(12)]
    assert times[:3] == pytest.approx([3.5] * 3)
    assert times[4:] == sorted(times[4:])
    assert times[-1] == pytest.approx(18.5)
    assert await door.try_("joe", "right", "192.0.2.2") == ("joe@example.com", 0.0)
    # One IPv6 subscriber has a whole /64.
    for i in range(12):
        await door.try_(f"v{i}", "guess", f"2001:db8:1:1::{i}")
    assert (await door.try_("joe", "right", "2001:db8:1:1::ffff"))[1] == 15.0
    assert (await door.try_("joe", "right", "2001:db8:1:2::1"))[1] == 0.0


async def test_guessing_on_many_connections_at_once_is_no_faster(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(12):
        await door.try_("joe", f"guess{i}")
    going_on = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds > 10:
            await going_on.wait()

    monkeypatch.setattr("onedomain.edge.login.asyncio.sleep", sleep)
    tries = [asyncio.ensure_future(door.try_("joe", f"more{i}")) for i in range(WAIT_AT_ONCE + 50)]
    put_off = [(await one)[0] for one in tries[WAIT_AT_ONCE:]]
    assert {failure.kind for failure in put_off} == {Kind.AGAIN}
    assert (await door.try_("ann", "home's own", "192.0.2.99"))[0] == "ann@example.com", "others are not put off"
    going_on.set()
    assert {(await one)[0].kind for one in tries[:WAIT_AT_ONCE]} == {Kind.REFUSE}
    assert (await door.try_("joe", "right"))[0] == "joe@example.com", "whoever is put off may come again"


async def others() -> None:
    """One turn of the loop for all other tasks; `sleep` is the clock's here."""
    loop = asyncio.get_running_loop()
    turn = loop.create_future()
    loop.call_soon(turn.set_result, None)
    await turn


class Burst:
    """Many tries in the same moment, none of which gets past its password before all have begun."""

    def __init__(self, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checked = 0
        going_on = asyncio.Event()
        self.waits: list[float] = []

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            await going_on.wait()

        async def enter(admission: Admission) -> str:
            self.checked += 1
            for _ in range(10):
                await others()
            return await door.enter(admission)

        monkeypatch.setattr("onedomain.edge.login.asyncio", _With(sleep))
        self.door, self.enter = door, enter

    async def tries(self, *tries: tuple[str, str]) -> int:
        """(login, address) of each; how many passwords were looked at before anybody had to wait out anything."""
        tasks = [asyncio.ensure_future(self.door.try_(login, f"guess{i}", address, enter=self.enter))
                 for i, (login, address) in enumerate(tries)]
        for _ in range(50 * len(tries)):
            await others()
        checked = self.checked
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return checked


class _With:
    """asyncio with another sleep."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


async def test_a_thousand_guesses_in_one_moment_at_one_account(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    burst = Burst(door, monkeypatch)
    checked = await burst.tries(*(("ann", f"203.0.{i // 250}.{i % 250}") for i in range(300)))
    assert checked <= 5 + TRIES_AT_ONCE
    # Refusals are 3.5 s from the beginning, so that some are slept a little shorter.
    assert len([wait for wait in burst.waits if not 3 < wait <= 3.5]) <= WAIT_AT_ONCE_AT_ACCOUNT
    assert not len(door.log_ins._turns) and not door.log_ins._waiting


async def test_a_thousand_guesses_in_one_moment_from_one_address(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.book.apply(Delta(9, accounts=tuple(replace(ANN, address=f"a{i}@example.com") for i in range(300))))
    burst = Burst(door, monkeypatch)
    assert await burst.tries(*((f"a{i}", "203.0.113.7") for i in range(300))) <= 3 + TRIES_AT_ONCE
    assert not len(door.log_ins._turns) and not door.log_ins._waiting


async def test_a_thousand_guesses_in_one_moment_from_a_known_address(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner's neighbour behind the same address."""
    await door.try_("ann", "home's own", "203.0.113.7")
    burst = Burst(door, monkeypatch)
    assert await burst.tries(*[("ann", "203.0.113.7")] * 300) <= 3 + TRIES_AT_ONCE


async def test_many_addresses_of_one_network_count_together(door: Door) -> None:
    times = [(await door.try_(f"u{i}", "guess", f"2001:db8:1:{i:x}::1"))[1] for i in range(20)]
    assert times[:10] == pytest.approx([3.5] * 10)
    assert times[-1] == pytest.approx(18.5)
    assert (await door.try_("joe", "right", "2001:db8:1:ffff::1"))[1] == 15.0
    assert (await door.try_("joe", "right", "2001:db8:2::1"))[1] == 0.0


async def test_a_home_that_is_slow_keeps_nobody_from_another(door: Door) -> None:
    """Passwords that we have found right ourselves don't stand in the way of others' at the same address."""
    hangs = asyncio.Event()

    async def enter(admission: Admission) -> str:
        await hangs.wait()
        return "in"

    slow = [asyncio.ensure_future(door.try_("joe", "right", enter=enter)) for _ in range(20)]
    assert (await asyncio.wait_for(door.try_("ann", "home's own"), 5))[0] == "ann@example.com"
    hangs.set()
    assert {(await one)[0] for one in slow} == {"joe@example.com"}


async def test_guessing_at_one_account_from_everywhere_does_not_lock_its_owner_out(door: Door) -> None:
    await door.try_("joe", "right", "198.51.100.7")
    for i in range(40):
        await door.try_("joe", f"guess{i}", f"203.0.113.{i}")
    assert await door.try_("joe", "right", "198.51.100.7") == ("joe@example.com", 0.0)
    new_place, seconds = await door.try_("joe", "right", "198.51.100.8")
    assert (new_place, seconds) == ("joe@example.com", 15.0)
    # A name that nobody has slows down in the same way.
    for i in range(40):
        await door.try_("nobody", f"guess{i}", f"203.0.113.{i + 50}")
    assert (await door.try_("nobody", "x", "198.51.100.9"))[1] == pytest.approx(18.5)


async def test_log_ins_are_counted_by_what_came_of_them(door: Door) -> None:
    async def down(admission: Admission) -> str:
        raise Failed(again(454, "4.7.0", "later", "the home is down"))

    await door.try_("joe", "right")
    await door.try_("joe", "wrong")
    await door.try_("joe", "right", enter=down)
    assert [(labels["result"], value) for _, labels, value, _ in sorted(door.counters.dump(), key=str)] == [
        ("failed", 1), ("ok", 1), ("refused", 1)]


async def test_waits_fade(door: Door) -> None:
    for i in range(12):
        await door.try_(f"u{i}", "guess")
    door.clock.now += 3600.0
    assert await door.try_("joe", "right") == ("joe@example.com", 0.0)


async def test_one_device_with_an_old_password_counts_once(door: Door) -> None:
    for _ in range(4):
        assert (await door.try_("joe", "old"))[1] == pytest.approx(3.5)
        door.clock.now += 60.0
    assert door.failures.penalty("login from 192.0.2.1", door.clock.now) < 1.0


async def test_a_right_password_is_not_hashed_again_for_a_while(door: Door) -> None:
    await door.try_("joe", "right")
    await door.try_("joe", "right")
    assert door.passwords.checked == 1
    await door.try_("joe", "wrong")
    assert door.passwords.checked == 2
    door.clock.now += 3590.0
    await door.try_("joe", "right")
    assert door.passwords.checked == 2
    door.clock.now += 10.0
    await door.try_("joe", "right")
    assert door.passwords.checked == 3
    assert b"right" not in b"".join(door.log_ins._right)


async def test_a_changed_password_is_not_remembered(door: Door) -> None:
    await door.try_("joe", "right")
    changed = Account("joe@example.com", "head", Home("s1"), password="{X}new")
    assert not await door.log_ins._is_right(changed, "right")


async def test_what_is_remembered_has_a_limit(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.edge.login.REMEMBERED", 3)
    for i in range(6):
        await door.try_("joe", f"guess{i}", f"203.0.113.{i}")
    assert len(door.log_ins._wrong) == 3


async def test_hashing_is_bounded(door: Door) -> None:
    assert len(await asyncio.gather(*(door.try_("joe", f"guess{i}", f"203.0.113.{i}") for i in range(12)))) == 12
    assert 1 <= door.passwords.most_at_once <= 4


@pytest.mark.parametrize(
    "way, verified, given",
    [
        (LoginWay.PASSWORD, True, "pw"),
        (LoginWay.PASSWORD, False, "pw"),
        (LoginWay.MASTER, True, None),
        (LoginWay.MASTER, False, "pw"),
        (LoginWay.AUTHZID, True, None),
        (LoginWay.AUTHZID, False, "pw"),
    ],
)
def test_an_unchecked_password_always_reaches_the_home(way: LoginWay, verified: bool, given: str | None) -> None:
    server = Server("s", "dovecot", Endpoint("h", 1), Endpoint("h", 2), login_way=way)
    admission = Admission(JOE, "pw", verified)
    assert admission.password_for(server) == given
    assert "pw" not in repr(admission)
