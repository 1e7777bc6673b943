"""Failover, promotions and returns in virtual time: servers die and come back, the linker dies anywhere, the database
is away now and then; the mail is counted by those who delivered it. A failing seed replays (ONEDOMAIN_SEED).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from onedomain.app.promotions import NOT_OURS, copy_of
from onedomain.decision.link.growth import STORED
from onedomain.decision.link.identity import identity_of
from onedomain.decision.link.succession import Waits
from onedomain.decision.net import TRY_SECONDS
from onedomain.directory.leases import EdgeLease
from onedomain.directory.links import SavedLink
from onedomain.directory.promotions import Promoted, Settled, swapped
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, again
from onedomain.model.health import Verdict
from onedomain.model.replica import LinkState
from onedomain.model.server import Endpoint, Server
from onedomain.replica.failover import Failover
from onedomain.replica.promoting import Means
from onedomain.replica.world import Copy, Rules, Sight, World

from ..health.virtual import VirtualClock, run
from ..simulation.seeds import seeds
from .kit import Town

HOLD = 2.0
AWAY = Failed(again(451, "4.3.0", "the database is away"))
SERVERS = {name: Server(name, "dovecot", Endpoint("h", 1), Endpoint("h", 2)) for name in "ab"}


@dataclass
class Realm:
    """The directory with its promotions, a linker that may be killed, and those who deliver."""

    town: Town
    dice: random.Random
    away: float = 0.0
    rows: dict[tuple[str, int], Promoted] = field(default_factory=dict)
    delivered: dict[str, list[str]] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    running: asyncio.Task[None] | None = None
    failover: Failover | None = None
    down_since: dict[str, float] = field(default_factory=dict)
    held: dict[str, set[str]] = field(default_factory=dict)  # by safety nets, and to be put onto a new primary
    nets: set[asyncio.Task[None]] = field(default_factory=set)
    telling: asyncio.Task[None] | None = None
    stopped: set[str] = field(default_factory=set)   # as workers know them
    waiting: list[tuple[str, int, bytes, float]] = field(default_factory=list)  # APPENDs whose OK is held, since when
    let_go: dict[str, int] = field(default_factory=dict)
    stored: dict[str, list[bytes]] = field(default_factory=dict)         # whose client has heard OK

    # the database

    async def _answer(self) -> None:
        await asyncio.sleep(self.dice.random() * 0.01)
        if self.dice.random() < self.away:
            raise AWAY

    async def promote_server(
        self, dead: str, choose: Callable[[Account], str], cause: str
    ) -> tuple[list[Promoted], int]:
        there = [name for name, each in self.town.accounts.items() if each.home.primary == dead]
        return await self.promote_accounts(there, choose, cause)

    async def promote_accounts(
        self, addresses: Collection[str], choose: Callable[[Account], str], cause: str
    ) -> tuple[list[Promoted], int]:
        await self._answer()
        made = []
        for name in addresses:
            account = self.town.accounts[name]
            if (new := choose(account)) not in account.home.replicas:
                continue
            home = swapped(account.home, new)
            state = self.town.saved.get(name) if self.town.epochs.get(name) == account.home.epoch else None
            each = Promoted(name, home.epoch, account.home.primary, new, cause, VirtualClock().time(), state)
            self.rows[name, home.epoch] = each
            made.append(replace(each, state=None))
            self._changed(replace(account, home=home))
        await self._answer()  # committed, and the answer may be lost
        return made, 1

    async def take_back(self, olds: Mapping[str, str], cause: str) -> list[Promoted]:
        await self._answer()
        taken = []
        for name, old in olds.items():
            account = self.town.accounts[name]
            home = account.home
            row = self.rows.get((name, home.epoch))
            if row is None or row.settled or row.old != old or old not in home.replicas:
                continue
            del self.rows[name, home.epoch]
            again = replace(swapped(home, row.old), pending=False)
            taken.append(Promoted(name, again.epoch, row.new, row.old, cause, VirtualClock().time()))
            if row.state is not None:
                self.town.saved[name], self.town.epochs[name] = row.state, again.epoch
            self._changed(replace(account, home=again))
        await self._answer()  # written, and the answer may be lost
        return taken

    def _changed(self, account: Account) -> None:
        self.town.accounts[account.address] = account
        if self.failover is not None:
            self.relink(account.address)

    async def save_state(self, account: str, epoch: int, state: LinkState) -> None:
        await self._answer()
        if (account, epoch) not in self.rows:
            raise Failed(NOT_OURS)
        self.rows[account, epoch] = replace(self.rows[account, epoch], state=state)

    async def settle(self, settled: Sequence[Settled]) -> frozenset[str]:
        await self._answer()
        written = set()
        for each in settled:
            account = self.town.accounts[each.account]
            if not account.home.pending or account.home.epoch != each.epoch:
                continue  # taken back
            written.add(each.account)
            now = VirtualClock().time()
            self.rows[each.account, each.epoch] = replace(
                self.rows[each.account, each.epoch], result=each.result, settled=now)
            self.rescue(account.address)
            self._changed(replace(account, home=replace(account.home, pending=False)))
        return frozenset(written)

    async def returned(
        self, account: str, epoch: int, link: SavedLink | None, added: int = 0, aside: int = 0
    ) -> bool:
        await self._answer()
        assert link is not None and link.epoch == self.town.accounts[account].home.epoch
        self.rows[account, epoch] = replace(
            self.rows[account, epoch], returned=VirtualClock().time(), added=added, aside=aside)
        self.town.saved[account], self.town.epochs[account] = link.state, link.epoch
        return True

    async def left(self, account: str, server: str) -> LinkState | None:
        await self._answer()
        rows = [each for (name, _), each in sorted(self.rows.items()) if (name, each.old) == (account, server)]
        return rows[-1].state if rows else None

    async def details(self, account: str, epoch: int) -> Promoted | None:
        await self._answer()
        return self.rows.get((account, epoch))

    async def pending(self) -> list[Promoted]:
        await self._answer()
        return [replace(each, state=None, result=None) for each in self.rows.values() if not each.settled]

    async def unreturned(self) -> list[Promoted]:
        await self._answer()
        return [replace(each, state=None, result=None)
                for each in self.rows.values() if each.settled and not each.returned]

    async def recent(self, since: float) -> list[Promoted]:
        return list(self.rows.values())

    async def edges(self) -> Sequence[EdgeLease]:
        await self._answer()
        return ()

    async def last(self) -> int:
        return 1

    # the linker

    def relink(self, address: str, even: bool = False) -> None:
        for account in self.town.accounts.values():
            if address in ("", account.address):
                assert self.failover is not None
                self.town.links.configure(account, linked=True, paused=not self.failover.may_link(account), even=even,
                                          returned=bool(address))

    def start(self) -> None:
        town = self.town
        town.links = town.new_links()
        means = Means(
            view=self, servers=lambda name: town.pools[name], usable=lambda name: name not in town.down,  # type: ignore[arg-type]
            quiet=lambda account: town.links.quiet(account), allowed=lambda *asked: town.links.allowed(*asked),
            sent=lambda account: town.links.sent(account),
            aside=town.aside, alert=town.outlet.alert,
            clock=VirtualClock(), trace=town.log, count=town.log, may_write=lambda: True)
        world = World(
            accounts=lambda server: [one for one in town.accounts.values() if one.home.primary == server],
            primaries=lambda: {one.home.primary for one in town.accounts.values()},
            copy=self._copy, held=lambda account: dict.fromkeys(self.held.get(account, ()), "e1"),
            promoted=lambda account: town.links.promoted(account), down_since=self.down_since.get,
            observe=self._observe, applied=self._applied, relink=self.relink)
        self.failover = Failover(means, self, world, Rules(True, Waits(2.0, 0.5, 3.0)))
        self.relink("")
        self.telling = asyncio.get_running_loop().create_task(self._tell_stopped())
        self.running = asyncio.get_running_loop().create_task(self._run(self.failover))

    async def _run(self, failover: Failover) -> None:
        """As app/linker.py does it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(failover.run())
            await failover.loaded()
            for name, state in self.town.saved.items():
                if self.town.epochs[name] == self.town.accounts[name].home.epoch:
                    self.town.links.known(name, state)
            self.town.links.start()

    async def _tell_stopped(self) -> None:
        """As app/linker.py does it; workers hear of it a moment later."""
        while True:
            await asyncio.sleep(0.2)
            assert self.failover is not None
            stopped = {*self.town.links.stopped(), *self.failover.unlinked()}
            self.town.links.stopped_told(stopped)
            await asyncio.sleep(0.01)
            self.stopped = stopped

    async def kill(self) -> None:
        assert self.running is not None and self.telling is not None
        self.telling.cancel()
        self.running.cancel()
        await asyncio.wait([self.running])
        if not self.running.cancelled():
            raise AssertionError("the failover ended by itself") from self.running.exception()
        await self.town.links.stop()

    def account(self, key: str) -> Account | None:
        return self.town.accounts.get(key)

    def server(self, name: str) -> Server | None:
        return SERVERS.get(name)

    def _copy(self, account: str) -> Copy | None:
        found = copy_of(self.town.links, account)
        return replace(found, held={}) if found is not None else None

    async def _observe(self, server: str) -> Sight:
        await asyncio.sleep(0.01)
        return Sight(frozenset({"e1"}), {"e1": Verdict.REFUSING if server in self.town.down else Verdict.UP},
                     frozenset({"e1"}))

    async def _applied(self, seq: int) -> bool:
        await asyncio.sleep(0.001)
        return True

    # the mail

    def deliver(self, name: str) -> None:
        home = self.town.accounts[name].home
        if home.pending or home.primary in self.town.down:
            return  # it waits in the spool
        each = self.town.deliver(name, server=home.primary)
        self.delivered.setdefault(name, []).append(each)
        box = self.town.pools[home.primary].mailbox(name).boxes["INBOX"]
        self.bodies[each] = box.messages[max(box.messages)].raw

    def append(self, name: str) -> None:
        """A client's: its OK is held where workers know of a link that runs, and else goes out at once."""
        home = self.town.accounts[name].home
        if home.pending or home.primary in self.town.down:
            return
        self.town.number += 1
        raw = f"Message-ID: <own{self.town.number}>\r\n\r\nmine {self.town.number}".encode()
        self.town.pools[home.primary].mailbox(name).append("INBOX", raw, frozenset(), 1)
        ticket = self.town.touch(name, "APPEND", "INBOX")
        self.waiting.append((name, ticket, raw, VirtualClock().monotonic()))
        self.acknowledge()

    def acknowledge(self) -> None:
        left = []
        for name, ticket, raw, since in self.waiting:
            covered = self.town.outlet.covers.get(name, 0) >= ticket
            if covered or name in self.stopped or VirtualClock().monotonic() - since > HOLD:
                self.stored.setdefault(name, []).append(raw)
                if not covered:
                    self.let_go[name] = self.town.touch(name, STORED)
            else:
                left.append((name, ticket, raw, since))
        self.waiting = left

    def rescue(self, account: str) -> None:
        self.held[account] = set(self.delivered.get(account, ()))
        task = asyncio.get_running_loop().create_task(self._rescue(account))
        self.nets.add(task)
        task.add_done_callback(self.nets.discard)

    async def _rescue(self, name: str) -> None:
        """What the safety nets do: all that was acknowledged and is not on the new primary is put there. They may take
        their time, and ask for many at once before they append one after the other.
        """
        home = self.town.accounts[name].home
        there = self.town.pools[home.primary].mailbox(name)
        await asyncio.sleep(self.dice.uniform(0.0, 15.0))
        missing = [each for each in sorted(self.held[name]) if not there.find(each)]
        for each in missing:
            await asyncio.sleep(self.dice.random())
            while home.primary in self.town.down:
                await asyncio.sleep(0.1)
            there.append("INBOX", self.bodies[each], frozenset(), 1)
            self.held[name].discard(each)
        self.held[name].clear()

    def die(self, server: str, *, gone: bool) -> None:
        if gone:
            self.waiting.clear()  # their sessions end
        self.town.pools[server].down = gone
        (self.town.down.add if gone else self.town.down.discard)(server)
        if gone:
            self.down_since[server] = VirtualClock().monotonic()
        else:
            del self.down_since[server]
            self.town.links.kick(server)

    def check(self, name: str, server: str) -> None:
        found = Counter(identity_of(m.raw).delivery for _, _, m in self.town.pools[server].mailbox(name).everything())
        for each in self.delivered.get(name, ()):
            assert found[each] == 1, f"{each} of {name} is {found[each]} times on {server}"
        raws = Counter(m.raw for _, _, m in self.town.pools[server].mailbox(name).everything())
        for raw in self.stored.get(name, ()):
            assert raws[raw] == 1, f"{raw!r} of {name} is {raws[raw]} times on {server}"


