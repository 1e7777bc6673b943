"""The runner in virtual time: what is due when, how far behind, who waits for whom, and what workers are told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from onedomain.app.promotions import progress
from onedomain.decision.link.growth import STORED
from onedomain.decision.move import Progress
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, again, refuse
from onedomain.model.replica import LinkState
from onedomain.replica.linked import MAX_NAMES, Linked
from onedomain.replica.pace import Bounds
from onedomain.replica.parts import Rhythm

from ..health.virtual import VirtualClock, run
from .kit import WORKER, SlowEnd, Town, towns


def scene(play: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            await play()
        finally:
            while towns:
                await towns.pop().links.stop()

    run(whole())


async def settled(town: Town, *names: str) -> None:
    town.links.start()
    for name in names:
        town.touch(name)
        await town.covered(name)


def test_an_event_is_carried_within_milliseconds_and_released() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        each = town.deliver("ann@x")
        assert await town.covered("ann@x") < 0.02
        assert town.same("ann@x") and town.outlet.confirmed == [each] and not town.outlet.consumed

    scene(play)


@pytest.mark.parametrize("others", [0, 100])
def test_mail_for_an_account_that_was_not_there_is_carried_at_once(others: int) -> None:
    """A node makes an account when somebody comes. Until then it says no for good and is asked seldom, also where it
    goes on saying no whatever is told.
    """
    async def play() -> None:
        town = Town()
        pool, asked = town.pools["a"], 0

        async def nobody(account: Account) -> SlowEnd:
            nonlocal asked
            asked += 1
            raise Failed(refuse(550, "5.1.1", "no such account"))

        there, pool.end = pool.end, nobody  # type: ignore[method-assign]
        town.account("ann@x")
        town.links.start()
        await asyncio.sleep(100)
        assert asked == 1
        for _ in range(others):
            town.touch("ann@x")
            await asyncio.sleep(1)
        assert asked <= 10
        pool.end = there  # type: ignore[method-assign]
        if not others:
            town.deliver("ann@x")
            assert await town.covered("ann@x") < 1

    scene(play)


def test_what_a_promotion_has_to_know_is_kept_of_each_account_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which there may be any number; of accounts that the directory does not name only so many are remembered."""
    monkeypatch.setattr("onedomain.replica.links.STRANGERS", 3)

    async def play() -> None:
        town = Town()
        names = [f"u{number}@x" for number in range(10)]
        for name in names:
            town.account(name)
        await settled(town, *names)
        for name in names:
            town.links.sent(name).add("INBOX", [(7, name)])
            town.touch(name, "APPEND")
            paused = town.accounts[name] = replace(town.accounts[name], home=Home("b", ("a",), 2, pending=True))
            town.links.configure(paused, linked=True)
        for number in range(10):
            town.touch(f"stranger{number}@x")
        for name in names:
            assert town.links.sent(name).by_folder() == {"INBOX": {7: name}}
            assert town.links.allowed(name, ["INBOX"], 0.0) != {}
            settled_now = town.accounts[name] = replace(town.accounts[name], home=Home("b", ("a",), 2))
            town.links.configure(settled_now, linked=True)
        assert len(town.links) == 10 and len(town.links._strangers) == 3
        assert not town.links._paused

    scene(play)


