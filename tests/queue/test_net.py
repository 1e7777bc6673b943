"""The safety net one thing at a time: what it holds, for how long, where, and who may let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from onedomain.backend.base import Lookup
from onedomain.backend.link.base import Letter
from onedomain.decision.link.actions import Copied, Refused
from onedomain.decision.retry import Patience
from onedomain.model.account import Account, Home, Level
from onedomain.model.message import Outcome, State
from onedomain.model.replica import Identity
from onedomain.queue import net as net_module
from onedomain.queue.dispatch import Dispatcher
from onedomain.queue.limits import SpoolLimits
from onedomain.queue.net import Net, NetLimits
from onedomain.queue.operator import Operator
from onedomain.queue.quiet import NoChanges, NoCount
from onedomain.queue.rescue import Rescue
from onedomain.queue.spool import Spool
from tests.queue.failover import SimEnd
from tests.queue.fakes import open_spool
from tests.queue.simulation import LoopClock, SimBackend, address, run
from tests.queue.test_dispatch import Stage
from tests.store.inline import SeededNonce

LINKED, PLAIN, OTHER = address(0), address(2), address(1)
BODY = b"X-OneDomain-Delivery: %s\r\nX: y\r\n\r\nhi"


class FakeChanges(NoChanges):
    """Tickets ascend; `covers` are the accounts whose tickets get covered."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, tuple[str, ...]]] = []
        self.covers: set[str] = set()

    def changed(self, account: str, what: str, folder: str = "", deliveries: tuple[str, ...] = ()) -> int:
        self.told.append((account, what, deliveries))
        return len(self.told)

    async def covered(self, account: str, ticket: int, seconds: float) -> bool:
        assert ticket
        await asyncio.sleep(0.1 if account in self.covers else seconds)
        return account in self.covers


class StubbornEnd(SimEnd):
    async def append(self, folder: str, letters: Sequence[Letter]) -> tuple[Copied | Refused, ...]:
        return (Refused("NULs", Identity("")),)


class NetStage(Stage):
    """Stage with replicas: account 0 lives on s0 and has one on s1; 2 on s0 alone; 1 on s1, with one on s0."""

    def __init__(self, patience: Patience | None = None, limits: NetLimits | None = None) -> None:
        super().__init__(patience)
        self.view.homes |= {LINKED: Home("s0", ("s1",)), OTHER: Home("s1", ("s0",))}
        self.limits = limits or NetLimits()
        self.changes = FakeChanges()
        self.end: type[SimEnd] = SimEnd
        self.fenced = False
        self.asked: list[str] = []
        self.ready_at = 0.0

    async def open(self) -> None:
        clock, nonce = LoopClock(), SeededNonce(3)
        self.spool: Spool = await open_spool(
            self.disk, clock=clock, trace=self.trace, limits=SpoolLimits(room=0, messages=50))  # type: ignore[arg-type]
        self.dispatcher = Dispatcher(
            self.spool, self.view, self.board, self.backends.__getitem__, edge="edge.example.com", clock=clock,
            nonce=nonce, trace=self.trace, patience=self.patience, changes=self.changes, ready=self.ready,
            fence=lambda account: not self.fenced)
        self.net = Net(
            self.spool, self.view, clock=clock, trace=self.trace, count=NoCount(), limits=self.limits)
        self.rescue = Rescue(
            self.spool, self.net, self.view, self.board, self, clock=clock, nonce=nonce, trace=self.trace,
            changes=self.changes, count=NoCount(), crash_points=self.spool._crash,
            fence=lambda account: not self.fenced)  # type: ignore[arg-type]
        self.net.rescue = self.rescue.wanted
        self.operator = Operator(self.dispatcher, clock=clock, trace=self.trace, net=self.net)
        self.net.start()
        self.dispatcher.start()

    async def make_end(self, account: Account) -> SimEnd:
        return self.end(self.worlds[account.home.primary], account)

    async def ready(self, account: str) -> bool:
        self.asked.append(account)
        if asyncio.get_running_loop().time() < self.ready_at:
            return False
        self.view.homes[account] = replace(self.view.home(account), pending=False)
        return True

    async def send(self, *targets: str) -> str:
        """Delivered when this returns."""
        draft = self.spool.draft()
        await draft.write(BODY % draft.id.encode())
        await draft.commit(self.envelope(targets))
        await self.empty(100)
        return draft.id

    @staticmethod
    def envelope(targets: Sequence[str]) -> Any:
        from tests.queue.test_dispatch_simulation import World

        return World.envelope(list(targets))

    def promote(self, account: str = LINKED, *, replicas: tuple[str, ...] = (), pending: bool = False) -> None:
        home = self.view.home(account)
        self.view.homes[account] = Home(home.replicas[0], replicas, home.epoch + 1, pending)
        self.net.account_changed(account)
        self.dispatcher.reroute()

    async def close(self) -> None:
        await self.dispatcher.stop()
        self.net.stop()
        await self.rescue.stop()
        await self.spool.close()