async def story(seed: int, kinds: tuple[str, str]) -> None:
    dice = random.Random(seed)
    town = Town(*kinds, saving=0.003)
    realm = Realm(town, dice, away=0.03)
    for number in range(5):
        town.account(f"u{number}@example.com")
    realm.start()
    names = sorted(town.accounts)

    async def work(seconds: float, kills: float) -> None:
        """Mail comes; now and then the linker dies and another begins."""
        until = VirtualClock().monotonic() + seconds
        while VirtualClock().monotonic() < until:
            await asyncio.sleep(dice.random() * 0.1)
            realm.deliver(dice.choice(names))
            if dice.random() < kills:
                await realm.kill()
                realm.start()

    await work(5, 0.0)
    for _ in range(2):
        primaries = {account.home.primary for account in town.accounts.values()}
        (victim,) = primaries
        survivor = "ab".replace(victim, "")
        town.pools[survivor].down = True  # links lag behind, so there is a tail
        await work(0.5, 0.0)
        town.pools[survivor].down = False
        realm.die(victim, gone=True)
        await work(1.0, 0.0)
        assert {account.home.primary for account in town.accounts.values()} == {victim}, "patience"
        await work(dice.uniform(3, 20), 0.03)
        await until(lambda: {(one.home.primary, one.home.pending) for one in town.accounts.values()}
                    == {(survivor, False)})  # noqa: B023  it is over before the next turn
        early = dice.random() < 0.5  # it is back before all safety nets are done
        if not early:
            await until(lambda: not realm.nets)
            for name, account in town.accounts.items():
                realm.check(name, account.home.primary)
        await work(0 if early else 2, 0.02)
        realm.die(victim, gone=False)
        await work(3, 0.02)
        await until(lambda: all(each.returned for each in realm.rows.values()) and not realm.nets)
        for name, account in town.accounts.items():
            realm.check(name, account.home.primary)
        await work(1, 0.0)
        await until(lambda: all(town.same(name) for name in names))
    for name in names:
        realm.check(name, "a")
        realm.check(name, "b")
    await realm.kill()