def test_who_looks_at_a_state_does_not_put_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person asks for it while it is in the database only; it comes late, when a pass has saved a newer one."""
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        await town.idle("ann@x")
        linked = town.links.linked("ann@x")
        assert linked is not None
        linked.state = None
        load, asked = town.load, asyncio.Event()

        async def late(account: Account) -> object:
            monkeypatch.undo()
            found = await load(account)
            await asked.wait()
            return found

        monkeypatch.setattr(town, "load", late)
        looking = asyncio.get_running_loop().create_task(town.links.read("ann@x"))
        await asyncio.sleep(0)
        town.deliver("ann@x")
        await town.covered("ann@x")
        await town.idle("ann@x")
        asked.set()
        await looking
        assert linked.state == town.saved["ann@x"]

    scene(play)


def test_up_to_when_changes_are_covered_is_known() -> None:
    async def play() -> None:
        town = Town()
        for name in ("ann@x", "other@x"):
            town.account(name)
        await settled(town, "ann@x", "other@x")

        def ago() -> float:
            (row,) = town.links.rows(troubled=False, limit=9, accounts=["ann@x", "nobody@x"])
            return float(row["whole_ago"])

        await asyncio.sleep(10)
        assert 10 < ago() < 20
        town.pools["b"].down = True
        each = town.deliver("ann@x")
        await asyncio.sleep(20)
        assert ago() > 30, "passes began, and none was whole"
        town.pools["b"].down = False
        town.links.kick("b")
        town.links.retry("ann@x")
        await town.outlet.until(lambda: each in town.outlet.confirmed, 10)
        await asyncio.sleep(1)
        assert 1 <= ago() < 11

    scene(play)


def test_nobody_waits_for_what_is_only_ours() -> None:
    """A round trip to each side, and the append; not the database, nor what the replica's marks are then."""
    async def play() -> None:
        town = Town(saving=5.0, seconds=0.01)
        town.account("ann@x")
        await settled(town, "ann@x")
        await town.idle("ann@x")
        for what in ("DELIVER", "APPEND"):
            before = [pool.questions.copy() for pool in town.pools.values()]
            each = town.deliver("ann@x", told=False)
            town.touch("ann@x", what, "" if what == "DELIVER" else "INBOX", [each] if what == "DELIVER" else [])
            assert await town.covered("ann@x") < 0.035 and town.same("ann@x")
            saves = town.saves
            await town.idle("ann@x")
            asked = [pool.questions - known for pool, known in zip(town.pools.values(), before, strict=True)]
            assert asked == [Counter(look=1, letters=1), Counter(list_folders=2, append=1)]  # its marks, afterwards
            assert town.saves == saves + 1

    scene(play)


def test_nothing_changed_is_one_question_to_each_side() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        await town.idle("ann@x")
        for pool in town.pools.values():
            pool.questions.clear()
        town.touch("ann@x")
        await town.covered("ann@x")
        await town.idle("ann@x")
        assert [dict(pool.questions) for pool in town.pools.values()] == [{"look": 1}, {"list_folders": 1}]

    scene(play)


def test_what_nets_hold_is_known_also_while_there_is_no_link() -> None:
    """An old primary is not asked for its tail before the nets have put theirs, and until then no link runs."""

    async def play() -> None:
        town = Town()
        account = town.account("ann@x")
        await settled(town, "ann@x")
        assert not town.links.held("ann@x")
        town.pools["b"].down = True
        each = town.deliver("ann@x")
        await asyncio.sleep(1)
        assert set(town.links.held("ann@x")) == {each}
        town.links.configure(account, linked=True, paused=True)
        assert town.links.linked("ann@x") is None and set(town.links.held("ann@x")) == {each}
        town.links.net(("e1", 0), {"ann@x": [[each, 1.0], ["other", 2.0]]})
        assert set(town.links.held("ann@x")) == {each, "other"} and not town.links.held("nobody@x")

    scene(play)


def test_events_during_a_pass_make_one_more() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        before = town.pools["a"].dials
        town.deliver("ann@x")
        await asyncio.sleep(0.002)
        for _ in range(20):
            town.deliver("ann@x")
        await town.covered("ann@x")
        assert town.pools["a"].dials <= before + 3 and town.same("ann@x") and len(town.outlet.confirmed) == 21

    scene(play)


def test_one_save_per_pass_and_none_for_nothing() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        before = town.saves
        town.deliver("ann@x")
        await town.covered("ann@x")
        await town.idle("ann@x")
        assert town.saves == before + 1
        town.touch("ann@x")
        await town.covered("ann@x")
        await town.idle("ann@x")
        assert town.saves == before + 1

    scene(play)


def test_a_sweep_finds_what_nobody_told() -> None:
    async def play() -> None:
        town = Town(rhythm=Rhythm(sweep=300))
        names = [f"u{n}@x" for n in range(40)]
        for name in names:
            town.account(name)
        await settled(town, *names)
        for name in names:
            town.deliver(name, told=False)
        dials = town.pools["a"].dials
        await asyncio.sleep(150)
        assert town.pools["a"].dials == dials  # not before their time
        await asyncio.sleep(150)
        assert dials < town.pools["a"].dials < dials + 40  # spread out
        await asyncio.sleep(100)
        assert all(town.same(name) for name in names)

    scene(play)