class Ends:
    def __init__(self, stage: NetStage) -> None:
        self._stage = stage

    async def end(self, account: Account) -> SimEnd:
        return await self._stage.make_end(account)


def play(scene: Callable[[NetStage], Awaitable[None]], **options: Any) -> NetStage:
    stage = NetStage(**options)

    async def whole() -> None:
        await stage.open()
        stage.rescue._ends = Ends(stage)  # type: ignore[assignment]
        await scene(stage)
        await stage.close()

    run(whole())
    return stage


def test_held_until_the_link_says_so() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED, PLAIN)
        assert stage.changes.told == [(LINKED, "DELIVER", (id,)), (PLAIN, "DELIVER", (id,))]
        assert [(name, [one for one, _ in held]) for name, held in stage.net.held().items()] == [(LINKED, [id])]
        await asyncio.sleep(3)
        assert stage.net.held(LINKED)[LINKED][0][1] >= 3
        assert stage.net.held(PLAIN) == {PLAIN: []}
        stage.net.release(PLAIN, [id], [], 0)
        stage.net.release(LINKED, ["somethingelse0000"], [], 0)
        assert len(stage.net) == 1
        stage.net.release(LINKED, [id], [], 0)
        assert not len(stage.net) and not stage.spool.netted and stage.spool.find(id) is None
        assert stage.trace.named("replicated")[0]["queue_id"] == id

    play(scene)


def test_what_a_filter_consumed_is_let_go() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        stage.net.release(LINKED, [], [id], 1)
        assert not stage.spool.netted
        assert stage.trace.named("consumed")

    play(scene)


def test_a_word_of_an_older_link_lets_nothing_go() -> None:
    async def scene(stage: NetStage) -> None:
        stage.view.homes[LINKED] = Home("s0", ("s1",), 3)
        id = await stage.send(LINKED)
        stage.net.release(LINKED, [id], [], 2)
        assert stage.spool.netted
        stage.net.release(LINKED, [id], [], 3)
        assert not stage.spool.netted

    play(scene)


def test_two_accounts_let_go_one_after_the_other() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED, OTHER)
        stage.net.release(LINKED, [id], [], 0)
        assert stage.spool.netted and list(stage.net.held()) == [OTHER]
        stage.net.release(OTHER, [id], [], 0)
        assert not stage.spool.netted

    play(scene)


def test_what_is_held_is_no_waiting_mail() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        assert not stage.spool.entries and stage.spool.size == 0 and stage.spool.oldest is None
        assert await stage.operator.waiting() == []
        (item,) = await stage.operator.waiting(net=True)
        assert (item.id, item.targets[0].state) == (id, "netted")
        shown = stage.operator.show(id)
        assert shown is not None and asdict(shown)["targets"][0]["server"] == "s0"
        figures = stage.operator.figures()
        assert (figures.messages, figures.net, figures.net_aside) == (0, 1, 0) and figures.net_bytes > 100
        for act in (stage.operator.retry, stage.operator.hold):
            assert await act([id]) == []
        assert await stage.operator.delete() == []
        for _ in range(60):
            await stage.send(LINKED)  # more than may wait
        await asyncio.sleep(8000)
        assert len(stage.spool.netted) == 61, "nor does it grow too old"
        assert not stage.trace.named("bounce")
        assert await stage.operator.delete([id]) == [id]
        assert len(stage.spool.netted) == len(stage.net) == 60

    play(scene, patience=Patience(give_up_after=3600, warn_after=0))