@dataclass
class Told:
    """What came of a second death, over many seeds."""

    followed: int = 0  # before any pass was whole
    stayed: int = 0


def alike(town: Town, name: str) -> bool:
    """What a tail became has other UIDs where it was not carried before its server followed again."""
    one, other = (Counter(m.raw for _, _, m in town.pools[each].mailbox(name).everything()) for each in "ab")
    return one == other


async def second_death(seed: int, kinds: tuple[str, str], told: Told) -> None:
    """Soon after the first: before or after the old primary is brought back, and before all links are whole again."""
    dice = random.Random(seed)
    town = Town(*kinds, saving=0.003, seconds=dice.choice((0.001, 0.02)))
    realm = Realm(town, dice, away=0.02)
    names = [town.account(f"u{number}@example.com").address for number in range(12)]
    writing = set(dice.sample(names, 4))
    realm.start()
    killed = False

    async def work(seconds: float, mail: float = 0.8) -> None:
        until = VirtualClock().monotonic() + seconds
        while VirtualClock().monotonic() < until:
            await asyncio.sleep(dice.random() * 0.1)
            if dice.random() < mail:
                realm.deliver(dice.choice(names))
            if dice.random() < 0.4:
                realm.append(dice.choice(sorted(writing)))
            realm.acknowledge()

    await work(5)
    await until(lambda: all((linked := town.links.linked(name)) and linked.was_whole for name in names))
    await work(1)
    realm.die("a", gone=True)
    await until(lambda: {(one.home.primary, one.home.pending) for one in town.accounts.values()} == {("b", False)})
    await work(dice.uniform(0, 6))
    await until(lambda: not realm.nets)
    if dice.random() < 0.15:
        killed = True
        await realm.kill()
        realm.start()
    slow = dice.random() < 0.5
    for _ in range(100 if slow else 0):
        town.pools["b"].mailbox(dice.choice(names)).append("INBOX", dice.randbytes(40).hex().encode(), frozenset(), 1)
    town.pools["a"].per_letter = 0.05 if slow else 0.0001
    realm.die("a", gone=False)
    await work(dice.uniform(1.0, 5.0))
    unwhole = {name for name in names if (linked := town.links.linked(name)) is None or not linked.was_whole}
    even = {name for name in unwhole if (linked := town.links.linked(name)) is not None and linked.even}
    # One that was whole a moment ago may lack what was stored before workers heard of it.
    fit = {name for name in names if (linked := town.links.linked(name)) is not None and not linked.brought
           and (linked.was_whole or name in even)}
    realm.die("b", gone=True)
    await asyncio.sleep(15)
    followed = {name for name in names if town.accounts[name].home.primary == "a"}
    await until(lambda: not realm.nets and not any(town.accounts[name].home.pending for name in names))
    for name in followed:
        realm.check(name, "a")
    if not killed:
        assert followed >= fit, "nothing is missing there"
    told.followed += len(followed & unwhole)
    told.stayed += len(set(names) - followed)
    realm.die("b", gone=False)
    await until(lambda: all(each.returned or each.new != town.accounts[each.account].home.primary
                            for each in realm.rows.values()) and not realm.nets)
    await until(lambda: all(alike(town, name) for name in names))
    for name in names:
        realm.check(name, "a")
        realm.check(name, "b")
    await realm.kill()