def test_what_a_filter_consumed_is_let_go_after_two_whole_passes() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        town.touch("ann@x", "DELIVER", "", ["discarded"])
        await town.covered("ann@x")
        assert not town.outlet.consumed
        await town.outlet.until(lambda: bool(town.outlet.consumed), 3)
        assert town.outlet.consumed == ["discarded"] and not town.outlet.confirmed

    scene(play)


def test_an_event_that_comes_after_its_message() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        each = town.deliver("ann@x", told=False)
        town.touch("ann@x")
        await town.covered("ann@x")
        town.touch("ann@x", "DELIVER", "", [each])
        assert town.outlet.confirmed == [each]
        town.links.net(WORKER, {"ann@x": [[each, 3.0], ["lost", 3.0]]})
        await town.outlet.until(lambda: "lost" in town.outlet.consumed, 5)
        assert town.outlet.confirmed == [each, each]

    scene(play)


def test_a_huge_first_copy_holds_nobody_up() -> None:
    async def play() -> None:
        town = Town(size=8, bounds=Bounds(8))
        small = [f"u{n}@x" for n in range(80)]
        for name in small:
            town.account(name)
        await settled(town, *small)
        for number in range(6):
            name = f"huge{number}@x"
            town.account(name)
            box = town.pools["a"].mailbox(name)
            for message in range(5000):
                box.append("INBOX", b"x: %d\r\n\r\n" % message, frozenset(), message)
        await asyncio.sleep(0.1)
        lags = []
        for _ in range(5):
            for name in small:
                town.deliver(name)
            for name in small:
                lags.append(await town.covered(name))
        assert max(lags) < 1.0, max(lags)
        copied = [len(town.pools["b"].mailbox(f"huge{n}@x").boxes["INBOX"].messages) for n in range(6)]
        assert sum(bool(count) for count in copied) >= 2 and sum(count == 5000 for count in copied) < 6
        for number in range(6):
            town.touch(f"huge{number}@x")
            await town.covered(f"huge{number}@x", 300)
        assert town.pools["a"].most <= 8 and all(town.same(f"huge{n}@x") for n in range(6))

    scene(play)


def test_how_much_of_a_first_copy_is_still_to_go_is_told() -> None:
    """To who moves an account, and for each pair of servers; less and less, also over passes that let others in."""

    async def play() -> None:
        town = Town(seconds=0.02, rhythm=Rhythm(share=0.5))
        town.account("ann@x")
        box = town.pools["a"].mailbox("ann@x")
        for message in range(5000):
            box.append("INBOX", b"x: %d\r\n\r\n" % message, frozenset(), message)
        assert progress(town.links, "ann@x") == Progress(False)
        town.links.start()
        seen = [5000]
        while not town.same("ann@x"):
            await asyncio.sleep(0.005)
            now = progress(town.links, "ann@x")
            assert now is not None
            there = len(town.pools["b"].mailbox("ann@x").boxes["INBOX"].messages)
            if now.behind and now.behind != seen[-1]:
                seen.append(now.behind)
                assert now.behind >= 5000 - there and not now.whole
                assert town.links.pairs()[0]["to_go"] == now.behind
                assert town.links.rows(troubled=False, limit=9)[0]["to_go"] == now.behind
        assert len(seen) >= 4 and seen == sorted(seen, reverse=True), seen
        await town.idle("ann@x")
        assert progress(town.links, "ann@x") == Progress(True) and town.links.pairs()[0]["to_go"] == 0

    scene(play)


def test_huge_first_copies_hold_up_no_other_first_copy() -> None:
    """All places for first copies are theirs when the others come; each lets go of its place after a while."""

    async def play() -> None:
        town = Town(size=8, bounds=Bounds(8), rhythm=Rhythm(share=0.1))
        huge, small = [f"huge{n}@x" for n in range(3)], [f"u{n}@x" for n in range(20)]
        for name in huge:
            town.account(name)
            box = town.pools["a"].mailbox(name)
            for message in range(4_000):
                box.append("INBOX", b"x: %d\r\n\r\n" % message, frozenset(), message)
        town.links.start()
        await asyncio.sleep(0.1)
        for name in small:
            town.account(name)
            town.deliver(name)
        for name in small:
            await town.covered(name, 5)
        copied = [len(town.pools["b"].mailbox(name).boxes["INBOX"].messages) for name in huge]
        assert all(0 < count < 4_000 for count in copied), copied
        for name in huge:
            town.touch(name)
            await town.covered(name, 300)
        assert all(town.same(name) for name in huge + small) and not town.links.rows(troubled=True, limit=9)
        carried = sum(fields.get("copied", 0) for event, fields in town.log.events if event == "link pass")
        assert carried == 3 * 4_000 + 20, "nothing twice"

    scene(play)


