"""The invariants that a random run reaches too seldom, each named after its number in docs/replication.md.

1 is in test_shown.py; random runs of all are in test_convergence.py (2, 6, 7) and test_failover.py (1 to 6, 12).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from onedomain.decision.link.actions import Action, Append, Burn
from onedomain.decision.link.identity import identity_of
from onedomain.decision.link.release import SWEEPS, release
from onedomain.decision.link.succession import Candidate, Fence, Promote, Wait, Waits, gone, may_promote, successor
from onedomain.model.health import Verdict
from onedomain.model.replica import LinkState, Numbering, Promotion

from .driver import Disk
from .seeds import PAIRS, seeds
from .server import TRAITS, Box, Server
from .test_failover import Client, dead_primaries
from .world import FLAGS, World


def filled(source: str, target: str, seed: int = 0, messages: int = 120) -> World:
    world = World(seed, source, target)
    world.busy = False
    world.source.create(world.source.path("Lists"))
    for number in range(messages):
        raw = f"Message-ID: <f{number}>\r\n\r\nbody {number}".encode()
        world.source.append("INBOX", raw, frozenset(), number)
    world.quiet()
    return world


def rotated(world: World) -> None:
    """A folder is put away, and another one takes its name."""
    source = world.source
    source.rename(source.path("Lists"), source.path("Old"))
    source.create(source.path("Lists"))
    source.append(source.path("Lists"), b"Message-ID: <later>\r\n\r\nlater", frozenset(), 9)


def filed(world: World) -> None:
    """Messages go into a folder that was not there before."""
    source = world.source
    source.create(source.path("Filed"))
    for uid in range(1, 4):
        world.copy(source, "INBOX", uid, source.path("Filed"), move=True)


@pytest.mark.parametrize("happens", [rotated, filed])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_02_folders_change_in_the_middle_of_a_pass(
    source: str, target: str, happens: Callable[[World], None]
) -> None:
    """At each step of a pass in turn. Nothing that was there before is lost or doubled if the primary dies with that
    pass, and no pass takes it for a restore.
    """
    step, reached = 0, True
    while reached:
        step += 1
        world = filled(source, target, messages=8)
        lists = world.source.path("Lists")
        for number in range(5):
            raw = f"Message-ID: <l{number}>\r\n\r\nlisted {number}".encode()
            world.source.append(lists, raw, frozenset(), number)
        world.quiet()
        before = Counter(identity_of(message.raw).digest for _, _, message in world.source.everything())
        world.source.append(lists, b"Message-ID: <new>\r\n\r\nnew", frozenset(), 5)
        world.source.store("INBOX", 8, frozenset(("\\Seen",)))
        begun, alerts = world.steps, len(world.alerts)

        def at(now: int, action: Action, world: World = world, due: int = begun + step) -> str:
            if now == due:
                happens(world)
            return ""

        world.crash_at = at
        world.sweep()
        reached = world.steps >= begun + step
        dies = deepcopy(world)
        assert not dies.fail_over().refused
        after = Counter(identity_of(message.raw).digest for _, _, message in dies.target.everything())
        assert {digest: after[digest] for digest in before} == before, f"{world.label}, step {step}"
        world.crash_at = None
        world.quiet()
        world.check_equal()
        assert not any("pairing again" in alert for alert in world.alerts[alerts:]), f"{world.label}, step {step}"


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_02_a_message_is_moved_in_a_pass_that_finds_no_moment(
    source: str, target: str, back: bool, leaves: bool
) -> None:
    """At each step in turn, while more comes than the pass can read. It may have been read in both folders or in none,
    and the primary dies with that pass: it is on the replica once. What only comes (not `leaves`) holds up no pass
    where changes can be asked for.
    """
    step, reached = 0, True
    wholes: list[bool] = []
    while reached:
        step += 1
        world = filled(source, target, messages=4)
        lists = world.source.path("Lists")
        for number in range(4):
            world.source.append(lists, b"Message-ID: <l%d>\r\n\r\nlisted %d" % (number, number), frozenset(), number)
        world.quiet()
        before = Counter(identity_of(message.raw).digest for _, _, message in world.source.everything())
        begun = world.steps

        def at(now: int, action: Action, world: World = world, due: int = begun + step, lists: str = lists) -> str:
            for name in ("INBOX", lists):
                if leaves:
                    last = max(world.source.boxes[name].messages.items())
                    world.source.expunge(name, (last[0],) if b"filler" in last[1].raw else ())
                world.source.append(name, b"Message-ID: <%d>\r\n\r\nfiller %s" % (now, name.encode()), frozenset(), 9)
            if now == due:
                world.copy(world.source, *((lists, 2, "INBOX") if back else ("INBOX", 2, lists)), move=True)
            return ""

        world.crash_at = at
        report = world.sweep()
        reached = world.steps >= begun + step
        assert not world.fail_over().refused
        after = Counter(identity_of(message.raw).digest for _, _, message in world.target.everything())
        assert {digest: after[digest] for digest in before} == before, f"{world.label}, step {step}"
        wholes.append(report is not None and report.whole)
    assert any(wholes) is (world.source.traits.powers.changes and not leaves)


@pytest.mark.parametrize("grows", [("INBOX",), ("Lists",), ("INBOX", "Lists")])
@pytest.mark.parametrize("way", [("INBOX", "Lists"), ("Lists", "INBOX"), ("INBOX", "Lists", "INBOX"),
                                 ("INBOX", "Sent")])
@pytest.mark.parametrize(("source", "target"), [("dovecot", "node"), ("node", "dovecot"), ("cyrus", "burning")])
def test_02_a_message_is_moved_while_folders_are_listed_and_mail_comes(
    source: str, target: str, way: tuple[str, ...], grows: tuple[str, ...]
) -> None:
    """Between any two folders of a list, and between a folder's mark and its rows."""
    due, reached = 0, True
    while reached:
        due += 1
        world = filled(source, target, messages=4)
        paths = {name: "INBOX" if name == "INBOX" else world.source.path(name) for name in {*way, *grows}}
        for name in paths.values():
            if name not in world.source.boxes:
                world.source.create(name, 0)
            for number in range(3):
                raw = f"Message-ID: <{name}{number}>\r\n\r\n{name} {number}".encode()
                world.source.append(name, raw, frozenset(), 9)
        world.quiet()
        before = Counter(identity_of(message.raw).digest for _, _, message in world.source.everything())
        times = 0

        def between(world: World = world, due: int = due, paths: dict[str, str] = paths) -> None:
            nonlocal times
            times += 1
            for name in grows:
                world.source.append(paths[name], f"Message-ID: <{times}>\r\n\r\nfiller {name}".encode(), frozenset(), 9)
            if due <= times < due + len(way) - 1:
                here, there = way[times - due : times - due + 2]
                uid = 2 if times == due else max(world.source.boxes[paths[here]].messages)
                world.copy(world.source, paths[here], uid, paths[there], move=True)

        world.driver.between = between
        world.sweep()
        reached = times >= due
        world.driver.between = lambda: None
        assert not world.fail_over().refused
        after = Counter(identity_of(message.raw).digest for _, _, message in world.target.everything())
        assert {digest: after[digest] for digest in before} == before, f"{world.label}, {way}, {grows}, {due}"