async def trouble_before_death(seed: int, kinds: tuple[str, str], told: Told) -> None:
    """Links that are whole; their replica is away or hangs for a while, or nothing is wrong; then the primary dies."""
    dice = random.Random(seed)
    town = Town(*kinds, saving=0.003, seconds=dice.choice((0.001, 0.02)))
    realm = Realm(town, dice, away=0.02)
    names = [town.account(f"u{number}@example.com").address for number in range(8)]
    writing = set(dice.sample(names, 4))
    realm.start()

    async def work(seconds: float) -> None:
        until = VirtualClock().monotonic() + seconds
        while VirtualClock().monotonic() < until:
            await asyncio.sleep(dice.random() * 0.1)
            realm.deliver(dice.choice(names))
            if dice.random() < 0.4:
                realm.append(dice.choice(sorted(writing)))
            realm.acknowledge()

    await work(5)
    await until(lambda: all((linked := town.links.linked(name)) and linked.was_whole for name in names))
    await work(2)
    how = dice.choice(("well", "away", "hangs", "down"))
    seconds = town.pools["b"].seconds
    if how == "hangs":
        town.pools["b"].seconds = dice.uniform(1.0, 5.0)
    elif how == "away":
        town.pools["b"].down = True
    elif how == "down":
        realm.die("b", gone=True)
    await work(dice.uniform(0.0, 8.0))
    if dice.random() < 0.3 and how != "well":
        await realm.kill()
        realm.start()
        for name, ticket in tuple(town.told.items()):  # workers tell again what is not covered
            covered = town.outlet.covers.get(name, 0)
            if covered < ticket:
                town.touch(name, STORED if covered < realm.let_go.get(name, 0) else "DELIVER")
    lacking = {name for name, ticket in realm.let_go.items() if town.outlet.covers.get(name, 0) < ticket}
    assert not lacking or how != "well", "what is held is no reason"
    realm.die("a", gone=True)
    if how == "down":
        realm.die("b", gone=False)
    town.pools["b"].down, town.pools["b"].seconds = False, seconds
    await asyncio.sleep(20)
    followed = {name for name in names if town.accounts[name].home.primary == "b"}
    assert followed >= set(names) - lacking
    await until(lambda: not realm.nets and not any(town.accounts[name].home.pending for name in names))
    for name in followed:
        realm.check(name, "b")
    told.followed += len(followed)
    told.stayed += len(set(names) - followed)
    realm.die("a", gone=False)
    await until(lambda: all(each.returned for each in realm.rows.values()) and not realm.nets)
    await until(lambda: all(town.same(name) for name in names))
    for name in names:
        realm.check(name, "a")
        realm.check(name, "b")
    await realm.kill()


@pytest.mark.parametrize("kinds", [("node", "node"), ("dovecot", "dovecot"), ("dovecot", "cyrus")], ids="-".join)
def test_a_replica_that_lacks_what_was_stored_does_not_follow(kinds: tuple[str, str]) -> None:
    told = Told()
    for seed in seeds(10):
        try:
            run(trouble_before_death(seed, kinds, told))
        except BaseException as error:
            error.add_note(f"seed {seed}, {kinds}")
            raise
    assert (told.followed and told.stayed) or "ONEDOMAIN_SEED" in os.environ


@pytest.mark.parametrize("kinds", [("node", "node"), ("dovecot", "dovecot"), ("dovecot", "cyrus")], ids="-".join)
def test_the_one_that_took_over_dies_soon(kinds: tuple[str, str]) -> None:
    told = Told()
    for seed in seeds(10):
        try:
            run(second_death(seed, kinds, told))
        except BaseException as error:
            error.add_note(f"seed {seed}, {kinds}")
            raise
    assert (told.followed and told.stayed) or "ONEDOMAIN_SEED" in os.environ


async def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    end = VirtualClock().monotonic() + seconds
    while not true():
        assert VirtualClock().monotonic() < end, "never"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("kinds", [("node", "node"), ("dovecot", "dovecot"), ("dovecot", "cyrus")], ids="-".join)
def test_servers_die_and_come_back(kinds: tuple[str, str]) -> None:
    for seed in seeds(6):
        try:
            run(story(seed, kinds))
        except BaseException as error:
            error.add_note(f"seed {seed}, {kinds}")
            raise


async def heir_to_a_dead_linker() -> None:
    """Who saw the server die has died, too: the next linker does not begin its patience anew."""
    town = Town()
    realm = Realm(town, random.Random(1))
    account = town.account("u@example.com")
    realm.start()
    await asyncio.sleep(5)
    await realm.kill()
    realm.die("a", gone=True)
    await asyncio.sleep(4)
    realm.start()
    begun = VirtualClock().monotonic()
    await until(lambda: town.accounts[account.address].home.primary == "b")
    assert VirtualClock().monotonic() - begun < 1.5, "a grace of a second, for what workers have to tell"
    await realm.kill()


def test_patience_began_when_the_server_died() -> None:
    run(heir_to_a_dead_linker())


async def a_link_that_is_not_whole() -> None:
    """It was pairing again when the primary died: nobody can tell what the replica lacks, so a person is asked."""
    town = Town()
    realm = Realm(town, random.Random(1))
    account, other = town.account("u@example.com"), town.account("v@example.com")
    town.deliver(account.address)
    realm.start()
    await asyncio.sleep(5)
    inbox = town.pools["b"].mailbox(account.address).boxes["INBOX"]
    inbox.uidvalidity += 1  # somebody restored the replica
    town.pools["b"].hung = True  # the pass that pairs again can't end
    town.touch(account.address)
    town.links.linked(account.address).was_whole = False  # type: ignore[union-attr]
    realm.die("a", gone=True)
    town.pools["b"].hung = False
    await until(lambda: town.accounts[other.address].home.primary == "b")
    await asyncio.sleep(5)
    assert not [each for each in town.outlet.alerts if "stay" in each], "it may pass"
    await asyncio.sleep(5)
    assert town.accounts[account.address].home.primary == "a"
    (told,) = (each for each in town.outlet.alerts if "stay" in each)
    assert "1 account(s) stay: b: its link has not been whole" in told and "server promote a --dry-run" in told
    await asyncio.sleep(60)
    assert sum("stay" in each for each in town.outlet.alerts) == 1
    assert realm.failover is not None
    (asked,) = await realm.failover.promote([town.accounts[account.address]], "", cause="by hand", dry=True)
    assert "has not been whole" in asked.reason
    (asked,) = await realm.failover.promote([town.accounts[account.address]], "", cause="by hand", force=True)
    assert not asked.reason
    await until(lambda: town.accounts[account.address].home.primary == "b"
                and not town.accounts[account.address].home.pending)
    await realm.kill()