@pytest.mark.parametrize("returned", [False, True])
def test_who_has_nearly_all_does_not_wait_behind_first_copies(returned: bool) -> None:
    """Until it is whole its primary's death would find no replica: an old primary that has returned, and an account
    whose first copy missed what its user has deleted meanwhile.
    """

    async def play() -> None:
        town = Town(size=8, bounds=Bounds(8))
        town.pools["a"].per_letter = 0.001
        busy, huge = "busy@x", ["huge1@x", "huge2@x"]
        for name in huge:
            for message in range(3_000):
                town.pools["a"].mailbox(name).append("INBOX", b"x: %d\r\n\r\n" % message, frozenset(), message)
        box = town.pools["a"].mailbox(busy)
        for message in range(100):
            box.append("INBOX", b"x: %d\r\n\r\n" % message, frozenset(), message)
        town.links.start()
        if returned:
            for name in huge:
                town.account(name)
            await asyncio.sleep(0.05)
            town.accounts[busy] = Account(busy, "unit", Home("a", ("b",), 1))
            town.links.configure(town.accounts[busy], linked=True, returned=True)
        else:
            town.account(busy)
            await asyncio.sleep(0.05)
            for name in huge:
                town.account(name)
            box.expunge("INBOX", (100,))
        town.touch(busy)
        assert await town.covered(busy, 300) < 1 and town.same(busy)
        assert not any(town.same(name) for name in huge), "they are copied still"

    scene(play)


def test_ten_times_more_active_accounts_than_connections() -> None:
    async def play() -> None:
        town = Town(size=4, bounds=Bounds(4))
        names = [f"u{n}@x" for n in range(40)]
        for name in names:
            town.account(name)
        await settled(town, *names)
        worst: dict[str, float] = {}
        for _ in range(10):
            for name in names:
                town.deliver(name)
            for name in names:
                worst[name] = max(worst.get(name, 0), await town.covered(name))
        assert max(worst.values()) < 0.5 and town.pools["b"].most <= 4
        assert all(town.same(name) for name in names)

    scene(play)


def test_a_dead_server_is_not_hammered_and_others_go_on() -> None:
    async def play() -> None:
        town = Town()
        town.pools["c"] = type(town.pools["a"])("node")
        names = [f"u{n}@x" for n in range(50)]
        for name in names:
            town.account(name)
        town.account("other@x", replica="c")
        await settled(town, *names, "other@x")
        town.pools["b"].down = True
        dials = town.pools["b"].dials
        for name in names:
            town.deliver(name)
        await asyncio.sleep(600)
        assert town.pools["b"].dials - dials < 100
        assert set(town.links.stopped()) >= {town.links.rows(troubled=True, limit=1)[0]["account"]}
        each = town.deliver("other@x")
        await town.outlet.until(lambda: each in town.outlet.confirmed, 1)
        town.down.add("b")  # the board has heard of it
        dials = town.pools["b"].dials
        assert set(names) <= set(town.links.stopped()) and "other@x" not in town.links.stopped()
        await asyncio.sleep(600)
        assert town.pools["b"].dials == dials
        town.pools["b"].down = False
        town.down.clear()
        town.links.kick("b")
        await town.outlet.until(lambda: len(town.outlet.confirmed) == 51, 300)
        assert all(town.same(name) for name in names) and not town.links.stopped()

    scene(play)


def test_a_server_that_hangs_costs_its_own_accounts_only() -> None:
    async def play() -> None:
        town = Town()
        town.pools["c"] = type(town.pools["a"])("node")
        for number in range(30):
            town.account(f"u{number}@x")
        town.account("other@x", primary="c", replica="b")
        town.account("third@x", primary="c", replica="a")
        town.pools["b"].mailbox("other@x")
        await settled(town, "third@x")
        town.pools["b"].hung = True
        for number in range(30):
            town.deliver(f"u{number}@x")
        await asyncio.sleep(5)
        each = town.deliver("third@x", server="c")
        assert await town.covered("third@x", 5) < 5 or each

    scene(play)