def test_a_restart_finds_it_in_the_log_and_aside() -> None:
    async def scene(stage: NetStage) -> None:
        first = await stage.send(LINKED, PLAIN)
        assert await stage.spool.set_aside([first]) == 1
        second = await stage.send(LINKED)
        await stage.close()
        await stage.open()
        assert {id for id, _ in stage.net.held()[LINKED]} == {first, second} == set(stage.spool.netted)
        entry = stage.spool.find(first)
        assert entry is not None and entry.aside
        assert await stage.spool.body(entry).read(0, 1000) == BODY % first.encode()
        stage.net.release(LINKED, [first, second], [], 0)
        await stage.close()
        await stage.open()
        assert not stage.spool.netted and not stage.spool.entries

    play(scene)


def test_set_aside_after_a_while() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        await asyncio.sleep(90)
        assert stage.spool.net_sizes[0] and not stage.spool.net_sizes[1]
        await asyncio.sleep(25)
        assert not stage.spool.net_sizes[0] and stage.spool.net_sizes[1]
        assert (await stage.operator.waiting(net=True))[0].id == id
        stage.net.release(LINKED, [id], [], 0)
        assert stage.spool.net_sizes == (0, 0)

    play(scene, limits=NetLimits(aside_after=100))


def test_set_aside_when_the_log_grows() -> None:
    async def scene(stage: NetStage) -> None:
        ids = [await stage.send(LINKED) for _ in range(10)]
        await asyncio.sleep(5)
        left = [entry.id for entry in stage.spool.netted_in_log()]
        assert left == ids[-len(left) :] and 0 < len(left) < 8, "the oldest went"
        assert len(stage.net) == 10

    play(scene, limits=NetLimits(log_bytes=2000))


@pytest.mark.parametrize("limits", [
    NetLimits(account_messages=3), NetLimits(account_bytes=250), NetLimits(server_messages=3),
    NetLimits(server_bytes=250)])
def test_the_end_of_a_quota_is_told_and_nothing_is_dropped(limits: NetLimits) -> None:
    async def scene(stage: NetStage) -> None:
        for _ in range(6):
            await stage.send(LINKED)
        await stage.send(OTHER)
        await asyncio.sleep(5)
        (alert,) = stage.trace.named("net quota")
        assert alert.get("account") == LINKED or alert.get("server") == "s0"
        assert len(stage.net) == 7
        assert [entry.envelope.targets[0].account for entry in stage.spool.netted_in_log()] == [OTHER]
        await asyncio.sleep(3600)
        await stage.send(LINKED)
        assert len(stage.trace.named("net quota")) == 2, "once an hour"

    play(scene, limits=limits)


def test_a_full_disk_puts_setting_aside_off() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        before = stage.disk.capacity
        stage.disk.capacity = stage.disk.used() + 10
        await asyncio.sleep(30)
        assert stage.trace.named("net not set aside")
        stage.disk.capacity = before
        await asyncio.sleep(30)
        entry = stage.spool.find(id)
        assert entry is not None and entry.aside

    play(scene, limits=NetLimits(aside_after=5))


# -- homes change


def test_a_replica_that_is_taken_away_or_exchanged() -> None:
    async def scene(stage: NetStage) -> None:
        first = await stage.send(LINKED)
        stage.view.homes[LINKED] = Home("s0", ("s2",), 2)
        stage.net.account_changed(LINKED)
        entry = stage.spool.find(first)
        assert entry is not None and entry.of(0).epoch == 2
        stage.net.release(LINKED, [first], [], 1)
        assert stage.spool.find(first)
        stage.view.homes[LINKED] = Home("s0", (), 3)
        stage.net.account_changed(LINKED)
        assert not stage.spool.netted and stage.trace.named("net let go")

    play(scene)


def test_an_account_that_is_gone_is_waited_for_and_then_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_module, "GONE_AFTER", 7200.0)

    async def scene(stage: NetStage) -> None:
        await stage.send(LINKED)
        del stage.view.homes[LINKED]
        stage.net.account_changed(LINKED)
        assert stage.spool.netted
        await asyncio.sleep(11_000)
        assert not stage.spool.netted and stage.trace.named("net let go")

    play(scene)