def test_a_person_ends_the_wait_for_a_link_that_is_not_whole() -> None:
    run(a_link_that_is_not_whole())


async def once_it_may_be() -> None:
    """A failover is committed when the patience is over, and until then the edges are asked once what they see."""
    town = Town()
    realm = Realm(town, random.Random(1))
    account = town.account("u@example.com")
    realm.start()
    await asyncio.sleep(5.03)
    asked: list[float] = []
    observe = realm._observe

    async def counted(server: str) -> Sight:
        asked.append(VirtualClock().monotonic() - died)
        return await observe(server)

    assert realm.failover is not None
    realm.failover._world = replace(realm.failover._world, observe=counted)
    died = VirtualClock().monotonic()
    realm.die("a", gone=True)
    await until(lambda: bool(realm.rows))
    ((_, promoted),) = realm.rows.items()
    assert promoted.account == account.address
    assert 2.0 <= asked[-1] < 2.01, "a server that refuses is given two seconds here"
    assert len(asked) == 2, asked
    await realm.kill()


def test_a_failover_is_decided_when_the_patience_is_over() -> None:
    run(once_it_may_be())


async def both_die(*, committed: bool, by_hand: bool) -> None:
    """The new primary dies before anybody could be let in there, and the old one is back: it has all that there is.
    `committed`: not every edge goes by the promotion yet; else its plan is under way.
    """
    town = Town()
    realm = Realm(town, random.Random(1), away=0.2)
    names = [town.account(f"u{number}@example.com").address for number in range(5)]
    realm.start()
    await asyncio.sleep(5)
    for name in names:
        realm.deliver(name)
    await until(lambda: all(town.same(name) for name in names))
    failover = realm.failover
    assert failover is not None
    if committed:
        failover._world = replace(failover._world, applied=_not_yet)
    else:
        town.pools["b"].down = True  # nobody has noticed yet
    failover._rules = replace(failover._rules, automatic=True)
    realm.die("a", gone=True)
    await until(lambda: all(town.accounts[name].home.primary == "b" for name in names))
    await asyncio.sleep(0.5)
    waiting = [asyncio.get_running_loop().create_task(failover.ready(name)) for name in names]
    failover._rules = replace(failover._rules, automatic=not by_hand)
    realm.die("b", gone=True)
    await asyncio.sleep(5)
    (asked, *_) = await failover.promote([town.accounts[names[0]]], "", cause="by hand", force=True)
    assert "not carried out" in asked.reason, "neither is there"
    realm.die("a", gone=False)
    if by_hand:
        await asyncio.sleep(5)
        assert all(town.accounts[name].home.pending for name in names)

        async def asked_for() -> bool:
            rows = [town.accounts[name] for name in names]
            try:
                answers = await failover.promote(rows, "", cause="by hand")
            except Failed:
                return False  # the database is away now and then
            assert {each.to for each in answers} == {"a"}, answers
            return True

        while not await asked_for() and any(town.accounts[name].home.pending for name in names):
            await asyncio.sleep(0.1)
    await until(lambda: all(town.accounts[name].home == replace(
        town.accounts[name].home, primary="a", replicas=("b",), epoch=3, pending=False) for name in names))
    failover._world = replace(failover._world, applied=realm._applied)
    await asyncio.wait(waiting)
    for name in names:
        realm.deliver(name)
    realm.die("b", gone=False)
    await until(lambda: all(town.same(name) for name in names) and not failover.figures()["pending"])
    for name in names:
        realm.check(name, "a")
        realm.check(name, "b")
    await realm.kill()


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("committed", [True, False])
def test_who_was_to_follow_dies_too(committed: bool, by_hand: bool) -> None:
    run(both_die(committed=committed, by_hand=by_hand))


async def no_room_for_what_is_deleted(monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, str]) -> None:
    """The disk of the edge that runs the links is full: what people delete stays on their replicas for as long, mail
    is carried all the same, and when the primary dies they go on.
    """
    town = Town(*kinds)
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    box = town.pools["a"].mailbox(name)
    realm.start()
    await asyncio.sleep(5)
    for _ in range(3):
        realm.deliver(name)
    await until(lambda: town.same(name))
    keep = town.aside.keep

    async def full(*words: Any) -> None:
        raise Failed(again(452, "4.3.1", "Insufficient system storage, try again later"))

    monkeypatch.setattr(town.aside, "keep", full)
    gone = realm.delivered[name].pop(0)
    box.expunge("INBOX", [min(box.boxes["INBOX"].messages)])
    ticket = town.touch(name, "EXPUNGE")
    realm.deliver(name)
    await asyncio.sleep(90)
    assert town.outlet.covers[name] >= ticket, "nobody waits for it"
    realm.check(name, "b")
    assert town.pools["b"].mailbox(name).find(gone), "nothing is deleted that is not kept"
    assert any("Insufficient system storage" in each for each in town.outlet.alerts)
    monkeypatch.setattr(town.aside, "keep", keep)
    await until(lambda: town.same(name), 2000)
    assert len(town.aside.kept) == 1
    monkeypatch.setattr(town.aside, "keep", full)
    realm.delivered[name].pop(0)
    box.expunge("INBOX", [min(box.boxes["INBOX"].messages)])
    town.touch(name, "EXPUNGE")
    await asyncio.sleep(90)
    realm.die("a", gone=True)
    await until(lambda: town.accounts[name].home.primary == "b" and not town.accounts[name].home.pending)
    realm.check(name, "b")
    await realm.kill()


