"""What the dispatcher promises one by one, in virtual time: pace, pauses, returns, bounces, the operator's verbs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable

from onedomain.decision.retry import HOUR, Patience, Pauses
from onedomain.model.account import Home, Level
from onedomain.model.failure import Failed, again
from onedomain.model.message import Envelope, Outcome, State, Target
from onedomain.queue.body import BytesBody, StoredBody
from onedomain.queue.bounce import HOURLY
from onedomain.queue.dispatch import GONE, Dispatcher
from onedomain.queue.limits import SpoolLimits
from onedomain.queue.operator import Operator
from onedomain.queue.spool import Spool
from tests.queue.fakes import ListTrace, open_spool
from tests.queue.simulation import LOST, LoopClock, SimBackend, SimBoard, SimServer, SimView, address, run
from tests.store.forgetful import ForgetfulDisk
from tests.store.inline import SeededNonce

ROOMY = SpoolLimits(room=0, messages=5000)


class Stage:
    """Two servers, accounts 0 and 2 on s0, 1 and 3 on s1, and a smarthost that keeps what goes out."""

    def __init__(self, patience: Patience | None = None, **options: object) -> None:
        import random

        chance = random.Random(4)
        self.disk = ForgetfulDisk()
        self.s0 = SimServer("s0", chance)
        self.s1 = SimServer("s1", chance)
        self.smarthost = SimServer("smarthost", chance, can_find=False)
        self.worlds = {server.name: server for server in (self.s0, self.s1, self.smarthost)}
        self.view = SimView({address(number): f"s{number % 2}" for number in range(4)})
        self.board = SimBoard()
        self.trace = ListTrace()
        self.patience = patience or Patience()
        self.backends = {name: SimBackend(world) for name, world in self.worlds.items()}

    async def open(self) -> None:
        clock = LoopClock()
        self.spool: Spool = await open_spool(
            self.disk, clock=clock, trace=self.trace, limits=ROOMY  # type: ignore[arg-type]
        )
        self.dispatcher = Dispatcher(
            self.spool, self.view, self.board, self.backends.__getitem__, edge="edge.example.com",
            domain="example.com", clock=clock, nonce=SeededNonce(3), trace=self.trace, patience=self.patience,
        )
        self.operator = Operator(self.dispatcher, clock=clock, trace=self.trace)
        self.dispatcher.start()

    async def put(self, *targets: Target | str, sender: str = "a@example.net", body: bytes = b"X: y\r\n\r\nhi") -> str:
        draft = self.spool.draft()
        await draft.write(body)
        made = tuple(one if isinstance(one, Target) else Target(one, one, one) for one in targets)
        await draft.commit(Envelope(sender, made))
        return draft.id

    async def empty(self, patience: float) -> None:
        async with asyncio.timeout(patience):
            while self.spool.entries:
                await asyncio.sleep(patience / 1000)

    def boxes(self) -> dict[str, int]:
        return {
            mailbox: count for world in self.worlds.values() for (mailbox, _), count in world.boxes.items()
        }


def play(scene: Callable[[Stage], Awaitable[None]], **options: Patience) -> Stage:
    stage = Stage(**options)

    async def whole() -> None:
        await stage.open()
        await scene(stage)
        await stage.dispatcher.stop()
        await stage.spool.close()

    run(whole())
    assert not stage.trace.named("dispatch defect")
    return stage


def test_one_message_to_several_servers_reaches_each_once() -> None:
    async def scene(stage: Stage) -> None:
        outside = Target("friend@example.net")
        id = await stage.put(address(0), address(1), address(2), outside, body=b"A: b\r\n\r\nbody")
        await stage.empty(5)
        assert stage.boxes() == {address(0): 1, address(1): 1, address(2): 1, "friend@example.net": 1}
        assert stage.s0.deliveries == 1, "one transaction for both of its accounts"
        assert {world.bodies[id] for world in stage.worlds.values()} == {b"A: b\r\n\r\nbody"}

    play(scene)


def test_memory_is_kept_for_what_goes_soon() -> None:
    async def scene(stage: Stage) -> None:
        stage.board.down.add("s1")
        waits = stage.spool.entries[await stage.put(address(1))]
        assert isinstance(stage.spool.body(waits), StoredBody)
        goes = stage.spool.entries[await stage.put(address(1), address(0))]
        assert isinstance(stage.spool.body(goes), BytesBody), "one of its servers is up"

    play(scene)


def test_no_more_at_once_than_the_server_may_have() -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(40):
            await stage.put(address(0))
        await stage.empty(30)
        assert stage.s0.most_at_once == 3

    play(scene)


def test_a_server_that_is_down_is_left_alone_and_served_at_once_when_it_returns() -> None:
    async def scene(stage: Stage) -> None:
        stage.s0.up = False
        stage.board.down.add("s0")
        for _ in range(300):
            await stage.put(address(0))
        await stage.put(address(1))
        await asyncio.sleep(2 * HOUR)
        assert stage.s0.deliveries == 0
        assert stage.s1.boxes.total() == 1, "others don't wait for it"
        stage.s0.up = True
        stage.board.down.clear()
        stage.dispatcher.kick("s0")
        await stage.empty(10)
        assert stage.s0.boxes.total() == 300

    play(scene)


def test_a_server_that_only_deliveries_see_failing_gets_fewer_and_fewer_tries() -> None:
    async def scene(stage: Stage) -> None:
        stage.s0.up = False
        for _ in range(50):
            await stage.put(address(0))
        await asyncio.sleep(HOUR)
        gaps = [later - earlier for earlier, later in zip(stage.s0.times, stage.s0.times[1:], strict=False)]
        assert stage.s0.deliveries < 40
        assert max(gaps) > 200
        assert gaps[-1] <= 301
        stage.s0.up = True
        asked = asyncio.get_running_loop().time()
        await stage.empty(301)
        first = next(moment for moment in stage.s0.times if moment > asked)
        assert asyncio.get_running_loop().time() - first < 5, "one gets through, the rest follow at once"

    play(scene)


def test_a_kick_ends_every_pause() -> None:
    async def scene(stage: Stage) -> None:
        stage.s0.up = False
        for _ in range(5):
            await stage.put(address(0))
        await asyncio.sleep(HOUR)
        stage.s0.up = True
        stage.dispatcher.kick("s0")
        await stage.empty(2)

    play(scene)


def test_one_poisonous_message_does_not_hold_up_the_others() -> None:
    async def scene(stage: Stage) -> None:
        poison = await stage.put(address(0), body=b"poison")
        backend = stage.backends["s0"]
        deliver = backend.deliver

        async def allergic(delivery, attempt):  # type: ignore[no-untyped-def]
            if delivery.id == poison:
                await asyncio.sleep(0.05)
                raise Failed(LOST)
            return await deliver(delivery, attempt)

        backend.deliver = allergic  # type: ignore[method-assign]
        for _ in range(100):
            await stage.put(address(0))
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        assert list(stage.spool.entries) == [poison]

    play(scene)


def test_a_message_whose_answer_is_lost_each_time_is_not_sent_again_and_again() -> None:
    """It may arrive each time: with other mail going through, and nobody to ask, that was a copy every second."""

    async def scene(stage: Stage) -> None:
        bad = await stage.put(Target("bad@example.net", original="bad@example.net"))
        backend = stage.backends["smarthost"]
        deliver = backend.deliver

        async def forgetful(delivery, attempt):  # type: ignore[no-untyped-def]
            outcomes = await deliver(delivery, attempt)
            if delivery.id != bad:
                return outcomes
            return {index: Outcome(State.IN_DOUBT, "smarthost", failure=LOST) for index in outcomes}

        backend.deliver = forgetful  # type: ignore[method-assign]
        for _ in range(360):
            await stage.put(Target("good@example.net", original="good@example.net"))
            await asyncio.sleep(10)
        assert list(stage.spool.entries) == [bad]
        copies = stage.smarthost.boxes["bad@example.net", bad]
        assert 2 < copies < 14, copies
        times = stage.smarthost.times
        assert times[1] - times[0] < 2, "one answer lost is no reason to wait"

    play(scene)


def test_a_recipient_put_off_waits_alone() -> None:
    async def scene(stage: Stage) -> None:
        stage.s0.faults["put off"] = 1.0
        await stage.put(address(0))
        await asyncio.sleep(HOUR)
        tries = stage.s0.deliveries
        assert 6 <= tries <= 14
        stage.s0.faults.clear()
        await stage.put(address(2))
        await asyncio.sleep(1)
        assert stage.boxes() == {address(2): 1}, "the server itself is not paused"
        await stage.empty(1801)
        assert stage.boxes() == {address(0): 1, address(2): 1}

    play(scene)


def test_an_account_that_moves_is_followed() -> None:
    async def scene(stage: Stage) -> None:
        stage.board.down.add("s0")
        await stage.put(address(0))
        await asyncio.sleep(1)
        stage.view.homes[address(0)] = "s1"
        stage.dispatcher.reroute()
        await stage.empty(1)
        assert stage.s1.boxes.total() == 1
        assert stage.s0.deliveries == 0

    play(scene)


def test_an_account_that_is_gone_is_given_up_after_a_while() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put("nobody@example.com")
        await asyncio.sleep(HOUR / 2)
        assert stage.spool.entries
        await stage.empty(4 * HOUR)
        assert stage.trace.named("failed")[0]["failure"] == str(GONE)
        assert list(stage.smarthost.boxes) != []

    play(scene)


def test_an_empty_directory_gives_nobody_up() -> None:
    async def scene(stage: Stage) -> None:
        homes = dict(stage.view.homes)
        stage.view.homes.clear()
        await stage.put(address(0))
        await asyncio.sleep(24 * HOUR)
        assert not stage.trace.named("failed")
        stage.view.homes.update(homes)
        stage.dispatcher.reroute()
        await stage.empty(1801)

    play(scene)


def test_what_is_refused_comes_back_to_its_sender_once() -> None:
    async def scene(stage: Stage) -> None:
        stage.s0.refuses.add(address(0))
        await stage.put(address(0), address(1), sender=address(3), body=b"Subject: mine\r\n\r\nsecret")
        await stage.empty(5)
        (bounce,) = stage.trace.named("bounce")
        report = stage.s1.bodies[bounce["bounce_id"]]
        assert b"Content-Type: multipart/report" in report
        assert b"Final-Recipient: rfc822; user0@example.com" in report
        assert b"550 5.7.1 refused" in report
        assert b"user1@example.com" not in report
        assert b"Subject: mine" in report
        assert b"secret" not in report
        assert report.startswith(b"X-OneDomain-Delivery: " + bounce["bounce_id"].encode())
        assert stage.boxes() == {address(1): 1, address(3): 1}

    play(scene)


def test_a_bounce_that_fails_comes_to_the_postmaster() -> None:
    async def scene(stage: Stage) -> None:
        stage.view.postmaster = address(2)
        stage.s0.refuses.add(address(0))
        stage.s1.refuses.add(address(3))
        first = await stage.put(address(0), sender=address(3), body=b"Subject: mine\r\n\r\nsecret")
        await stage.empty(5)
        bounce, double = stage.trace.named("bounce")
        assert (bounce["queue_id"], bounce["recipient"]) == (first, address(3))
        assert (double["queue_id"], double["recipient"]) == (bounce["bounce_id"], "postmaster@example.com")
        assert stage.boxes() == {address(2): 1}
        report = stage.s0.bodies[double["bounce_id"]]
        assert b"Final-Recipient: rfc822; user3@example.com" in report and b"To: <postmaster@example.com>" in report

    play(scene)


def test_a_report_that_the_postmaster_does_not_get_goes_nowhere() -> None:
    async def scene(stage: Stage) -> None:
        stage.view.postmaster = address(2)
        stage.s0.refuses.update([address(0), address(2)])
        stage.s1.refuses.add(address(3))
        await stage.put(address(0), sender=address(3))
        await stage.empty(5)
        assert len(stage.trace.named("bounce")) == 2
        assert len(stage.trace.named("double bounce")) == 2

    play(scene)


def test_mail_without_a_sender_does_not_fill_the_postmasters_mailbox() -> None:
    async def scene(stage: Stage) -> None:
        stage.view.postmaster = address(2)
        stage.s0.refuses.add(address(0))
        for _ in range(2):
            for _ in range(HOURLY + 10):
                await stage.put(address(0), sender="")
            await stage.empty(30)
            await asyncio.sleep(HOUR)
        assert sum(stage.s0.boxes.values()) == 2 * HOURLY
        assert len(stage.trace.named("double bounce")) == 2 * (HOURLY + 10)

    play(scene)


def test_never_means_never_and_full_means_all_of_it() -> None:
    async def scene(stage: Stage) -> None:
        stage.s0.refuses.update([address(0), address(2)])
        await stage.put(Target(address(0), address(0), "", "NEVER"))
        await stage.empty(5)
        assert not stage.trace.named("bounce")
        draft = stage.spool.draft()
        await draft.write(b"A: b\r\n\r\n" + b"x" * 9000)
        await draft.commit(Envelope("out@example.net", (Target(address(2), address(2)),), ret="FULL"))
        await stage.empty(5)
        (bounce,) = stage.trace.named("bounce")
        assert b"x" * 9000 in stage.smarthost.bodies[bounce["bounce_id"]]

    play(scene)


def test_after_five_days_it_is_given_up_and_after_four_hours_said_to_be_late() -> None:
    async def scene(stage: Stage) -> None:
        stage.board.down.add("s0")
        await stage.put(address(0), sender=address(1))
        await asyncio.sleep(5 * HOUR)
        assert [event["action"] for event in stage.trace.named("bounce")] == ["delayed"]
        await asyncio.sleep(30 * HOUR)
        assert len(stage.trace.named("bounce")) == 1, "said once"
        await stage.empty(100 * HOUR)
        assert [event["action"] for event in stage.trace.named("bounce")] == ["delayed", "failed"]
        assert "5.4.7" in stage.trace.named("failed")[0]["failure"]
        assert stage.s0.deliveries == 0

    play(scene)


def test_strangers_are_told_of_a_delay_only_if_they_asked() -> None:
    """A forged sender would get a line about every piece of spam that waits for a server."""

    async def scene(stage: Stage) -> None:
        stage.board.down.add("s0")
        await stage.put(address(0), sender="out@example.net")
        asked = await stage.put(Target(address(0), address(0), "", "FAILURE,DELAY"), sender="out@example.net")
        logged_in = stage.spool.draft()
        await logged_in.commit(Envelope("other@example.net", (Target(address(0), address(0)),), login=address(1)))
        await asyncio.sleep(5 * HOUR)
        assert {event["queue_id"] for event in stage.trace.named("bounce")} == {asked, logged_in.id}

    play(scene)


def test_doubt_without_end_is_given_up_as_such() -> None:
    async def scene(stage: Stage) -> None:
        stage.s0.faults.update({"lost before": 1.0, "can't find": 1.0})
        await stage.put(address(0))
        await asyncio.sleep(24 * HOUR)
        assert stage.s0.deliveries == 1, "never sent again"
        (entry,) = stage.spool.entries.values()
        assert entry.of(0).state is State.IN_DOUBT
        assert stage.operator.figures().in_doubt == 1
        await stage.empty(120 * HOUR)
        assert "never confirmed" in stage.trace.named("failed")[0]["failure"]

    play(scene)


async def lost_in_its_queue(stage: Stage) -> str:
    """A message that a server with a queue of its own has taken, and nobody heard it say so."""
    backend = stage.backends["s0"]
    backend.server = dataclasses.replace(backend.server, queue_time=600.0)
    stage.s0.faults.update({"lost before": 1.0})
    return await stage.put(address(0))


def test_a_server_with_a_queue_of_its_own_is_asked_for_longer() -> None:
    """It took the message, the answer was lost, and its own delivery failed once: to be seen minutes later only."""

    async def scene(stage: Stage) -> None:
        late = await lost_in_its_queue(stage)
        await asyncio.sleep(1)
        stage.s0.store_late(400, address(0), late)
        await asyncio.sleep(390)
        assert stage.s0.deliveries == 1 and not stage.trace.named("delivered")
        await stage.empty(200)
        assert stage.boxes() == {address(0): 1}
        looks = len(stage.trace.named("looked up"))
        assert 5 < looks < 15, looks
        stage.s0.faults.clear()

    play(scene)


def test_a_no_counts_only_if_the_server_has_answered_ever_since() -> None:
    """It was away between two looks: what was in its queue had no time to be filed."""

    async def scene(stage: Stage) -> None:
        late = await lost_in_its_queue(stage)
        await asyncio.sleep(30)
        stage.s0.up = False
        await asyncio.sleep(2000)
        back = asyncio.get_running_loop().time()
        stage.s0.up = True
        stage.s0.store_late(back + 590, address(0), late)
        stage.dispatcher.kick("s0")
        await stage.empty(1000)
        assert stage.s0.deliveries == 1 and stage.boxes() == {address(0): 1}

    play(scene)


def test_a_no_from_before_its_death_counts_no_more() -> None:
    """Its mailboxes could be looked into, its door was seen to be gone: nobody asked it meanwhile."""

    async def scene(stage: Stage) -> None:
        late = await lost_in_its_queue(stage)
        await asyncio.sleep(1)
        assert stage.trace.named("looked up")
        stage.board.down.add("s0")
        await asyncio.sleep(2000)
        stage.s0.store_late(asyncio.get_running_loop().time() + 590, address(0), late)
        stage.board.down.clear()
        stage.dispatcher.kick("s0")
        await stage.empty(1000)
        assert stage.s0.deliveries == 1 and stage.boxes() == {address(0): 1}

    play(scene)


def test_what_comes_after_a_no_is_found_before_the_next_try() -> None:
    """The old primary returns while the message waits for its turn: what it had taken is brought."""

    async def scene(stage: Stage) -> None:
        stage.view.homes[address(0)] = Home("s0", ("s1",), 3)
        stage.s0.faults.update({"lost before": 1.0})
        id = await stage.put(address(0))
        async with asyncio.timeout(60):
            while len(stage.trace.named("deferred")) < 2:
                await asyncio.sleep(0.1)
        stage.s0.faults.clear()
        stage.s0.store(address(0), id)
        await stage.empty(4000)
        assert stage.boxes() == {address(0): 1}
        assert stage.trace.named("looked up")[-1]["found"] == "yes"
        assert stage.trace.named("delivered")[0]["reply"] == "found by its delivery id"

    play(scene)


def test_what_an_old_primary_may_be_bringing_is_tried_when_it_is_through() -> None:
    async def scene(stage: Stage) -> None:
        stage.view.homes[address(0)] = Home("s0", ("s1",), 3)
        brings = True

        async def may_try(account: str) -> bool:
            return not brings

        stage.dispatcher._inquiry._may_try = may_try
        stage.s0.faults.update({"lost before": 1.0})
        await stage.put(address(0))
        async with asyncio.timeout(60):
            while not stage.trace.named("deferred"):
                await asyncio.sleep(0.1)
        stage.s0.faults.clear()
        await asyncio.sleep(4000)
        assert stage.boxes() == {} and len(stage.trace.named("attempt")) == 1
        brings = False
        await stage.empty(8000)
        assert stage.boxes() == {address(0): 1}

    play(scene)


def test_what_a_smarthost_says_of_one_domain_holds_nobody_else_up() -> None:
    async def scene(stage: Stage) -> None:
        backend = stage.backends["smarthost"]
        deliver = backend.deliver
        said = again(450, "4.4.1", "no answer from dead.example")

        async def choosy(delivery, attempt):  # type: ignore[no-untyped-def]
            if b"dead" not in await delivery.body.read(0, 1000):
                return await deliver(delivery, attempt)
            await asyncio.sleep(0.01)
            return {index: Outcome(State.AGAIN, "smarthost", str(said), said) for index, _ in delivery.recipients}

        backend.deliver = choosy  # type: ignore[method-assign]
        for number in range(20):
            dead = number % 2
            to = f"x{number}@{'dead' if dead else 'alive'}.example"
            await stage.put(Target(to, original=to), body=b"dead" if dead else b"alive")
        await asyncio.sleep(2)
        assert len(stage.spool.entries) == 10
        assert stage.dispatcher.lane("smarthost").failures == 0

    play(scene)


def test_level_primary() -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.dispatcher.wait_level(await stage.put(address(0), address(1)), 5) is Level.PRIMARY
        stage.s0.faults["put off"] = 1.0
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert await stage.dispatcher.wait_level(await stage.put(address(0), address(1)), 50) is Level.SPOOL
        assert loop.time() - before < 1, "no use waiting for what was put off"
        stage.s0.faults.clear()
        stage.board.down.add("s1")
        before = loop.time()
        assert await stage.dispatcher.wait_level(await stage.put(address(1)), 50) is Level.SPOOL
        assert loop.time() - before < 0.01, "nor for a server that is down"
        stage.s0.up = False
        assert await stage.dispatcher.wait_level(await stage.put(address(0)), 0.001) is Level.SPOOL
        assert await stage.dispatcher.wait_level("nosuchid", 5) is Level.SPOOL

    play(scene)


def test_the_operators_verbs() -> None:
    async def scene(stage: Stage) -> None:
        stage.board.down.update(["s0", "s1"])
        first = await stage.put(address(0), sender="one@example.net")
        await asyncio.sleep(1)
        second = await stage.put(address(1), sender="two@example.net")
        operator = stage.operator
        assert [item.id for item in await operator.waiting()] == [first, second]
        assert [item.id for item in await operator.waiting(limit=1)] == [first]
        assert [item.id for item in await operator.waiting(address="TWO@")] == [second]
        assert await operator.waiting(address="nobody") == await operator.waiting(address='"') == []
        assert await operator.hold([first, "nosuch"]) == [first]
        assert await operator.hold([first]) == []
        assert [item.id for item in await operator.waiting() if item.held] == [first]
        item = operator.show(first)
        assert item is not None
        assert item.held
        assert json.loads(json.dumps(dataclasses.asdict(item)))["targets"][0]["server"] == "s0"
        assert operator.show("nosuch") is None
        stage.board.down.clear()
        stage.dispatcher.kick("s0")
        stage.dispatcher.kick("s1")
        await asyncio.sleep(1)
        assert list(stage.spool.entries) == [first], "what is held stays"
        assert await operator.retry() == []
        assert await operator.release() == [first]
        await stage.empty(1)
        third = await stage.put(address(0))
        assert await operator.delete() == [third]
        await asyncio.sleep(1)
        assert operator.figures().messages == 0
        assert [event["action"] for event in stage.trace.named("operator")] == ["hold", "release", "delete"]

    play(scene)


def test_a_long_queue_does_not_keep_the_others_waiting_while_it_is_looked_through() -> None:
    """A worker whose loop stands still for fifteen seconds is killed: with a million messages it did."""

    async def scene(stage: Stage) -> None:
        stage.board.down.add("s0")
        for _ in range(1050):
            await stage.put(address(0))
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        operator = stage.operator
        for work, least in (
            (operator.waiting(address="nobody"), 1), (operator.hold(), 10), (operator.release(), 10),
            (operator.retry(), 10), (operator.delete(), 10),
        ):
            await asyncio.sleep(0)
            before = turns
            assert len(await work) in (0, 1050)
            assert turns - before >= least
        task.cancel()

    play(scene)


def test_addresses_are_found_in_any_spelling() -> None:
    async def scene(stage: Stage) -> None:
        stage.board.down.update(("s0", "s1"))
        for sender in ("Ann@Example.ORG", "ÄRGER@example.net", 'q"uo\\te@example.net'):
            await stage.put(address(0), sender=sender)
        table = {"ann@example": 1, "ärger@": 1, "ÄRGER": 1, 'q"uo\\te': 1, "USER0@": 3, "x@": 0}
        for wanted, count in table.items():
            assert len(await stage.operator.waiting(address=wanted)) == count, wanted

    play(scene)


def test_retry_ends_a_pause() -> None:
    async def scene(stage: Stage) -> None:
        stage.s0.faults["put off"] = 1.0
        id = await stage.put(address(0))
        await asyncio.sleep(HOUR)
        item = stage.operator.show(id)
        assert item is not None
        assert item.targets[0].reason == "450 4.2.0 later"
        assert (item.targets[0].next_in or 0) > 60
        stage.s0.faults.clear()
        assert await stage.operator.retry([id]) == [id]
        await stage.empty(1)

    play(scene)


def test_holding_and_deleting_survive_a_restart() -> None:
    stage = Stage()

    async def before() -> tuple[str, str]:
        await stage.open()
        stage.board.down.add("s0")
        held, gone = await stage.put(address(0)), await stage.put(address(0))
        await stage.operator.hold([held])
        await stage.operator.delete([gone])
        await asyncio.sleep(0.1)
        return held, gone

    (held, _), now = run(before())
    stage.disk.crash(1)
    stage.board.down.clear()

    async def after() -> None:
        await stage.open()
        await asyncio.sleep(10)
        assert list(stage.spool.entries) == [held]
        assert stage.s0.deliveries == 0

    run(after(), now)


def test_a_backend_with_a_defect_costs_a_minute_and_is_reported() -> None:
    stage = Stage()

    async def scene() -> None:
        await stage.open()
        deliver = stage.backends["s0"].deliver

        async def broken(delivery, attempt):  # type: ignore[no-untyped-def]
            stage.backends["s0"].deliver = deliver  # type: ignore[method-assign]
            raise ZeroDivisionError

        stage.backends["s0"].deliver = broken  # type: ignore[method-assign]
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        await stage.put(address(0))
        await stage.empty(61)

    run(scene())
    assert len(stage.trace.named("dispatch defect")) == 1


def test_nothing_runs_while_nothing_is_due() -> None:
    async def scene(stage: Stage) -> None:
        stage.board.down.add("s0")
        await stage.put(address(0))
        await asyncio.sleep(1)
        steps = 0
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counted(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal steps
            steps += 1
            return call_at(*args, **kwargs)

        loop.call_at = counted  # type: ignore[method-assign]
        await asyncio.sleep(HOUR)
        assert steps <= 3600 / 30 + 3600 / 600 + 5

    play(scene)


def test_pauses_of_the_patience_given() -> None:
    patience = Patience(recipient=Pauses(100, 100, jitter=0))

    async def scene(stage: Stage) -> None:
        stage.s0.faults["put off"] = 1.0
        await stage.put(address(0))
        await asyncio.sleep(1000)
        gaps = [later - earlier for earlier, later in zip(stage.s0.times, stage.s0.times[1:], strict=False)]
        assert len(gaps) in (8, 9)
        assert all(100 <= gap < 101 for gap in gaps)

    play(scene, patience=patience)