def test_no_log_in_stops_the_link_and_says_so_once() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")

        async def end(account: Account) -> None:
            raise Failed(refuse(550, "5.7.8", "no log-in", "no log-in for links"))

        town.pools["b"].end = end  # type: ignore[method-assign,assignment]
        town.links.start()
        await asyncio.sleep(3600)
        assert town.outlet.alerts == ["ann@x : link stopped: no log-in for links"]
        assert town.links.show("ann@x")["phase"] == "stopped"  # type: ignore[index]
        assert town.links.pairs()[0]["reasons"] == [{"reason": "no log-in for links", "accounts": 1}]

    scene(play)


def test_a_mass_deletion_waits_for_a_person() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        for _ in range(100):
            town.deliver("ann@x", told=False)
        await settled(town, "ann@x")
        town.pools["a"].mailbox("ann@x").expunge("INBOX", tuple(range(1, 81)))
        town.touch("ann@x", "STORE")
        await town.covered("ann@x")
        boxes = town.pools["b"].mailbox("ann@x").boxes
        assert len(boxes["INBOX"].messages) == 100 and town.links.rows(troubled=True, limit=9)[0]["braked"] == ["INBOX"]
        assert any("gone at once" in alert for alert in town.outlet.alerts)
        town.deliver("ann@x")
        await town.covered("ann@x")
        assert len(boxes["INBOX"].messages) == 101  # copying goes on
        town.links.accept("ann@x")
        town.touch("ann@x")
        await town.covered("ann@x")
        assert town.same("ann@x") and len(town.aside.kept) == 80

    scene(play)


@pytest.mark.parametrize(("ago", "carried"), [(0.0, False), (3600.0, True), (2 * 86_400.0, False)])
def test_what_a_person_has_accepted_outlives_the_linker(ago: float, carried: bool) -> None:
    """`ago` 0: he has not. For a day: what he saw is not what is to be deleted weeks later."""
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        for _ in range(100):
            town.deliver("ann@x", told=False)
        await settled(town, "ann@x")
        town.pools["a"].mailbox("ann@x").expunge("INBOX", tuple(range(1, 81)))
        town.touch("ann@x", "STORE")
        await town.covered("ann@x")
        await town.idle("ann@x")
        await town.links.stop()
        town.links = town.new_links()
        saved = town.saved["ann@x"]
        town.links.known("ann@x", saved, VirtualClock().time() - ago if ago else 0.0)
        town.links.start()
        town.touch("ann@x")
        await town.covered("ann@x")
        assert len(town.pools["b"].mailbox("ann@x").boxes["INBOX"].messages) == (20 if carried else 100)
        assert town.links.show("ann@x")["accepted"] is False, "of what is carried, nothing is left to accept"

    scene(play)


def test_what_was_accepted_is_not_for_a_brake_that_came_since() -> None:
    """What a person has accepted is carried, and something else is braked by then, of which he knows nothing."""
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        source = town.pools["a"].mailbox("ann@x")
        source.create("Lists")
        for number in range(100):
            source.append("Lists", f"Message-ID: <l{number}>\r\n\r\nx".encode(), frozenset(), number)
            town.deliver("ann@x", told=False)
        await settled(town, "ann@x")
        source.expunge("INBOX", tuple(range(1, 81)))
        town.touch("ann@x", "STORE")
        await town.covered("ann@x")
        await town.idle("ann@x")
        assert town.accepted["ann@x"] is False
        source.expunge("Lists", tuple(range(1, 81)))
        town.links.accept("ann@x")
        town.touch("ann@x", "STORE", "Lists")
        await town.covered("ann@x")
        await town.idle("ann@x")
        boxes = town.pools["b"].mailbox("ann@x").boxes
        assert [len(boxes[name].messages) for name in ("INBOX", "Lists")] == [20, 100]
        assert town.accepted["ann@x"] is False, "or whoever runs the links next lets that through, too"

    scene(play)