@pytest.mark.parametrize("kinds", [("node", "node"), ("dovecot", "dovecot"), ("node", "plain")], ids="-".join)
def test_a_full_disk_of_ours_does_not_keep_a_failover_off(
    monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, str]
) -> None:
    run(no_room_for_what_is_deleted(monkeypatch, kinds))


async def many_were_meant_to_go(monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, str], folder: bool) -> None:
    """What people have deleted while there was no room is still what they wanted when there is: no brake holds it."""
    town = Town(*kinds)
    name = town.account("u@example.com").address
    box = town.pools["a"].mailbox(name)
    box.create("Lists")
    for number in range(200):
        box.append("Lists", f"Message-ID: <{number}>\r\n\r\nbody {number}".encode(), frozenset(), number)
    town.links.start()
    await until(lambda: town.same(name))
    await until(lambda: town.links.linked(name).was_whole)  # type: ignore[union-attr]
    keep = town.aside.keep

    asked = 0

    async def full(*words: Any) -> None:
        nonlocal asked
        asked += 1
        raise Failed(again(452, "4.3.1", "Insufficient system storage, try again later"))

    monkeypatch.setattr(town.aside, "keep", full)
    if folder:
        box.delete("Lists")
    else:
        box.expunge("Lists", sorted(box.boxes["Lists"].messages)[:150])
    town.touch(name, "DELETE" if folder else "EXPUNGE", "Lists")
    await town.covered(name)
    await town.idle(name)
    assert asked == 1, "where one has no room the others of its folder have none"
    await asyncio.sleep(90)
    assert len(town.pools["b"].mailbox(name).everything()) == 200
    monkeypatch.setattr(town.aside, "keep", keep)
    await until(lambda: town.same(name), 4000)
    linked = town.links.linked(name)
    assert linked is not None and not linked.braked and not linked.commanded
    await town.links.stop()


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("kinds", [("node", "node"), ("node", "plain")], ids="-".join)
def test_what_was_meant_to_go_goes_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, str], folder: bool
) -> None:
    run(many_were_meant_to_go(monkeypatch, kinds, folder))


async def nobody_is_left_there() -> None:
    """Of a server that has no accounts any more nothing waits."""
    town = Town()
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await asyncio.sleep(5)
    assert realm.failover is not None
    realm.die("a", gone=True)
    await until(lambda: bool(realm.failover.figures()["waiting_servers"]))  # type: ignore[union-attr]
    await until(lambda: town.accounts[name].home.primary == "b" and not town.accounts[name].home.pending)
    await asyncio.sleep(1)
    assert not realm.failover.figures()["waiting_servers"] and not (await realm.failover.status())["waits"]
    await realm.kill()


def test_nothing_waits_for_a_server_without_accounts() -> None:
    run(nobody_is_left_there())


async def many_that_stay() -> None:
    """As long as their server is down, which may be days; it takes a while to look at them all."""
    town = Town()
    realm = Realm(town, random.Random(1))
    account = town.account("u@example.com")
    realm.start()
    await asyncio.sleep(5)
    town.links.linked(account.address).was_whole = False  # type: ignore[union-attr]
    looks = 0

    def accounts(server: str) -> list[Account]:
        nonlocal looks
        looks += 1
        asyncio.get_running_loop()._virtual.now += 0.02  # type: ignore[attr-defined]
        return [account]

    assert realm.failover is not None
    realm.failover._world = replace(realm.failover._world, accounts=accounts)
    town.pools["b"].down = True
    realm.die("a", gone=True)
    await asyncio.sleep(60)
    assert town.accounts[account.address].home.primary == "a"
    assert 100 < looks < 200, "a twentieth of the linker's time"
    town.links.linked(account.address).was_whole = True  # type: ignore[union-attr]
    began = VirtualClock().monotonic()
    await until(lambda: town.accounts[account.address].home.primary == "b")
    assert VirtualClock().monotonic() - began < 0.6
    await realm.kill()


def test_accounts_that_stay_do_not_take_all_of_the_linkers_time() -> None:
    run(many_that_stay())


async def an_odd_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect, or a mailbox that nobody thought of, in one account's promotion: the others go on, a person is told."""
    town = Town()
    realm = Realm(town, random.Random(1))
    names = [town.account(f"u{number}@example.com").address for number in range(20)]
    realm.start()
    await asyncio.sleep(5)
    pool, odd = town.pools["b"], names[0]
    end = pool.end

    async def broken(account: Account) -> Any:
        if account.address == odd:
            raise ValueError("nobody thought of this")
        return await end(account)

    monkeypatch.setattr(pool, "end", broken)
    realm.die("a", gone=True)
    await until(lambda: not any(town.accounts[name].home.pending or town.accounts[name].home.primary == "a"
                                for name in names[1:]))
    await asyncio.sleep(60)
    (told,) = (each for each in town.outlet.alerts if "nobody thought of this" in each)
    assert told.startswith(odd)
    realm.die("a", gone=False)
    assert realm.failover is not None
    (asked,) = await realm.failover.promote([town.accounts[odd]], "", cause="by hand")
    assert "not carried out" in asked.reason, "b is there, and may come to it yet"
    (asked,) = await realm.failover.promote([town.accounts[odd]], "", cause="by hand", force=True)
    assert (asked.to, asked.reason) == ("a", "")
    assert (town.accounts[odd].home.primary, town.accounts[odd].home.pending) == ("a", False)
    monkeypatch.undo()
    realm.deliver(odd)
    await until(lambda: town.same(odd))
    await realm.kill()


def test_one_promotion_that_breaks_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    run(an_odd_one_out(monkeypatch))


