"""Nothing acknowledged lost and nothing twice, where servers die and their replicas are promoted at any moment."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TypeVar

import pytest

from onedomain.model.account import Account, Home
from onedomain.protocol.message.stamp import build_delivery_id
from onedomain.queue import net as net_module
from onedomain.queue import notes, rescue
from onedomain.queue.dispatch import Dispatcher
from onedomain.queue.doubt import Inquiry
from onedomain.queue.net import Net, NetLimits
from onedomain.queue.quiet import NoChanges, NoCount
from onedomain.queue.rescue import Rescue
from onedomain.queue.spool import Spool
from tests.queue.failover import Fortune, SimEnds
from tests.queue.fakes import open_spool
from tests.queue.simulation import LoopClock, SimBackend, address, run
from tests.queue.test_dispatch_simulation import FAULTS, IMPATIENT, World
from tests.store.inline import SeededNonce

W = TypeVar("W", bound="FailoverWorld")
SEEDS = 300 if os.environ.get("ONEDOMAIN_LONG") else 12

DOUBLED, CROSSED = (10, 131), (92,)
"""Seeds that double mail: where a try goes by an old look-up; where it and a return do not exclude each other."""


class FailoverWorld(World):
    """Accounts 0 to 3 have replicas, on the next server; 4 and 5 have none."""

    def __init__(self, seed: int, **faults: float) -> None:
        super().__init__(seed, **faults)
        names = ["s0", "s1", "s2"]
        for number in range(4):
            self.view.homes[address(number)] = Home(names[number % 3], (names[(number + 1) % 3],))
        homes = {name: self.servers[name] for name in names}
        self.fortune = Fortune(homes, self.view, [address(number) for number in range(4)])
        self.net: Net | None = None

    async def open(self) -> tuple[Spool, Dispatcher]:
        self.started += 1
        clock, nonce = LoopClock(), SeededNonce(self.started)
        spool = await open_spool(
            self.disk, seed=self.started, clock=clock, trace=self.trace)  # type: ignore[arg-type]
        backends = {name: SimBackend(server) for name, server in self.servers.items()}
        dispatcher = Dispatcher(
            spool, self.view, self.board, backends.__getitem__, edge="edge.example.com", clock=clock, nonce=nonce,
            trace=self.trace, patience=IMPATIENT, ready=self.ready,
            may_try=self.fortune.may_try)
        net = self.net = Net(spool, self.view, clock=clock, trace=self.trace, count=NoCount(),
                             limits=NetLimits(aside_after=4))
        saving = Rescue(
            spool, net, self.view, self.board, SimEnds(self.servers), clock=clock, nonce=nonce, trace=self.trace,
            changes=NoChanges(), count=NoCount(), crash_points=spool._crash)  # type: ignore[arg-type]
        net.rescue = saving.wanted

        def changed(account: str) -> None:
            net.account_changed(account)
            dispatcher.reroute()

        self.fortune.changed = changed
        self.fortune.released = lambda account, ids, epoch: net.release(account, ids, (), epoch)
        self.fortune.clear = lambda account: not net.to_rescue(account)
        net.start()
        dispatcher.start()
        self.fate = asyncio.get_running_loop().create_task(self.fortune.run())
        return spool, dispatcher

    async def ready(self, account: str) -> bool:
        for _ in range(20):
            if not self.view.home(account).pending:
                return True
            await asyncio.sleep(0.2)
        return False

    async def put(self, spool: Spool) -> None:
        targets = self.chance.sample(sorted(self.view.homes), self.chance.randint(1, 3))
        draft = spool.draft()
        self.begun.add(draft.id)
        body = build_delivery_id(draft.id) + b"\r\n" + self.chance.randbytes(self.chance.choice([40, 200, 900]))
        await draft.write(body)
        await draft.commit(self.envelope(targets))
        self.acknowledged[draft.id] = body, tuple(targets)

    def while_dead(self, seconds: float) -> None:
        """The world goes on without us."""
        self.fortune.changed = lambda account: None
        self.fortune.released = lambda account, ids, epoch: None
        # A net that nobody can ask holds what it holds: an old primary is not reconciled before its edge is back.
        self.fortune.clear = lambda account: False
        until = self.now + seconds
        while self.now < until:
            self.now += 0.2
            self.fortune.step(self.now)

    def copies(self) -> Counter[tuple[str, str]]:
        return self.fortune.copies()

    async def last_life(self) -> None:
        self.fortune.dies = False
        for server in self.servers.values():
            server.faults = {}
        spool, dispatcher = await self.open()
        net = self.net
        assert net is not None
        async with asyncio.timeout(20_000):
            while spool.entries or net.held() or self.fortune.unreconciled:
                await asyncio.sleep(1)
        assert not spool.netted
        await dispatcher.stop()
        net.stop()
        self.fate.cancel()
        await spool.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "CHECKPOINT_SIZE", 5000)
    monkeypatch.setattr(notes, "RESERVE_SIZE", 600)
    monkeypatch.setattr(net_module, "LOOK_EVERY", 2.0)


def drama(seed: int, lives: int = 6) -> FailoverWorld:
    return played(FailoverWorld(seed, **FAULTS), seed, lives)


def played(world: W, seed: int, lives: int = 6) -> W:
    for number in range(lives):
        if number % 2:
            world.disk.fail_at = world.chance.randrange(5, 300)
        _, world.now = run(world.life(30, 15), world.now)
        world.end(seed * 100 + number, kill=number % 3 == 2)
        world.while_dead(world.chance.choice([0.4, 3.0, 40.0]))
    _, world.now = run(world.last_life(), world.now + 5)
    return world


@pytest.mark.parametrize("seed", sorted({*range(SEEDS), *DOUBLED, *CROSSED}))
def test_exactly_once_whoever_dies(seed: int) -> None:
    world = drama(seed)
    assert len(world.acknowledged) > 20
    assert world.unexplained() == []
    assert not world.trace.named("lost answer")
    assert all(event["reason"] == "PowerLoss()" for event in world.trace.named("rescue defect"))


def test_the_worlds_are_not_too_kind() -> None:
    worlds = [drama(seed) for seed in range(3)]
    assert sum(world.fortune.promotions for world in worlds) > 10
    assert sum(world.fortune.early for world in worlds) > 2
    assert sum(server.appended for world in worlds for server in world.servers.values()) > 5
    assert any(world.trace.named("net set aside") for world in worlds)
    rescued = [event for world in worlds for event in world.trace.named("rescued")]
    assert {event["reply"] for event in rescued} == {"found by its delivery id", "put there by the safety net"}


def test_without_the_net_mail_is_seen_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Rescue, account: Account, end: object, catch: net_module.Catch) -> None:
        self._net.rescued(account.address, catch, account.home.primary, "not really", 0)

    monkeypatch.setattr(Rescue, "_append", nothing)
    assert any("never got" in one for seed in range(4) for one in drama(seed).unexplained())


def test_without_the_second_look_mail_is_seen_to_be_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "CONFIRM_AFTER", 0.0)
    for fault, chance in (("filed late", 0.6), ("lost before", 0.0)):
        monkeypatch.setitem(FAULTS, fault, chance)
    assert any("2 times" in one for seed in range(12) for one in drama(seed).unexplained())


def test_without_the_look_before_a_try_mail_is_seen_to_be_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Inquiry, backend: object, entry: object, indexes: object) -> list[int]:
        return []

    monkeypatch.setattr(Inquiry, "there", nothing)
    assert any("2 times" in one for seed in DOUBLED for one in drama(seed).unexplained())


def test_where_a_try_and_a_return_cross_mail_is_seen_to_be_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def always(self: Fortune, account: str) -> bool:
        return True

    monkeypatch.setattr(Fortune, "may_try", always)
    assert any("2 times" in one for seed in CROSSED for one in drama(seed).unexplained())