@pytest.mark.parametrize("when", ["told first", "another replica", "at the new primary", "at the old one"])
def test_what_was_commanded_is_known_also_if_it_is_told_before_the_link_runs(when: str) -> None:
    """A linker that begins may hear of an account sooner than of its home, and homes change under way. What was told of
    an old primary nobody has asked of the new one.
    """
    async def play() -> None:
        town = Town("node", "node")
        account = town.account("ann@x")
        for _ in range(100):
            town.deliver("ann@x", told=False)
        await settled(town, "ann@x")
        await town.idle("ann@x")
        await town.links.stop()
        if when == "told first":
            del town.accounts["ann@x"]
            town.links = town.new_links()
        home = account.home
        if when == "another replica":
            home = replace(home, replicas=("b", "c"), epoch=2)
        if when == "at the old one":
            town.touch("ann@x", "EXPUNGE")
        if when in ("at the new primary", "at the old one"):
            home = Home("b", ("a",), 2)
            town.links.configure(replace(account, home=replace(home, pending=True)), linked=True)
            town.links.promoted("ann@x")
            town.saved["ann@x"] = LinkState(2, tuple(
                replace(link, source=link.target, target=link.source) for link in town.saved["ann@x"].folders))
        town.pools[home.primary].mailbox("ann@x").expunge("INBOX", tuple(range(1, 81)))
        town.touch("ann@x", "STORE" if when == "at the old one" else "EXPUNGE")
        town.epochs["ann@x"] = home.epoch  # the directory has taken the state along
        town.links.configure(replace(account, home=home), linked=True)
        town.links.start()
        await town.covered("ann@x")
        left = len(town.pools[home.replicas[0]].mailbox("ann@x").boxes["INBOX"].messages)
        assert left == (100 if when == "at the old one" else 20)

    scene(play)


@pytest.mark.parametrize("what", ["room", "database", "state"])
def test_what_our_own_side_lacks_is_no_servers_fault(what: str) -> None:
    """Or everybody's OKs would be given without their replicas."""
    async def play() -> None:
        town = Town("node", "cyrus")
        for name in ("ann@x", "bob@x"):
            town.account(name)
        await settled(town, "ann@x", "bob@x")

        async def full(*words: object) -> None:
            raise Failed(again(452, "4.3.1", "Insufficient system storage, try again later"))

        if what == "room":
            town.aside.keep = full  # type: ignore[method-assign,assignment]
        else:
            town.away = True
        if what == "state":
            town.load = full  # type: ignore[method-assign,assignment]
            town.links.linked("ann@x").state = None  # type: ignore[union-attr]
        town.pools["a"].mailbox("ann@x").append("INBOX", b"Subject: odd\r\n\r\n\0", frozenset(), 1)
        town.touch("ann@x", "APPEND")
        await asyncio.sleep(60)
        assert "ann@x" in town.links.stopped() and "bob@x" not in town.links.stopped(), town.links.stopped()

    scene(play)


def test_commanded_deletions_are_carried() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        for _ in range(100):
            town.deliver("ann@x", told=False)
        await settled(town, "ann@x")
        town.pools["a"].mailbox("ann@x").expunge("INBOX", tuple(range(1, 81)))
        town.touch("ann@x", "EXPUNGE")
        await town.covered("ann@x")
        assert town.same("ann@x")

    scene(play)


def test_a_renamed_inbox_that_is_deleted_is_no_restore() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        town.deliver("ann@x", told=False)
        await settled(town, "ann@x")
        mailbox = town.pools["a"].mailbox("ann@x")
        mailbox.rename("INBOX", "Old")
        mailbox.delete("Old")
        for what, folder in (("RENAME", "INBOX"), ("RENAME", "Old"), ("DELETE", "Old")):
            town.touch("ann@x", what, folder)
        await town.covered("ann@x")
        await town.idle("ann@x")
        linked = town.links.linked("ann@x")
        assert town.same("ann@x") and not town.outlet.alerts and linked is not None and not linked.renamed

    scene(play)


def test_a_message_that_only_the_primary_has_is_known_of() -> None:
    """A move stands still, also under the next linker, until it is gone."""
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        mailbox = town.pools["a"].mailbox("ann@x")
        mailbox.largest = 100
        mailbox.append("INBOX", b"x" * 200, frozenset(), 1)
        town.touch("ann@x", "APPEND")
        await town.covered("ann@x")
        await town.idle("ann@x")
        assert progress(town.links, "ann@x") == Progress(True, "1 messages are larger than links carry", 0)
        await town.links.stop()
        town.links = town.new_links()
        town.links.known("ann@x", town.saved["ann@x"])
        assert progress(town.links, "ann@x") == Progress(True, "1 messages are larger than links carry", 0)
        town.links.start()
        mailbox.expunge("INBOX", (1,))
        town.touch("ann@x", "EXPUNGE")
        await town.covered("ann@x")
        await town.idle("ann@x")
        assert progress(town.links, "ann@x") == Progress(True, "", 0)

    scene(play)