async def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new primary is frozen in the middle of a plan, which is taken back; a person promotes it again all the same.
    When it goes on, the old plan must not act on what people do there by then.
    """
    town = Town()
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await asyncio.sleep(5)
    pool, thawed = town.pools["b"], asyncio.Event()
    end, under_way, most = pool.end, 0, 0

    async def frozen(account: Account) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await thawed.wait()
            return await end(account)
        finally:
            under_way -= 1

    monkeypatch.setattr(pool, "end", frozen)
    realm.die("a", gone=True)
    await until(lambda: under_way == 1)
    town.down.add("b")
    realm.down_since["b"] = VirtualClock().monotonic()
    realm.die("a", gone=False)
    await until(lambda: town.accounts[name].home == Home("a", ("b",), 3))
    failover = realm.failover
    assert failover is not None
    failover._rules = replace(failover._rules, automatic=False)
    (answer,) = await failover.promote([town.accounts[name]], "b", cause="by hand", force=True)
    assert not answer.reason
    await asyncio.sleep(5)
    assert most == 1
    waiting = asyncio.get_running_loop().create_task(failover.ready(name))
    town.down.discard("b")
    thawed.set()
    await asyncio.wait([waiting])
    assert town.accounts[name].home == Home("b", ("a",), 4)
    await realm.kill()


def test_an_account_has_one_plan_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run(one_after_the_other(monkeypatch))


async def a_return_outlives_it() -> None:
    """The old primary's tail has not been brought yet when a person makes it the primary again, which is taken back: it
    is brought then, before any link runs.
    """
    town = Town()
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await asyncio.sleep(5)
    town.pools["a"].mailbox(name).append("INBOX", tail := b"Message-ID: <t>\r\n\r\ntail", frozenset(), 1)
    failover = realm.failover
    assert failover is not None
    realm.die("a", gone=True)
    await until(lambda: town.accounts[name].home == Home("b", ("a",), 2))
    failover._rules = replace(failover._rules, automatic=False)
    realm.die("b", gone=True)
    realm.die("a", gone=False)
    town.pools["a"].down = True
    (answer,) = await failover.promote([town.accounts[name]], "a", cause="by hand", force=True)
    assert not answer.reason
    await asyncio.sleep(2)
    realm.die("b", gone=False)
    realm.die("a", gone=True)
    failover._rules = replace(failover._rules, automatic=True)
    await until(lambda: town.accounts[name].home == Home("b", ("a",), 4))
    realm.die("a", gone=False)
    await asyncio.sleep(60)
    assert [m.raw for _, _, m in town.pools["b"].mailbox(name).everything()] == [tail]
    await realm.kill()


def test_what_was_to_be_brought_is_brought_after_a_promotion_was_taken_back() -> None:
    run(a_return_outlives_it())


async def tried_meanwhile(*, dead: bool) -> None:
    """The old primary may have what an edge is about to give the new one: one try holds the return up, for so long that
    it is found there, and a second one waits until it is through; or, where the old one is `dead` again, not for long.
    """
    town = Town()
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await asyncio.sleep(5)
    letter = b"Message-ID: <t>\r\nX-OneDomain-Delivery: dt\r\n\r\ntail"
    town.pools["a"].mailbox(name).append("INBOX", letter, frozenset(), 1)
    failover = realm.failover
    assert failover is not None
    realm.die("a", gone=True)
    await until(lambda: town.accounts[name].home == Home("b", ("a",), 2))
    assert failover.may_try(name)
    began = VirtualClock().monotonic()
    realm.die("a", gone=False)
    await asyncio.sleep(TRY_SECONDS / 2)
    assert not failover.may_try(name), "it would never be brought"
    there = town.pools["b"].mailbox(name)
    if dead:
        realm.die("a", gone=True)
        await until(lambda: failover.may_try(name), 2 * TRY_SECONDS)
        assert not there.everything()
    else:
        there.append("INBOX", letter, frozenset(), 1)
        await until(lambda: name not in failover._returning, 2 * TRY_SECONDS)
        assert VirtualClock().monotonic() - began >= TRY_SECONDS
        assert len(there.everything()) == 1
        assert failover.may_try(name)
    await realm.kill()


@pytest.mark.parametrize("dead", [False, True])
def test_a_try_and_a_return_exclude_each_other(dead: bool) -> None:
    run(tried_meanwhile(dead=dead))


async def brought_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is being brought is not tried: its look-up would be older than what comes."""
    town = Town()
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await asyncio.sleep(5)
    town.pools["a"].mailbox(name).append("INBOX", b"Message-ID: <t>\r\n\r\ntail", frozenset(), 1)
    failover = realm.failover
    assert failover is not None
    looked, go = asyncio.Event(), asyncio.Event()
    go.set()

    async def details(account: str, epoch: int) -> Promoted | None:
        looked.set()
        await go.wait()
        return realm.rows.get((account, epoch))

    monkeypatch.setattr(realm, "details", details)
    realm.die("a", gone=True)
    await until(lambda: town.accounts[name].home == Home("b", ("a",), 2))
    realm.die("a", gone=False)
    go.clear()
    looked.clear()
    await looked.wait()
    assert not failover.may_try(name)
    go.set()
    await until(lambda: failover.may_try(name))
    assert len(town.pools["b"].mailbox(name).everything()) == 1
    await realm.kill()


def test_what_is_being_brought_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    run(brought_meanwhile(monkeypatch))


async def lacking_by_hand() -> None:
    """What was acknowledged and the replica lacks: a primary that answers is asked for it, of a dead one it is told."""
    town = Town()
    realm = Realm(town, random.Random(1))
    ann, bob = (town.account(name).address for name in ("ann@example.com", "bob@example.com"))
    realm.start()
    await asyncio.sleep(5)
    failover = realm.failover
    assert failover is not None
    for name in (ann, bob):
        town.links.linked(name).growth.brought = 1  # type: ignore[union-attr]
    (answer,) = await failover.promote([town.accounts[ann]], "b", cause="by hand")
    assert not answer.reason
    await until(lambda: town.accounts[ann].home == Home("b", ("a",), 2))
    realm.die("a", gone=True)
    (answer,) = await failover.promote([town.accounts[bob]], "b", cause="by hand")
    assert "people have stored" in answer.reason
    await asyncio.sleep(20)
    assert town.accounts[bob].home == Home("a", ("b",), 1)
    told = [each for each in town.outlet.alerts if "people have stored" in each]
    assert len(told) == 1 and "server promote a --dry-run" in told[0]
    (answer,) = await failover.promote([town.accounts[bob]], "b", cause="by hand", force=True)
    assert not answer.reason
    await until(lambda: town.accounts[bob].home == Home("b", ("a",), 2))
    await realm.kill()