@pytest.mark.parametrize("aside", [False, True])
def test_put_onto_the_new_primary(aside: bool) -> None:
    async def scene(stage: NetStage) -> None:
        there, missing = await stage.send(LINKED), await stage.send(LINKED, PLAIN)
        stage.s1.store(LINKED, there)
        stage.s0.up = False
        if aside:
            await stage.spool.set_aside([there, missing])
        stage.promote(replicas=("s0",), pending=True)
        await asyncio.sleep(30)
        assert not stage.s1.boxes[LINKED, missing], "not before the gap is made"
        stage.view.homes[LINKED] = replace(stage.view.home(LINKED), pending=False)
        stage.net.account_changed(LINKED)
        await asyncio.sleep(1)
        assert stage.s1.boxes[LINKED, there] == stage.s1.boxes[LINKED, missing] == stage.s1.appended == 1
        assert stage.s1.deliveries == 0, "never by LMTP"
        assert len(stage.net) == 2, "held for the new link"
        assert {entry.of(0).server for entry in stage.spool.netted.values()} == {"s1"}
        assert stage.changes.told[-1] == (LINKED, "DELIVER", (missing,))
        stage.net.release(LINKED, [there, missing], [], 2)
        assert not stage.spool.netted

    play(scene)


def test_put_there_and_done_where_no_replica_is_left() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        stage.promote()
        await asyncio.sleep(1)
        assert stage.s1.boxes[LINKED, id] == 1 and not stage.spool.netted

    play(scene)


def test_after_a_restart_days_late() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        await stage.close()
        stage.view.homes[LINKED] = Home("s1", ("s0",), 2)
        await asyncio.sleep(5 * 86400)
        await stage.open()
        stage.rescue._ends = Ends(stage)  # type: ignore[assignment]
        await asyncio.sleep(2)
        assert not stage.s1.boxes[LINKED, id], "a predecessor may have begun it: asked twice"
        await asyncio.sleep(3)
        assert stage.s1.boxes[LINKED, id] == 1

    play(scene)


def test_a_lost_answer_to_an_append_is_looked_up() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        stage.s1.faults = {"lost after": 1.0}
        stage.promote()
        await asyncio.sleep(0.5)
        stage.s1.faults = {}
        await asyncio.sleep(60)
        assert stage.s1.boxes[LINKED, id] == 1 and not stage.spool.netted
        assert stage.trace.named("rescued")[0]["reply"] == "found by its delivery id"

    play(scene)


def test_what_the_new_primary_refuses_stays_and_is_told() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        stage.end = StubbornEnd
        stage.promote()
        await asyncio.sleep(1000)
        assert stage.spool.find(id) and len(stage.trace.named("net refused")) == 1
        stage.end = SimEnd
        await asyncio.sleep(8000)
        assert stage.s1.boxes[LINKED, id] == 1, "tried again when it may have learnt better"

    play(scene)


def test_an_edge_that_may_not_write_waits() -> None:
    async def scene(stage: NetStage) -> None:
        id = await stage.send(LINKED)
        stage.fenced = True
        stage.promote()
        await asyncio.sleep(20)
        assert not stage.s1.appended
        stage.fenced = False
        await asyncio.sleep(10)
        assert stage.s1.boxes[LINKED, id] == 1

    play(scene)


# -- deliveries


def test_a_delivery_waits_for_the_gap() -> None:
    async def scene(stage: NetStage) -> None:
        stage.view.homes[LINKED] = Home("s1", ("s0",), 2, pending=True)
        stage.ready_at = 5.0
        draft = stage.spool.draft()
        await draft.write(b"x")
        await draft.commit(stage.envelope([LINKED, OTHER]))
        await asyncio.sleep(1)
        assert stage.s1.boxes[OTHER, draft.id] == 1 and not stage.s1.boxes[LINKED, draft.id]
        await stage.empty(10)
        assert stage.s1.boxes[LINKED, draft.id] == 1
        assert set(stage.asked) == {LINKED} and len(stage.asked) < 10

    play(scene)


def test_a_fenced_edge_hands_nothing_over() -> None:
    async def scene(stage: NetStage) -> None:
        stage.fenced = True
        draft = stage.spool.draft()
        await draft.write(b"x")
        await draft.commit(stage.envelope([LINKED, PLAIN]))
        await asyncio.sleep(60)
        assert stage.s0.boxes[LINKED, draft.id] == 0
        assert not stage.trace.named("attempt")
        stage.fenced = False
        await stage.empty(7200)
        assert stage.s0.boxes[LINKED, draft.id] == stage.s0.boxes[PLAIN, draft.id] == 1

    play(scene)