def test_another_home_cuts_the_pass_off() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        town.pools["b"].hung = True
        town.deliver("ann@x")
        await asyncio.sleep(0.1)
        assert town.pools["a"].lent == 1
        town.links.configure(Account("ann@x", "unit", Home("b", ("a",), 2, pending=True)), linked=True)
        await town.links.quiet("ann@x")
        assert town.pools["a"].lent == 0 and len(town.links) == 0
        town.pools["b"].hung = False
        ticket = town.touch("ann@x")  # before the link is known here
        town.pools["b"].mailbox("ann@x")
        town.links.configure(Account("ann@x", "unit", Home("b", ("a",), 2)), linked=True)
        await town.outlet.until(lambda: town.outlet.covers["ann@x"] == ticket, 5)

    scene(play)


def test_who_waits_for_quiet_waits_also_for_the_pass_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off by a change of home, and not ended yet: its connections are still open."""
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        close, slow = SlowEnd.close, asyncio.Event()

        async def closing(end: SlowEnd, *, broken: bool = False) -> None:
            await slow.wait()
            await close(end, broken=broken)

        monkeypatch.setattr(SlowEnd, "close", closing)
        town.pools["b"].hung = True
        town.deliver("ann@x")
        await asyncio.sleep(0.1)
        home = Home("a", ("b",), 2)
        town.links.configure(Account("ann@x", "unit", home), linked=True)
        await asyncio.sleep(0.1)  # the next pass waits for the first
        town.links.configure(Account("ann@x", "unit", replace(home, epoch=3, pending=True)), linked=True)
        quiet = asyncio.get_running_loop().create_task(town.links.quiet("ann@x"))
        await asyncio.sleep(0.1)
        assert not quiet.done() and town.pools["a"].lent == 1
        slow.set()
        await quiet
        assert town.pools["a"].lent == town.pools["b"].lent == 0

    scene(play)


def test_names_that_clients_say_are_bounded() -> None:
    linked = Linked(Account("ann@x", "unit", Home("a", ("b",))))
    for number in range(MAX_NAMES + 100):
        linked.touched(WORKER, number, "RENAME", f"{number}", (), 0.0)
    assert len(linked.commanded) == len(linked.renamed) == MAX_NAMES


def test_nothing_is_covered_without_the_lease() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        town.lease = False
        before = dict(town.outlet.covers)
        town.deliver("ann@x")
        await asyncio.sleep(30)
        assert town.outlet.covers == before

    scene(play)


def test_a_successor_goes_on_from_what_was_saved() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        await settled(town, "ann@x")
        await town.links.stop()
        each = town.deliver("ann@x", told=False)
        town.links = town.new_links()
        town.links.known("ann@x", town.saved["ann@x"])
        town.links.net(WORKER, {"ann@x": [[each, 1.0]]})
        assert "ann@x" not in town.links.stopped()
        town.links.start()
        await town.outlet.until(lambda: each in town.outlet.confirmed, 5)
        assert town.same("ann@x")

    scene(play)


@pytest.mark.parametrize("pair", [("dovecot", "cyrus"), ("node", "imap"), ("cyrus", "dovecot")])
def test_a_busy_account_that_never_holds_still_is_covered_in_the_end(pair: tuple[str, str]) -> None:
    async def play() -> None:
        town = Town(*pair)
        town.account("ann@x")
        await settled(town, "ann@x")
        end = VirtualClock().monotonic() + 5
        while VirtualClock().monotonic() < end:
            town.deliver("ann@x")
            await asyncio.sleep(town.dice.random() * 0.004)
        await town.covered("ann@x", 30)
        assert len(town.outlet.confirmed) == town.number

    scene(play)


@pytest.mark.parametrize("cut", ["a", "b"])
def test_a_pass_that_is_cancelled_while_an_end_closes_gives_back_the_other(
    cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        close = SlowEnd.close

        async def cancelled(end: SlowEnd, *, broken: bool = False) -> None:
            await close(end, broken=broken)
            if end._pool is town.pools[cut]:
                raise asyncio.CancelledError

        monkeypatch.setattr(SlowEnd, "close", cancelled)
        town.links.start()
        town.deliver("ann@x")
        await asyncio.sleep(1)
        assert town.pools["a"].dials and town.pools["a"].lent == town.pools["b"].lent == 0

    scene(play)


def test_what_is_stored_before_oks_are_held_counts_until_a_pass_has_it() -> None:
    """Workers hear a moment later that a link is whole, and until then let OKs go that nobody has covered."""

    async def play() -> None:
        town = Town()
        town.account("ann@x")

        def tell() -> None:
            town.links.stopped_told(town.links.stopped())

        tell()
        await settled(town, "ann@x")
        linked = town.links.linked("ann@x")
        assert linked is not None and linked.was_whole
        town.pools["b"].hung = True
        town.touch("ann@x", "APPEND", "Sent")
        assert linked.brought == 0, "it is held, or that it is not is told"
        town.touch("ann@x", STORED)
        assert linked.brought == 1
        town.links.lost()
        assert linked.brought == 2, "workers have not heard that it is whole"
        town.pools["b"].hung = False
        tell()
        town.links.lost()
        await asyncio.sleep(0)
        assert linked.brought > 0, "the news may be under way"
        tell()
        await town.idle("ann@x")
        town.touch("ann@x", "STORE", "INBOX")
        await town.covered("ann@x")
        assert linked.brought == 0
        town.touch("ann@x", "APPEND", "Sent")
        town.links.lost()
        assert linked.brought == 0, "its OK waits"
        await town.covered("ann@x")
        town.pools["b"].seconds = 3.0
        town.touch("ann@x", "APPEND", "Sent")
        await asyncio.sleep(2)
        town.touch("ann@x", STORED)
        assert linked.brought == 1, "it was let go as it took too long"
        town.pools["b"].seconds = 0.001
        await town.covered("ann@x")
        assert linked.brought == 0

    scene(play)


def test_a_linker_that_begins_hears_again_what_clients_were_told() -> None:
    async def play() -> None:
        town = Town()
        account = town.account("ann@x")
        await settled(town, "ann@x")
        town.links.remove("ann@x")
        town.links.lost()
        town.touch("ann@x", "APPEND", "Sent")
        town.touch("ann@x", STORED)
        town.links.lost()
        town.links.configure(account, linked=True)
        linked = town.links.linked("ann@x")
        assert linked is not None and linked.brought == 2
        town.links.known("ann@x", town.saved["ann@x"])
        assert linked.brought == 1, "of a link that was whole the others waited"

    scene(play)


def test_while_a_primary_is_silent_nobody_lets_its_oks_go() -> None:
    """The replica that is about to follow lacks what they are for."""

    async def play() -> None:
        town = Town()
        town.account("ann@x")
        town.down.add("a")
        assert town.links.stopped() == ["ann@x"], "nobody waits for the first copy"
        town.down.clear()
        await settled(town, "ann@x")
        assert not town.links.stopped()
        town.down.add("a")
        assert not town.links.stopped()
        town.down.clear()
        town.down.add("b")
        assert town.links.stopped() == ["ann@x"]

    scene(play)


def test_of_links_that_are_not_whole_what_nobody_tells_counts() -> None:
    async def play() -> None:
        town = Town()
        town.account("ann@x")
        linked = town.links.linked("ann@x")
        assert linked is not None
        town.links.lost()
        assert linked.brought == 1 and linked.growth.unsure
        await settled(town, "ann@x")
        assert linked.brought == 0 and not linked.growth.unsure

    scene(play)


def test_since_its_promotion_all_of_an_account_is_known_or_not() -> None:
    async def play() -> None:
        town = Town()
        account = town.account("ann@x")
        await settled(town, "ann@x")
        home = Home("b", ("a",), 2, pending=True)
        town.pools["b"].hung = True
        await town.idle("ann@x")
        for told in (True, False):
            town.touch("ann@x", STORED)
            before = VirtualClock().monotonic()
            await asyncio.sleep(1)
            if told:
                town.links.promoted("ann@x")
            pending = replace(account, home=home)
            town.links.configure(pending, linked=True)
            assert town.links.linked("ann@x") is None
            town.touch("ann@x", STORED)
            town.links.configure(replace(account, home=replace(home, pending=False)), linked=True, returned=True,
                                 even=True)
            linked = town.links.linked("ann@x")
            assert linked is not None and linked.even is told
            assert linked.brought == (1 if told else 2), "what came meanwhile counts"
            assert linked.since is not None and (linked.since > before) is told, "and nothing else"
            town.links.remove("ann@x")
            town.links.configure(account, linked=True)

    scene(play)