def continued(world: World, promotion: Promotion) -> list[tuple[Box, Box]]:
    """Folders of a dead primary, and of the new one, whose clients go on with the UIDs that they know."""
    return [
        (world.source.boxes[folder.name], world.target.boxes[folder.target_name])
        for folder in promotion.folders
        if not folder.renumbered and folder.name in world.source.boxes
        and world.source.boxes[folder.name].uidvalidity == folder.uidvalidity
    ]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_03_uidnext_and_highestmodseq_never_decrease(source: str, target: str) -> None:
    folders = 0
    for world, _, _, promotion in dead_primaries(8, source, target):
        for before, now in continued(world, promotion):
            folders += 1
            assert now.uidnext >= before.uidnext, world.label
            if source != "imap" and world.target.traits.powers.numbering is not Numbering.BURNED:  # else it is hidden
                assert now.modseq >= before.modseq, world.label
    assert folders or "ONEDOMAIN_SEED" in os.environ


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_04_a_cache_is_right_after_a_failover(source: str, target: str) -> None:
    caches = 0
    for world, client, _, promotion in dead_primaries(8, source, target):
        client.come_back(world.target, promotion, world.label)
        caches += 1
    assert caches or "ONEDOMAIN_SEED" in os.environ


@pytest.mark.parametrize("source", ["node", "dovecot", "cyrus"])
def test_04_a_cache_is_right_where_the_replica_has_counted_fewer_changes(source: str) -> None:
    """What several changes were to the primary was one to the link: the next one has a MODSEQ that the client, who has
    seen the primary's, asks for.
    """
    world = filled(source, "node", messages=4)
    for number in range(10):
        world.source.store("INBOX", 1, frozenset((FLAGS[number % 2],)))
    world.quiet()
    client = Client(world.source)
    world.source.store("INBOX", 2, frozenset(("\\Seen",)))
    assert world.sweep() is not None
    client.come_back(world.target, world.fail_over(), world.label)
    inbox = world.target.boxes["INBOX"]
    assert client.cache["INBOX"][1] <= inbox.replicated and "\\Seen" in inbox.messages[2].flags


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_05_no_ghosts_of_a_lost_tail(source: str, target: str) -> None:
    """UIDs that only the dead primary had shown are not there, and never name anything again."""
    ghosts = 0
    for world, _, _, promotion in dead_primaries(8, source, target):
        lost = [(before.messages.keys() - now.messages.keys(), now) for before, now in continued(world, promotion)]
        for _ in range(8):
            world.act(world.target)
        for uids, now in lost:
            ghosts += len(uids)
            assert not uids & now.messages.keys(), world.label
    assert ghosts or "ONEDOMAIN_SEED" in os.environ