def test_what_was_acknowledged_is_gone_without_only_by_hand() -> None:
    run(lacking_by_hand())


async def no_replica_any_more() -> None:
    """Both are dead, and somebody says that the old one is no replica of it: there is no way back, a person is told
    what it waits for, and the directory is not asked ten times a second.
    """
    town = Town()
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await asyncio.sleep(5)
    town.pools["b"].down = True
    realm.die("a", gone=True)
    await until(lambda: town.accounts[name].home.pending)
    realm.die("b", gone=True)
    row = town.accounts[name]
    realm._changed(replace(row, home=replace(row.home, replicas=("c",))))  # as a promotion is pending, the epoch stays
    asked: list[float] = []
    take_back = realm.take_back

    async def counted(olds: Mapping[str, str], cause: str) -> list[Promoted]:
        asked.append(VirtualClock().monotonic())
        return await take_back(olds, cause)

    realm.take_back = counted  # type: ignore[method-assign]
    realm.die("a", gone=False)
    await asyncio.sleep(30)
    assert realm.failover is not None
    assert not asked
    (answer,) = await realm.failover.promote([town.accounts[name]], "", cause="by hand")
    assert "not carried out" in answer.reason
    assert "not carried out" in realm.failover._waits["b"]
    await realm.kill()


def test_an_old_primary_that_is_no_replica_any_more_does_not_come_back() -> None:
    run(no_replica_any_more())


async def moved_by_hand() -> None:
    """Somebody gives the account its old primary while its promotion can't be carried out: a link runs from there."""
    town = Town()
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await asyncio.sleep(5)
    town.pools["b"].down = True
    realm.die("a", gone=True)
    await until(lambda: town.accounts[name].home.primary == "b")
    await asyncio.sleep(5)
    realm.die("a", gone=False)
    home = town.accounts[name].home
    assert home.pending
    home = replace(home, primary="a", replicas=("b",), epoch=3, pending=False)
    realm._changed(replace(town.accounts[name], home=home))
    realm.deliver(name)
    town.pools["b"].down = False
    await until(lambda: town.same(name))
    realm.check(name, "b")
    await realm.kill()


async def moved_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plan is done, and when that is to be written the home is another."""
    town = Town()
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await asyncio.sleep(5)

    async def too_late(settled: Sequence[Settled]) -> frozenset[str]:
        realm.die("a", gone=False)
        home = replace(town.accounts[name].home, primary="a", replicas=("b",), epoch=3, pending=False)
        realm._changed(replace(town.accounts[name], home=home))
        return frozenset()

    monkeypatch.setattr(realm, "settle", too_late)
    realm.die("a", gone=True)
    await until(lambda: town.accounts[name].home.epoch == 3)
    realm.deliver(name)
    await until(lambda: town.pools["b"].mailbox(name).find(realm.delivered[name][0]))
    await realm.kill()


def test_a_home_is_changed_by_hand_while_a_promotion_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    run(moved_at_the_last_moment(monkeypatch))


def test_a_home_is_changed_by_hand_while_a_promotion_waits() -> None:
    run(moved_by_hand())


async def many_who_wait(sleeps: list[float]) -> None:
    """For a promotion that not every edge goes by yet: they cost nothing until it is."""
    town = Town()
    realm = Realm(town, random.Random(1))
    names = [town.account(f"u{number}@example.com").address for number in range(20)]
    realm.start()
    await asyncio.sleep(5)
    assert realm.failover is not None
    realm.failover._world = replace(realm.failover._world, applied=_not_yet)
    realm.die("a", gone=True)
    await until(lambda: bool(realm.rows))
    waiting = [asyncio.get_running_loop().create_task(realm.failover.ready(name)) for name in names for _ in range(10)]
    sleeps.clear()
    await asyncio.sleep(2)
    assert len(sleeps) < 500 and not any(each.done() for each in waiting)
    realm.failover._world = replace(realm.failover._world, applied=realm._applied)
    await asyncio.wait(waiting)
    assert all(not town.accounts[name].home.pending for name in names)
    await realm.kill()


async def _not_yet(seq: int) -> bool:
    return False


def test_who_waits_for_a_promotion_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, sleeps = asyncio.sleep, list[float]()

    async def counted(seconds: float) -> None:
        sleeps.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", counted)
    run(many_who_wait(sleeps))


async def rolled_back_at_the_switch(kinds: tuple[str, str]) -> None:
    """The new server of a move is put back to an earlier time after the link was whole, before it becomes the primary.
    The old one still has everything: clients are shown all of it, under the UIDs that they know.
    """
    town = Town(*kinds)
    realm = Realm(town, random.Random(1))
    name = town.account("u@example.com").address
    realm.start()
    await until(lambda: realm.failover is not None and realm.failover.may_link(town.accounts[name]))
    for _ in range(30):
        realm.deliver(name)
    await town.covered(name)
    early = town.pools["b"].mailbox(name).snapshot()
    for _ in range(30):
        realm.deliver(name)
    await town.covered(name)
    assert town.same(name)
    town.pools["b"].mailbox(name).restore(early)
    assert realm.failover is not None
    answers = await realm.failover.promote([town.accounts[name]], "b", cause="a move")
    assert not answers[0].reason
    await until(lambda: not town.accounts[name].home.pending)
    (row,) = realm.rows.values()
    assert row.result is not None and not row.result.refused
    assert not any(folder.renumbered for folder in row.result.folders)
    before = town.pools["a"].mailbox(name).boxes["INBOX"].messages
    now = town.pools["b"].mailbox(name).boxes["INBOX"].messages
    assert before.keys() == now.keys(), "nobody was let in before all was there"
    await until(lambda: all(each.returned for each in realm.rows.values()) and not realm.nets)
    realm.check(name, "b")
    await realm.kill()


@pytest.mark.parametrize("kinds", [("node", "node"), ("dovecot", "dovecot"), ("dovecot", "cyrus")], ids="-".join)
def test_a_new_server_is_rolled_back_at_the_switch(kinds: tuple[str, str]) -> None:
    run(rolled_back_at_the_switch(kinds))