def test_a_home_that_changes_before_the_final_dot() -> None:
    class Slow(SimBackend):
        async def deliver(self, delivery: Any, attempt: Any) -> Any:
            stage.promote(replicas=("s0",))
            return await super().deliver(delivery, attempt)

    async def scene(on: NetStage) -> None:
        on.backends["s0"] = Slow(on.s0)
        id = await on.send(LINKED)
        assert on.s0.boxes[LINKED, id] == 0 and on.s1.boxes[LINKED, id] == 1

    stage = NetStage()

    async def whole() -> None:
        await stage.open()
        await scene(stage)
        await stage.close()

    run(whole())


@pytest.mark.parametrize("carried", [True, False])
def test_doubt_at_a_server_that_died_is_the_new_primarys(carried: bool) -> None:
    async def scene(stage: NetStage) -> None:
        stage.s0.faults = {"lost after": 1.0}
        draft = stage.spool.draft()
        await draft.write(b"x")
        await draft.commit(stage.envelope([LINKED]))
        await asyncio.sleep(0.2)
        (entry,) = stage.spool.entries.values()
        assert entry.of(0).state is State.IN_DOUBT
        stage.s0.up = False
        if carried:
            stage.s1.store(LINKED, draft.id)
        stage.promote(replicas=("s0",))
        await stage.empty(60)
        assert stage.s1.boxes[LINKED, draft.id] == 1
        assert stage.s1.deliveries == (0 if carried else 1), "by LMTP: nobody had acknowledged it"
        assert stage.spool.netted[draft.id].of(0).epoch == 2

    play(scene)


def test_a_late_answer_of_the_old_primary_is_not_the_new_ones() -> None:
    """It is found there while the home changes: acknowledged, and yet to be put onto the new primary."""

    class Late(SimBackend):
        async def find(self, account: Account, delivery_id: str, *, since: float | None = None) -> Lookup:
            answer = await super().find(account, delivery_id, since=since)
            stage.promote(replicas=("s0",))
            return answer

    stage = NetStage()

    async def whole() -> None:
        await stage.open()
        stage.rescue._ends = Ends(stage)  # type: ignore[assignment]
        stage.backends["s0"] = Late(stage.s0)
        stage.s0.faults = {"lost after": 1.0}
        id = await stage.send(LINKED)
        await asyncio.sleep(2)
        assert stage.s0.boxes[LINKED, id] == stage.s1.boxes[LINKED, id] == stage.s1.appended == 1
        await stage.close()

    run(whole())


# -- level replica


def test_level_replica() -> None:
    async def scene(stage: NetStage) -> None:
        async def level(*targets: str, copied: Sequence[str], timeout: float = 5.0) -> tuple[Level, float]:
            draft = stage.spool.draft()
            await draft.write(b"x")
            await draft.commit(stage.envelope(targets))
            began = asyncio.get_running_loop().time()
            reached = await stage.dispatcher.wait_level(draft.id, timeout, copied)
            return reached, asyncio.get_running_loop().time() - began

        stage.changes.covers = {LINKED, OTHER}
        assert (await level(LINKED, copied=[]))[0] is Level.PRIMARY
        reached, seconds = await level(LINKED, OTHER, PLAIN, copied=[LINKED, OTHER])
        assert reached is Level.REPLICA and 0.1 < seconds < 0.5
        stage.changes.covers = {LINKED}
        reached, seconds = await level(LINKED, OTHER, copied=[LINKED, OTHER])
        assert reached is Level.PRIMARY and 4.9 < seconds < 5.1
        assert (await level(LINKED, OTHER, copied=[LINKED]))[0] is Level.REPLICA
        stage.s0.faults = {"put off": 1.0}
        reached, seconds = await level(LINKED, copied=[LINKED])
        assert reached is Level.SPOOL and seconds < 1

    play(scene)


# -- the record


def test_a_program_that_knows_no_net_reads_what_this_one_wrote() -> None:
    """As it read events before there were epochs."""
    from onedomain.queue import record

    done = Outcome(State.DONE, "s1", "250 ok")
    kind, id, indexes, server, *_ = record.unpack_event(record.pack_attempt("id", (0,), "s1", 1.0, {0: 7}))
    assert (kind, id, indexes, server) == ("a", "id", [0], "s1")
    kind, id, outcomes, *_ = record.unpack_event(record.pack_outcomes("id", {0: done}, 1.0, {0: 7}))
    assert (kind, outcomes) == ("o", {"0": record.pack_outcome(done)})
    plain = record.unpack_event(record.pack_outcomes("id", {0: done}, 1.0, {}))
    assert len(plain) == 4, "and accounts without a replica cost nothing"