@pytest.mark.parametrize("target", ["burning", "imap", "plain"])
def test_06_burning_touches_only_its_own_uids(target: str) -> None:
    """Somebody's message, marked \\Deleted, comes into the middle of it."""
    world = filled("dovecot", target, messages=8)
    strangers: list[bytes] = []

    def somebody(step: int, action: Action) -> str:
        if isinstance(action, Burn):
            strangers.append(b"Message-ID: <s%d>\r\n\r\nstranger" % len(strangers))
            world.target.append(action.folder, strangers[-1], frozenset(("\\Deleted",)), 7)
        return ""

    for number in range(4):
        world.source.append("INBOX", b"Message-ID: <h%d>\r\n\r\nhole" % number, frozenset(), number)
    world.source.expunge("INBOX", (9, 10, 11))
    world.crash_at = somebody
    world.sweep()
    before = Counter(message.raw for _, _, message in world.target.everything())
    swept = len(strangers)
    assert swept and all(before[raw] == 1 or raw in world.aside for raw in strangers)
    world.allowed = 20
    assert not world.fail_over().refused
    after = Counter(message.raw for _, _, message in world.target.everything())
    assert len(strangers) > swept and all(after[raw] == 1 for raw in strangers[swept:])
    assert len([raw for raw in after if b"body" in raw]) == 8 and not any(identity_of(raw).filler for raw in after)


def test_07_killed_at_every_single_step() -> None:
    """One scenario, cut off before and after each of its actions in turn."""
    for source, target in (("dovecot", "cyrus"), ("node", "burning"), ("imap", "plain")):
        for how in ("before", "after"):
            step, reached = 0, True
            while reached:
                step += 1
                world = World(3, source, target)
                world.crash_at = lambda at, action, step=step, how=how: how if at == step else ""
                for _ in range(3):
                    world.sweep()
                reached = world.steps >= step
                world.quiet()
                world.check_equal()
                world.check_ledger(world.target)


@pytest.mark.parametrize("target", ["node", "dovecot", "cyrus", "burning"])
def test_07_killed_after_a_pairing_nothing_is_copied_twice(target: str) -> None:
    """The state was lost, or a side was put back: all that is there is paired, and the pass dies as it copies the rest.
    """
    world = filled("node", target, messages=20)
    world.disk.state = LinkState()
    world.source.append("INBOX", b"Message-ID: <rest>\r\n\r\nrest", frozenset(), 1)
    before = {uid: identity_of(message.raw).digest for uid, message in world.source.boxes["INBOX"].messages.items()}
    world.crash_at = lambda step, action: "before" if isinstance(action, Append) else ""
    assert world.sweep() is None
    begun = len(world.driver.log)
    world.quiet()
    copied = sum(each.count("Copy(") for each in world.driver.log[begun:])
    there = world.target.boxes["INBOX"].messages
    assert copied == 1 and {uid: identity_of(message.raw).digest for uid, message in there.items()} == before
    assert all(link.aligned for link in world.disk.state.folders) and not world.aside


def test_08_a_fenced_primary_gets_no_writes_from_an_edge() -> None:
    """Edges with clocks of their own and grants that arrive late; at no time do two epochs write."""
    for seed in seeds(200):
        dice = World(seed, "node", "node").random
        skew = {edge: dice.uniform(-100, 100) for edge in "abc"}
        fences = {edge: Fence().renewed(1, skew[edge]) for edge in "abc"}
        granted, epoch, acknowledged, promoted = dict.fromkeys("abc", 0.0), 1, set(), False
        now = 0.0
        for _ in range(60):
            now += dice.uniform(0, 0.5)
            edge = dice.choice("abc")
            if dice.random() < 0.3 and now > 5:
                epoch = 2
            if dice.random() < 0.4:  # asks at `now`; the grant arrives, or is lost
                if epoch == 1:
                    granted[edge] = now
                if dice.random() < 0.7:
                    fences[edge] = fences[edge].renewed(epoch, now + skew[edge])
                    if epoch == 2:
                        acknowledged.add(edge)
            promoted |= epoch == 2 and may_promote(granted, acknowledged, now, 3.0)
            if promoted:
                for each, fence in fences.items():
                    assert not fence.may_forward(1, now + skew[each], 3.0), seed
    assert Fence(5, 0).renewed(4, 1) == Fence(5, 0)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_09_a_mass_deletion_stops_deletions_and_copying_goes_on(source: str, target: str) -> None:
    world = filled(source, target)
    world.source.expunge("INBOX", tuple(range(1, 61)))
    world.source.append("INBOX", b"Message-ID: <new>\r\n\r\nnew", frozenset(), 5)
    world.quiet()
    box = world.target.boxes["INBOX"]
    assert len(box.messages) == 121 and any("gone at once" in alert for alert in world.alerts)
    world.commanded.add("INBOX")  # a person says that it is right
    world.quiet()
    world.check_equal()


def test_09_a_mailbox_that_melts_away_stops_deletions() -> None:
    world = filled("node", "dovecot")
    for uid in range(1, 100):
        world.source.expunge("INBOX", (uid,))
        world.sweep()
    assert 60 <= len(world.target.boxes["INBOX"].messages) <= 80


def test_09_a_deleted_folder_counts_and_a_move_does_not() -> None:
    world = filled("node", "dovecot")
    for uid in range(1, 101):
        message = world.source.boxes["INBOX"].messages[uid]
        world.source.append("Lists", message.raw, message.flags, message.date)
        world.source.expunge("INBOX", (uid,))
    world.quiet()
    world.check_equal()
    world.source.delete("Lists")
    world.quiet()
    assert sum(len(box.messages) for box in world.target.boxes.values()) == 120


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_10_folders_are_the_same_for_clients(source: str, target: str) -> None:
    for seed in seeds(5):
        world = World(seed, source, target)
        for _ in range(6):
            world.sweep()
        world.quiet()
        promotion = world.fail_over()
        assert {folder.name for folder in promotion.folders} == set(world.source.boxes), world.label
        for folder in promotion.folders:
            here = world.source.boxes[folder.name]
            subscribed = (folder.name in world.source.subscriptions, folder.target_name in world.target.subscriptions)
            assert subscribed[0] == subscribed[1] and here.special_use == folder.special_use, world.label


def test_10_what_is_configured_to_be_subscribed_is_told_once() -> None:
    """And again when its user has changed their mind, or where the folder is another one."""
    world = World(0, "node", "dovecot")
    world.busy = False
    world.target = world.driver.target = Server("dovecot", 5000, replace(TRAITS["dovecot"], subscribed=("Sent",)))
    world.target.create("Sent")
    world.target.subscribe("Sent", True)
    world.source.create("Sent")

    def told() -> int:
        before = len(world.driver.log)
        world.sweep()
        return sum(each.startswith("Subscribe") for each in world.driver.log[before:])

    assert [told() for _ in range(3)] == [1, 0, 0]
    world.source.subscribe("Sent", True)
    assert told() == 0
    world.source.subscribe("Sent", False)
    assert [told() for _ in range(2)] == [1, 0]
    world.source.create("Lists")
    for on in (True, False, True):
        world.source.subscribe("Lists", on)
        assert told() == 1 and ("Lists" in world.target.subscriptions) is on


@pytest.mark.parametrize("accidents", [0.0, 0.15])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_10_a_name_that_the_replica_will_not_have_costs_the_name_and_nothing_else(
    source: str, target: str, accidents: float
) -> None:
    for seed in seeds(5):
        world = World(seed, source, target, accidents=accidents)
        here, there = world.source, world.target
        there.traits = replace(there.traits, forbids="con")
        for name in ("Lists", "Old"):
            here.create(here.path(name))
        here.create(here.path("con", "Below"))
        for number, name in enumerate((*here.boxes, here.path("Lists"))):
            here.append(name, f"Message-ID: <n{number}>\r\n\r\n{number}".encode(), frozenset(), number)
        world.quiet()
        world.check_equal()
        called = {link.source_name: link.target_name for link in world.disk.state.folders}
        assert called[here.path("con", "Below")].startswith(there.traits.prefix)
        assert any("will not have a folder named" in alert for alert in world.alerts), world.label
        here.rename(here.path("Lists"), here.path("con"))  # a good name becomes a bad one: its twin keeps the good one
        here.rename(here.path("con", "Below"), here.path("Fine"))
        world.accidents = accidents
        for _ in range(3):
            world.act(here)
            world.sweep()
        world.quiet()
        world.check_equal()
        asked = len(world.driver.log)
        world.sweep()
        assert not any("Folder(" in each for each in world.driver.log[asked:]), "it is asked for again in every pass"
        state, names = world.disk.state, set(here.boxes)
        promotion = world.fail_over()
        assert not promotion.refused, world.label
        world.bring_back(state, promotion)
        world.quiet()
        world.check_equal()
        assert set(here.boxes) == names, f"{world.label}: names of the old primary have changed"


@pytest.mark.parametrize("accident", ["wiped", "rolled back", "expired", "folder lost"])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_11_what_befalls_a_replica_deletes_nothing_on_the_primary(source: str, target: str, accident: str) -> None:
    world = filled(source, target, messages=30)
    early = world.target.snapshot()
    for number in range(30, 50):
        world.source.append("INBOX", f"Message-ID: <f{number}>\r\n\r\n{number}".encode(), frozenset(), number)
    world.quiet()
    before = {name: dict(box.messages) for name, box in world.source.boxes.items()}
    if accident == "wiped":
        world.target.restore({})
        world.target.create("INBOX")
    elif accident == "rolled back":
        world.target.restore(early)
    elif accident == "expired":
        world.target.expunge("INBOX", tuple(range(1, 41)))
    else:
        world.target.delete(world.target.path("Lists"))
    assert accident == "expired" or world.fail_over().refused  # it is no heir now
    world.quiet()
    assert {name: dict(box.messages) for name, box in world.source.boxes.items()} == before
    world.check_equal()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_11_a_restored_primary_deletes_nothing_on_the_replica(source: str, target: str) -> None:
    world = filled(source, target, messages=30)
    early = world.source.snapshot()
    for number in range(30, 50):
        world.source.append("INBOX", f"Message-ID: <f{number}>\r\n\r\n{number}".encode(), frozenset(), number)
    world.quiet()
    world.source.restore(early)
    world.source.append("INBOX", b"Message-ID: <after>\r\n\r\nafter", frozenset(), 99)  # takes a UID again
    world.quiet()
    world.check_equal()
    assert len(world.target.boxes["INBOX"].messages) == 51
    assert world.fail_over().folders[0].renumbered


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_11_a_wiped_primary_deletes_nothing_on_the_replica(source: str, target: str) -> None:
    """Not even folders too small for the brake; what somebody deleted by a command just then goes."""
    world = filled(source, target, messages=30)
    for name in ("Few", "Gone"):
        world.source.create(world.source.path(name))
        for number in range(9):
            raw = f"Message-ID: <{name}{number}>\r\n\r\n{name} {number}".encode()
            world.source.append(world.source.path(name), raw, frozenset(), number)
    world.quiet()
    before = Counter(identity_of(message.raw).digest for _, _, message in world.target.everything())
    few = world.target.path("Few")
    world.delete(world.source, world.source.path("Gone"))
    world.source.restore({})
    world.source.create("INBOX")
    world.source.append("INBOX", b"Message-ID: <after>\r\n\r\nafter", frozenset(), 99)
    world.quiet()
    after = Counter(identity_of(message.raw).digest for _, _, message in world.target.everything())
    assert sum((before - after).values()) == 9 and len(world.target.boxes[few].messages) == 9
    world.check_equal()


def test_11_link_state_that_is_lost_adds_only() -> None:
    for source, target in PAIRS:
        world = filled(source, target, messages=30)
        world.disk.state = Disk().state
        world.source.expunge("INBOX", (1, 2, 3))
        world.quiet()
        world.check_equal()
        assert len(world.target.boxes["INBOX"].messages) == 30  # three are kept


def test_12_a_safety_net_lets_go_only_of_what_is_covered() -> None:
    waiting = {"a": 0, "b": 0, "c": 0}
    first = release(waiting, ["a"], ["a", "b"], whole=True)
    assert (first.confirmed, first.consumed, dict(first.waiting)) == ({"a"}, frozenset(), {"b": 1, "c": 0})
    assert release(first.waiting, [], ["b", "c"], whole=False).waiting == first.waiting
    second = release(first.waiting, [], ["b", "c"], whole=True)
    assert second.consumed == {"b"} and second.waiting == {"c": SWEEPS - 1}


def test_the_state_of_aligned_folders_is_of_constant_size() -> None:
    sizes = {len(repr(filled("dovecot", "cyrus", messages=count).disk.state)) // 100 for count in (100, 900)}
    assert max(sizes) - min(sizes) <= 1


GOOD = Candidate("b", Verdict.UP, whole=True, lag=0.1)


@pytest.mark.parametrize(
    ("candidates", "verdict", "seconds", "expected"),
    [
        ([GOOD], Verdict.SILENT, 1.0, Promote("b")),
        ([GOOD], Verdict.SILENT, 0.1, Wait),
        ([GOOD], Verdict.REFUSING, 1.0, Wait),  # it is restarting
        ([GOOD], Verdict.REFUSING, 2.5, Promote("b")),
        ([], Verdict.SILENT, 9.0, Wait),
        ([Candidate("b", Verdict.UP, False, 0.1), GOOD], Verdict.SILENT, 9, Promote("b")),
        ([Candidate("b", Verdict.UP, True, 99.0)], Verdict.SILENT, 9, Wait),
        ([Candidate("b", Verdict.UP, True, 0.1, uncovered=1)], Verdict.SILENT, 9, Wait),
        ([Candidate("b", Verdict.UP, True, 0.1, brought=1)], Verdict.SILENT, 9, Wait),
        ([Candidate("b", Verdict.SILENT, True, 0.1)], Verdict.SILENT, 9, Wait),
    ],
)
def test_succession(candidates: list[Candidate], verdict: Verdict, seconds: float, expected: object) -> None:
    answer = successor(verdict, 0.0, seconds, candidates, Waits(), max_lag=10, exclusive=True)
    assert answer == expected or (expected is Wait and isinstance(answer, Wait) and answer.reason)
    by_hand = successor(verdict, 0.0, seconds, candidates, Waits(), max_lag=10, exclusive=False)
    assert isinstance(by_hand, Wait)


def test_a_server_is_gone_if_most_live_edges_say_so() -> None:
    down, up = Verdict.SILENT, Verdict.UP
    assert gone("ab", {"a": down, "b": down}) and not gone("ab", {"a": down, "b": up})
    assert gone("abc", {"a": down, "b": down, "c": up}) and not gone("", {})
    assert not gone("a", {"b": down})
