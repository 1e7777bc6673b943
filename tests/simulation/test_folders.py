"""What people do to folders at the worst moments, one story each. Those found by test_chain.py name their seeds."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from onedomain.decision.link.actions import (
    Action,
    Append,
    CreateFolder,
    Expunge,
    ListFolders,
    Look,
    Read,
    RenameFolder,
    SetUse,
    Subscribe,
)
from onedomain.decision.link.identity import identity_of
from onedomain.model.failure import Failed, refuse

from .server import Server
from .world import World


def world(source: str, target: str, *folders: str, validity: int = 0) -> World:
    """`validity`: of all folders but INBOX, as a server has it that made them within a second."""
    made = World(0, source, target)
    made.busy = False
    made.number = 0
    for name in ("INBOX", *folders):
        made.source.create(name, validity)
        for _ in range(4):
            made.number += 1
            raw = f"Message-ID: <f{made.number}>\r\n\r\nbody {made.number}".encode()
            made.source.append(name, raw, frozenset(), made.number)
    made.quiet()
    return made


def texts(server: Server, name: str) -> list[str]:
    return [m.raw.rpartition(b"\r\n")[2].decode() for _, m in sorted(server.boxes[name].messages.items())]


def at(world: World, kind: type, happens: Callable[[], None], number: int = 1) -> None:
    """Something happens ahead of the `number`th action of this kind."""
    left = [number]

    def crash_at(step: int, action: Action) -> str:
        if isinstance(action, kind):
            left[0] -= 1
            if not left[0]:
                happens()
        return ""

    world.crash_at = crash_at


@pytest.mark.parametrize("target", ["dovecot", "cyrus", "node", "burning", "plain"])
def test_inbox_is_renamed_and_another_takes_its_place(target: str) -> None:
    """Dovecot's sdbox (dovecot -> dovecot, seed 5): nothing is there twice, after the pass or after a failover."""
    one = world("dovecot", target)
    one.source.rename("INBOX", "Archive")
    one.source.append("INBOX", b"Message-ID: <new>\r\n\r\nnew", frozenset(), 9)
    assert one.sweep() is not None
    assert not any("pairing again" in alert for alert in one.alerts)
    one.quiet()
    one.check_equal()
    archive = one.target.path("Archive")
    assert texts(one.target, "INBOX") == ["new"] and texts(one.target, archive) == [f"body {n}" for n in range(1, 5)]
    shown = {each.name: each for each in one.fail_over().folders}
    assert shown["INBOX"].renumbered or one.target.boxes["INBOX"].uidnext > 100_000


@pytest.mark.parametrize("target", ["dovecot", "node", "plain"])
def test_inbox_is_renamed_and_another_folder_has_its_uidvalidity(target: str) -> None:
    """dovecot -> dovecot, seed 3 with INBOX: it passed for a restore, and after a return what had gone came back."""
    one = world("dovecot", target, "Lists", validity=1001)
    assert {box.uidvalidity for box in one.source.boxes.values()} == {1001}
    one.source.rename("INBOX", "Archive")
    one.commanded.add("INBOX")
    one.quiet()
    one.check_equal()
    assert not any("pairing again" in alert for alert in one.alerts) and not texts(one.target, "INBOX")


@pytest.mark.parametrize("source", ["dovecot", "burning"])
@pytest.mark.parametrize("target", ["dovecot", "cyrus", "node", "plain"])
def test_inbox_is_renamed_while_it_is_listed(source: str, target: str) -> None:
    """dovecot -> dovecot, seed 10 with INBOX: it was in the list under neither name, which passed for a restore."""
    for number in range(1, 6):
        one = world(source, target, Server(source, 1).path("A"), Server(source, 1).path("Z"))
        left = [number]

        def between(one: World = one, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                one.source.rename("INBOX", one.source.path("Archive"))

        one.driver.between = between
        one.sweep()
        one.driver.between = lambda: None
        one.quiet()
        one.check_equal()
        assert not any("pairing again" in alert for alert in one.alerts), (number, one.alerts)
        assert not texts(one.target, "INBOX") and texts(one.target, one.target.path("Archive")) == [
            f"body {n}" for n in range(1, 5)
        ], number


@pytest.mark.parametrize("how", ["told", "not told", "lost"])
@pytest.mark.parametrize(("source", "target"), [("dovecot", "node"), ("burning", "cyrus"), ("dovecot", "plain")])
def test_inbox_is_renamed_and_deleted(source: str, target: str, how: str) -> None:
    """dovecot -> cyrus, seed 3 with INBOX: what somebody asked for is no restore. If nobody is known to have asked, or
    other folders are missing, too, it may be one, and what the replica has stays.
    """
    one = world(source, target, Server(source, 1).path("Lists"))
    one.source.rename("INBOX", one.source.path("Archive"))
    one.source.delete(one.source.path("Archive"))
    if how == "lost":
        one.source.delete(one.source.path("Lists"))
    if how != "not told":
        one.commanded.update(("INBOX", one.source.path("Archive")))
        one.renamed.add("inbox")
    one.source.append("INBOX", b"Message-ID: <new>\r\n\r\nnew", frozenset(), 9)
    one.quiet()
    one.check_equal()
    assert any("pairing again" in alert for alert in one.alerts) == (how != "told"), one.alerts
    kept = [f"body {n}" for n in range(1, 5)] if how != "told" else []
    assert texts(one.target, "INBOX") == [*kept, "new"]
    assert texts(one.target, one.target.path("Lists")) == [f"body {n}" for n in range(5, 9)]


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize(("source", "target"), [("dovecot", "node"), ("burning", "burning")])
def test_inbox_is_renamed_and_the_pass_is_cut_off(source: str, target: str, how: str) -> None:
    """At whichever step the primary dies then: each message is on the replica once, and no UID is another's. Nor is any
    there twice when the old primary has come back.
    """
    step, reached = 0, True
    while reached:
        step += 1
        one = world(source, target)
        one.source.rename("INBOX", one.source.path("Archive"))
        for number in range(4):
            one.source.append("INBOX", f"Message-ID: <n{number}>\r\n\r\nnew {number}".encode(), frozenset(), 9)
        end = one.steps + step
        one.crash_at = lambda at, action, end=end: how if at >= end else ""
        one.sweep()
        reached = one.steps >= end
        one.crash_at = None
        state, promotion = one.disk.state, one.fail_over()
        assert not promotion.refused
        found = [text for name in one.target.boxes for text in texts(one.target, name)]
        assert len(found) == len(set(found)) and {f"body {n}" for n in range(1, 5)} <= set(found), (step, found)
        (inbox,) = (each for each in promotion.folders if each.target_name == "INBOX")
        assert inbox.renumbered or texts(one.target, "INBOX") == [f"body {n}" for n in range(1, 5)], step
        one.bring_back(state, promotion)
        one.quiet()
        one.check_equal()
        for server in (one.source, one.target):
            found = sorted(text for name in server.boxes for text in texts(server, name))
            assert found == sorted((*(f"body {n}" for n in range(1, 5)), *(f"new {n}" for n in range(4)))), step


@pytest.mark.parametrize("target", ["dovecot", "cyrus", "node"])
def test_a_name_passes_to_another_folder_while_it_is_read(target: str) -> None:
    """dovecot -> dovecot, seed 14: what was read by the name was taken for the folder that had had it."""
    for number in (1, 2, 3):
        for kind in (Look, Read, ListFolders):
            one = world("dovecot", target, "Lists", "Old")
            one.source.append("Lists", b"Message-ID: <new>\r\n\r\nnew", frozenset(), 9)

            def pass_on(one: World = one) -> None:
                one.source.rename("Lists", "Gone")
                one.source.rename("Old", "Lists")
                one.source.expunge("Lists", (1,))

            at(one, kind, pass_on, number)
            before = texts(one.target, "Lists")
            one.sweep()
            kept = {text for name in one.target.boxes for text in texts(one.target, name)}
            assert set(before) <= kept and not any("pairing again" in alert for alert in one.alerts), (number, kind)
            if "Gone" in one.source.boxes:
                one.commanded.add("Lists")
                one.quiet()
                one.check_equal()
                assert not any("pairing again" in alert for alert in one.alerts), (number, kind)


def test_a_folder_that_goes_has_to_make_room_for_one_that_went_before() -> None:
    """cyrus -> dovecot, seed 76: the name to set it aside under was taken by what lay below the first."""
    one = world("node", "cyrus", "Old", "Old/Deep")
    for _ in range(2):
        one.source.delete("Old")
        one.crash_at = lambda step, action: "before" if type(action).__name__ == "DeleteFolder" else ""
        one.sweep()
        one.crash_at = None
        one.source.create("Old")
        one.source.append("Old", f"Message-ID: <o{one.steps}>\r\n\r\no".encode(), frozenset(), 3)
        one.sweep()
    one.commanded.add("Old")
    one.quiet()
    one.check_equal()


def test_inbox_is_renamed_at_the_new_primary_before_the_old_one_returns() -> None:
    """dovecot -> dovecot, seed 27: the old INBOX was taken for the new one, and all of it kept beside the renamed."""
    one = world("dovecot", "dovecot")
    state = one.disk.state
    promotion = one.fail_over()
    one.target.rename("INBOX", "Archive")
    one.target.append("INBOX", b"Message-ID: <new>\r\n\r\nnew", frozenset(), 9)
    one.source.append("INBOX", b"Message-ID: <tail>\r\n\r\ntail", frozenset(), 9)
    one.bring_back(state, promotion)
    one.quiet()
    one.check_equal()
    for server in (one.source, one.target):
        assert texts(server, "INBOX") == ["new"] and not any("kept" in alert for alert in one.alerts)
        assert texts(server, "Archive") == [*(f"body {n}" for n in range(1, 5)), "tail"]


def test_a_subscription_that_a_pass_took_back_and_died() -> None:
    """node -> node, seed 55."""
    one = world("node", "node", "Lists")
    one.source.subscribe("Lists", True)
    one.sweep()
    one.source.subscribe("Lists", False)
    one.crash_at = lambda step, action: "after" if isinstance(action, Subscribe) else ""
    assert one.sweep() is None and "Lists" not in one.target.subscriptions
    one.crash_at = None
    one.source.subscribe("Lists", True)
    one.sweep()
    assert "Lists" in one.target.subscriptions


def test_folders_are_renamed_while_the_primary_dies() -> None:
    """A RENAME that no pass saw comes back with the old name; one that was carried and not saved keeps the new one."""
    one = world("node", "cyrus", "Lists", "Lists/Deep")
    one.source.rename("Lists", "Old")
    one.crash_at = lambda step, action: "after" if type(action).__name__ == "RenameFolder" else ""
    assert one.sweep() is None
    one.crash_at = None
    one.source.rename("Old", "Older")  # unseen
    state, promotion = one.disk.state, one.fail_over()
    assert {each.target_name for each in promotion.folders} == {"INBOX", "Old", "Old.Deep"}
    assert not any(each.renumbered for each in promotion.folders)
    one.target.rename("Old", "Newer")
    one.bring_back(state, promotion)
    one.quiet()
    one.check_equal()
    assert set(one.source.boxes) == {"INBOX", "Newer", "Newer.Deep"}
    digests = [identity_of(m.raw).digest for _, _, m in one.target.everything()]
    assert len(digests) == len(set(digests)) == 12


@pytest.mark.parametrize("how", ["before", "within", "after"])
@pytest.mark.parametrize(("old", "new"), [("dovecot", "dovecot"), ("node", "plain"), ("node", "node")])
def test_folders_are_rearranged_before_an_old_primary_returns_and_the_pass_is_cut_off(
    old: str, new: str, how: str
) -> None:
    """dovecot -> dovecot, seed 2: the next pass took the old primary, half of whose folders were put away, for a
    replica that had been wiped, and kept beside the mail all that had come to it and been deleted since.
    """
    step, reached = 0, True
    while reached:
        step += 1
        one = world(old, new, "Drafts", "Lists", "Lists/Deep", validity=7)
        state = one.disk.state
        one.source.append("INBOX", b"Message-ID: <tail>\r\n\r\ntail", frozenset(), 9)
        one.source.append("Drafts", b"Message-ID: <draft>\r\n\r\ndraft", frozenset(), 9)
        promotion = one.fail_over()
        for name, to in (("Drafts", "Old"), ("Lists", "Drafts"), ("Old", "Lists")):
            one.target.rename(one.target.path(name), one.target.path(to))
        one.bring_back(state, promotion)
        for name in one.source.boxes:
            drop = [uid for uid, m in one.source.boxes[name].messages.items() if m.raw.endswith((b"tail", b"draft"))]
            one.source.expunge(name, tuple(drop))
        for kind in (RenameFolder, Expunge):  # once each, the pass is cut off at this step or the next such
            end = one.steps + step

            def cut(at: int, action: Action, end: int = end, kind: type = kind) -> str:
                return how if at >= end and isinstance(action, kind) else ""

            one.crash_at = cut
            reached = one.sweep() is None
            if not reached:
                break
        one.quiet()
        one.check_equal()
        for server in (one.source, one.target):
            found = [text for name in server.boxes for text in texts(server, name)]
            assert sorted(found) == sorted(f"body {n}" for n in range(1, 17)), (step, server.kind)
        assert not any("kept" in alert for alert in one.alerts), (step, one.alerts)


@pytest.mark.parametrize("how", ["before", "within", "after"])
@pytest.mark.parametrize(("source", "target"), [("dovecot", "node"), ("dovecot", "cyrus"), ("node", "dovecot")])
def test_a_pass_dies_around_a_rename_of_folders_that_have_one_uidvalidity(source: str, target: str, how: str) -> None:
    """What they were going to be called was saved: nothing else tells them apart on the replica."""
    one = world(source, target, "Lists", "Lists/Deep", validity=7)
    one.source.rename("Lists", "Old")
    one.crash_at = lambda step, action: how if isinstance(action, RenameFolder) else ""
    assert one.sweep() is None
    one.crash_at = None
    one.quiet()
    one.check_equal()
    assert not one.alerts, one.alerts
    assert texts(one.target, one.target.path("Old", "Deep")) == [f"body {n}" for n in range(9, 13)]


@pytest.mark.parametrize("source", ["dovecot", "node"])
@pytest.mark.parametrize("target", ["dovecot", "cyrus", "node", "burning"])
def test_an_append_of_a_first_copy_comes_late(source: str, target: str) -> None:
    """When its message has been moved since: it is known to be ours, and not kept as what only the replica has."""
    one = World(0, source, target)
    one.busy = False
    one.source.create("Lists")
    for number in range(1, 4):
        one.source.append("INBOX", f"Message-ID: <f{number}>\r\n\r\nbody {number}".encode(), frozenset(), number)
    one.crash_at = lambda step, action: "late" if isinstance(action, Append) else ""
    assert one.sweep() is None
    one.crash_at = None
    one.copy(one.source, "INBOX", 2, "Lists", move=True)
    one.driver.settle()
    one.quiet()
    one.check_equal()
    found = [text for name in one.target.boxes for text in texts(one.target, name)]
    assert sorted(found) == ["body 1", "body 2", "body 3"], found


@pytest.mark.parametrize("there", ["Old", "Lists", "Sent"])
@pytest.mark.parametrize(("old", "new"), [("dovecot", "dovecot"), ("dovecot", "cyrus"), ("node", "plain")])
def test_a_name_is_given_on_at_an_old_primary_too_late(old: str, new: str, there: str) -> None:
    """dovecot -> dovecot, seeds 94 and 225: a folder that it had lost was linked by the name that another one has
    there, or was going to be made under it. One was deleted for both, and renames went to and fro for ever.
    """
    one = world(old, new, "Old", "Lists")
    one.source.append("INBOX", b"Message-ID: <tail>\r\n\r\ntail", frozenset(), 9)
    one.source.delete("Old")
    one.source.rename("Lists", "Gone")
    one.source.rename("Gone", there)
    state, promotion = one.disk.state, one.fail_over()
    one.target.rename("Old", "Sent")
    one.bring_back(state, promotion)
    names = [link.target_name for link in one.disk.state.folders]
    assert len(set(names)) == len(names) == 3, names
    one.quiet()
    one.check_equal()
    assert sorted(one.target.boxes) == sorted(one.source.boxes) == ["INBOX", "Lists", "Sent"]
    assert texts(one.target, "Sent") == texts(one.source, "Sent") == [f"body {n}" for n in range(5, 9)]
    assert texts(one.target, "Lists") == texts(one.source, "Lists") == [f"body {n}" for n in range(9, 13)]


@pytest.mark.parametrize("target", ["dovecot", "node"])
def test_a_folder_is_deleted_and_an_older_one_takes_its_name(target: str) -> None:
    """dovecot -> burning, seed 74, after a return: without identities a lower UIDVALIDITY passed for a restore."""
    one = world("burning", target, "INBOX.Lists", "INBOX.Old")
    one.source.delete("INBOX.Old")
    one.source.rename("INBOX.Lists", "INBOX.Old")
    one.commanded.add("INBOX.Old")
    one.quiet()
    one.check_equal()
    assert not any("pairing again" in alert for alert in one.alerts), one.alerts
    assert texts(one.target, one.target.path("Old")) == [f"body {n}" for n in range(5, 9)]


@pytest.mark.parametrize("how", ["", "before", "after"])
def test_a_special_use_that_is_given_later(how: str) -> None:
    """And that another folder has then; whatever the target does with it, it is told once."""
    one = world("node", "cyrus", "Sent", "Old")

    def uses() -> list[str]:
        return [one.target.boxes[name].special_use for name in ("Sent", "Old")]

    for sent, old in (("\\Sent", ""), ("", "\\Sent"), ("", "")):
        one.source.boxes["Sent"].special_use, one.source.boxes["Old"].special_use = sent, old
        one.crash_at = lambda step, action: how if isinstance(action, SetUse) else ""
        assert (one.sweep() is None) == bool(how)
        one.crash_at = None
        one.quiet()
        assert uses() == [sent, old]
    one.target.boxes["Old"].special_use = "\\Archive"  # its own idea
    before = len(one.driver.log)
    one.quiet()
    assert not any(each.startswith("SetUse") for each in one.driver.log[before:])
    if not how:
        assert sum(each.startswith("SetUse") for each in one.driver.log) == 4


@pytest.mark.parametrize("target", ["dovecot", "cyrus", "node", "burning", "plain"])
def test_a_replica_that_is_full_keeps_what_it_has_and_goes_on_when_there_is_room(target: str) -> None:
    """Nothing is set aside for good: what is deleted makes room. What was moved to where there is none is not lost."""
    one = world("dovecot", target, "Lists")
    one.target.room = 8
    for number in range(3):
        one.source.append("INBOX", b"Message-ID: <n%d>\r\n\r\nnew %d" % (number, number), frozenset(), 20 + number)
    report = one.sweep()
    assert report is not None and "quota" in report.full and not report.whole
    one.source.store("INBOX", 1, frozenset(("\\Seen",)))
    one.copy(one.source, "INBOX", 2, one.source.path("Lists"), move=True)
    report = one.sweep()
    assert report is not None and report.full
    inbox, lists = one.target.boxes["INBOX"].messages, one.target.boxes[one.target.path("Lists")].messages
    assert len(inbox) == len(lists) == 4 and "\\Seen" in inbox[min(inbox)].flags, "flags go on"
    one.expunge(one.source, "INBOX", (1,))
    report = one.sweep()
    assert report is not None and report.full
    for _ in range(4):
        one.sweep()
    assert len(one.target.everything()) == 8, "the place of one is another's"
    digests = {identity_of(message.raw).digest for _, _, message in one.target.everything()}
    moved = one.source.boxes[one.source.path("Lists")].messages
    assert identity_of(moved[max(moved)].raw).digest in digests, "it is in one of the two"
    one.target.room = None
    one.quiet()
    one.check_equal()
    assert {raw.rpartition(b"\r\n")[2] for raw in one.aside} <= {b"body 1", b"body 2"}, "what was deleted, as ever"


@pytest.mark.parametrize("room", [0, 2])
@pytest.mark.parametrize("target", ["burning", "imap", "plain"])
def test_a_replica_that_is_full_follows_all_the_same(target: str, room: int) -> None:
    """There is no room for what would be burned: clients are shown another UIDVALIDITY, which says so."""
    one = world("dovecot", target, "Lists")
    one.target.room = len(one.target.everything()) + room
    one.allowed = 20
    state, promotion = one.disk.state, one.fail_over()
    assert not promotion.refused and all(each.renumbered for each in promotion.folders)
    assert texts(one.target, "INBOX") == [f"body {n}" for n in range(1, 5)] and len(one.target.everything()) == 8
    one.target.room = None
    one.bring_back(state, promotion)
    one.quiet()
    one.check_equal()


@pytest.mark.parametrize("room", [0, 2])
@pytest.mark.parametrize("target", ["burning", "imap", "plain"])
def test_there_is_no_room_for_what_is_burned(target: str, room: int) -> None:
    """A pass says so, as where there is none for messages, and goes on when there is."""
    one = world("dovecot", target, "Lists")
    for number in range(6):
        one.source.append("INBOX", b"Message-ID: <n%d>\r\n\r\nnew %d" % (number, number), frozenset(), 20)
    one.source.expunge("INBOX", (5, 6, 7, 8, 9))
    one.target.room = len(one.target.everything()) + room
    for passes in range(3):
        report = one.sweep()
        assert report is not None
        if passes == 0 or room == 0:
            assert "quota" in report.full and not report.whole and len(one.target.everything()) == 8
    if room == 0:
        one.target.room = None
    one.quiet()  # what is burned takes no room for long
    one.check_equal()
    assert texts(one.target, "INBOX") == [*(f"body {n}" for n in range(1, 5)), "new 5"]


@pytest.mark.parametrize(("source", "target"), [
    ("dovecot", "dovecot"), ("cyrus", "node"), ("dovecot", "burning"), ("node", "plain"), ("imap", "cyrus"),
])
def test_a_message_that_is_larger_than_links_carry(source: str, target: str) -> None:
    """All else is carried, and a person is told, once. It stays where it is: also at an old primary that has returned,
    also in a folder that has been deleted since.
    """
    one = world(source, target, Server(source, 1).path("Lists"))
    for server in (one.source, one.target):
        server.largest = 1000
    lists, large = one.source.path("Lists"), b"Message-ID: <l>\r\n\r\n" + b"x" * 2000
    for name in ("INBOX", lists):
        for number, raw in enumerate((b"Message-ID: <a>\r\n\r\nahead", large, b"Message-ID: <b>\r\n\r\nbehind")):
            one.source.append(name, raw, frozenset(), 20 + number)
    report = one.sweep()
    assert report is not None and report.whole
    one.quiet()
    one.check_equal()
    assert [alert.partition(":")[0] for alert in one.alerts] == ["INBOX", lists] and not one.aside, one.alerts
    assert "2019 octets" in one.alerts[0] and texts(one.target, "INBOX")[4:] == ["ahead", "behind"]
    assert [(link.refused, link.large) for link in one.disk.state.folders] == [((6,), (6,))] * 2
    one.source.expunge(lists, (6,))
    one.commanded.add(lists)
    one.quiet()
    assert [(link.refused, link.large) for link in one.disk.state.folders] == [((6,), (6,)), ((), ())]
    one.source.append("INBOX", large, frozenset(), 30)  # and another that no link has seen
    state, promotion = one.disk.state, one.fail_over()
    one.target.expunge("INBOX", tuple(uid for uid, m in one.target.boxes["INBOX"].messages.items() if m.date == 20))
    one.target.delete(one.target.path("Lists"))
    one.commanded.add(one.target.path("Lists"))
    one.bring_back(state, promotion)
    one.quiet()
    assert texts(one.source, "INBOX") == [*(f"body {n}" for n in range(1, 5)), "behind"]
    assert sorted(texts(one.target, "INBOX")) == sorted([*texts(one.source, "INBOX"), "x" * 2000, "x" * 2000])
    assert sum(message.raw == large for _, _, message in one.target.everything()) == 2
    assert any("is on the replica only" in alert for alert in one.alerts)
    assert not any(len(raw) > 1000 for raw in one.aside)
    before = len(one.driver.log)
    one.quiet()
    assert not any(each.startswith(("Expunge", "DeleteFolder", "SetAside")) for each in one.driver.log[before:])


def nth(one: World, number: int, kind: str = "F") -> str:
    return one.source.path(f"P{number // 100}", f"{kind}{number}")


def writes(one: World, count: int) -> None:
    one.source.append("INBOX", b"Message-ID: <new>\r\n\r\nnew", frozenset(), 20)


def renames(one: World, count: int) -> None:
    for number in range(count // 4):
        one.source.rename(nth(one, number), nth(one, number, "G"))


def passes_on(one: World, count: int) -> None:
    """Each gets the name that another leaves, and the first is put away."""
    one.delete(one.source, nth(one, 0))
    for number in range(1, count // 4):
        one.source.rename(nth(one, number), nth(one, number - 1))


def deletes(one: World, count: int) -> None:
    for number in range(count // 4):
        one.delete(one.source, nth(one, number))


def moves(one: World, count: int) -> None:
    """With all that lies below."""
    for number in range(count // 100):
        one.source.rename(one.source.path(f"P{number}"), one.source.path(f"Q{number}"))


@pytest.mark.parametrize("source", ["dovecot", "burning"])
@pytest.mark.parametrize("happens", [writes, renames, passes_on, deletes, moves])
def test_a_plan_takes_its_time_by_the_number_of_folders_and_not_by_its_square(
    happens: Callable[[World, int], None], source: str
) -> None:
    """Or one account with thousands of folders would hold up all others of its linker. `burning` has no identities."""

    def steps(count: int) -> int:
        one = World(0, source, "node")
        one.busy = False
        for number in range(count // 100):
            one.source.create(one.source.path(f"P{number}"))
        for number in range(count):
            one.source.create(nth(one, number))
        for _ in range(2):
            report = one.sweep()
        assert report is not None and report.whole
        happens(one, count)
        taken = itertools.count()

        def trace(frame: FrameType, *_: object) -> object:
            if "decision" not in frame.f_code.co_filename:
                return None  # the simulated servers have their own time
            next(taken)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            report = one.sweep()
        finally:
            sys.settrace(before)
        assert report is not None and report.whole
        one.check_equal()
        return next(taken)

    few, many = steps(200), steps(2000)
    assert many < 15 * few, f"{few} lines run for 200 folders, {many} for 2,000"


def rotate(one: World, path: Callable[..., str]) -> None:
    for name, to in (("Log2", "Log3"), ("Log1", "Log2"), ("Log", "Log1")):
        one.source.rename(path(name), path(to))
    one.source.create(path("Log"))


def swap(one: World, path: Callable[..., str]) -> None:
    for name, to in (("Log", "Other"), ("Log1", "Log"), ("Other", "Log1")):
        one.source.rename(path(name), path(to))


def sink(one: World, path: Callable[..., str]) -> None:
    one.source.rename(path("Log"), path("Other"))
    one.source.create(path("Log"))
    one.source.rename(path("Other"), path("Log", "Old"))
    one.source.rename(path("Log1"), path("Log", "Older"))


def part(one: World, path: Callable[..., str]) -> None:
    """dovecot -> burning, seed 58 with INBOX: what lies below its old name is to stay, and its twin is where that would
    be taken along to.
    """
    for name, to in (("Log1", ("Log", "Deep")), ("Log2", ("New", "Deep"))):
        one.source.rename(path(name), path(*to))
    one.quiet()
    one.source.rename(path("Log", "Deep"), path("Other"))
    one.source.rename(path("Log"), path("New"))
    one.source.rename(path("Other"), path("Log", "Deep"))


@pytest.mark.parametrize("how", ["", "before", "within", "after"])
@pytest.mark.parametrize("happens", [rotate, swap, sink, part])
@pytest.mark.parametrize(("source", "target"), [
    ("node", "node"), ("dovecot", "cyrus"), ("cyrus", "dovecot"), ("burning", "burning"), ("node", "plain"),
])
def test_names_that_pass_on_between_two_passes(
    source: str, target: str, happens: Callable[[World, Callable[..., str]], None], how: str
) -> None:
    """Invariant 10: each folder has on the replica the name that it has here, not one with a number; wherever the pass
    is cut off.
    """
    step, reached = 0, True
    while reached:
        step += 1
        one = world(source, target, *(Server(source, 1).path(name) for name in ("Log", "Log1", "Log2")))
        happens(one, one.source.path)
        left = [step]

        def cut(at: int, action: Action, left: list[int] = left) -> str:
            left[0] -= isinstance(action, RenameFolder)
            return how if not left[0] and isinstance(action, RenameFolder) else ""

        one.crash_at = cut
        reached = one.sweep() is None
        one.quiet()
        one.check_equal()
        here = {name.removeprefix(one.source.traits.prefix).replace(one.source.traits.separator, "/"): name
                for name in one.source.boxes}  # fmt: skip
        for path, name in here.items():
            there = one.target.path(*path.split("/"))
            assert there in one.target.boxes, (step, path, sorted(one.target.boxes))
            assert texts(one.source, name) == texts(one.target, there), (step, path)
        assert len(one.target.boxes) == len(here), (step, sorted(one.target.boxes))
        assert not any("pairing again" in alert for alert in one.alerts), one.alerts


def test_a_folder_takes_the_name_of_another_before_it_is_carried_after_a_return() -> None:
    """No restore, though the UIDVALIDITY of that name goes down, and nothing is there twice. (test_chain, 40321)"""
    one = world("node", "plain", "Before", "Drafts")
    state = one.disk.state
    promotion = one.fail_over()
    one.source.delete("Before")  # too late: its link begins anew
    one.source.create("Before")
    one.bring_back(state, promotion)
    takes_the_name(one, "Before", "Drafts")


def test_a_folder_takes_the_name_of_another_before_it_is_carried_at_all() -> None:
    one = world("plain", "node", "Drafts")
    one.source.create("Old").uidvalidity = 7
    one.source.append("Old", b"Message-ID: <old>\r\n\r\nold", frozenset(), 1)
    one.crash_at = lambda step, action: "before" if isinstance(action, CreateFolder) else ""
    assert one.sweep() is None
    one.crash_at = None
    takes_the_name(one, "Old", "Drafts")


def test_a_folder_that_no_pass_has_seen_takes_the_name_of_one_that_was_renamed() -> None:
    """(test_chain, 40012)"""
    one = world("plain", "node", "Drafts")
    one.source.create("Old").uidvalidity = 7
    one.source.append("Old", b"Message-ID: <old>\r\n\r\nold", frozenset(), 1)
    one.source.rename("Drafts", "Sent")
    takes_the_name(one, "Old", "Drafts")
    assert texts(one.target, "Sent") == texts(one.source, "Sent")


def test_an_uncarried_folder_is_none_that_was_put_back() -> None:
    """Made anew before it was ever read, by a server that may make any UIDVALIDITY. (test_chain, 40017)"""
    one = world("plain", "node", "Drafts")
    one.source.create("New")
    one.crash_at = lambda step, action: "before" if isinstance(action, CreateFolder) else ""
    assert one.sweep() is None
    one.crash_at = None
    one.source.create("Other").uidvalidity = 7
    takes_the_name(one, "Other", "New")


def takes_the_name(one: World, name: str, of: str) -> None:
    if of in one.source.boxes:
        assert one.source.boxes[name].uidvalidity < one.source.boxes[of].uidvalidity
        one.delete(one.source, of)
    one.source.rename(name, of)
    one.quiet()
    one.check_equal()
    assert texts(one.target, of) == texts(one.source, of)
    assert not any("pairing again" in alert for alert in one.alerts), one.alerts


@pytest.mark.parametrize("target", ["cyrus", "burning"])
def test_a_twin_gets_no_number_that_is_another_folders_own_name(target: str) -> None:
    """`A.b` can't have its name there, as `A_b` has it, nor the next, which is another's own. (test_shown, 5068)"""
    one = world("dovecot", target, "A_b", "A_b~2", "Sent", "Other")
    one.source.rename("Sent", "A.b")
    one.source.rename("Other", "Sent")
    one.quiet()
    one.check_equal()
    for name, there in (("A_b", "A_b"), ("A_b~2", "A_b~2"), ("A.b", "A_b~3"), ("Sent", "Sent")):
        assert texts(one.source, name) == texts(one.target, one.target.path(there)), name


@pytest.mark.parametrize("target", ["dovecot", "cyrus", "node", "burning", "plain"])
def test_what_the_replica_made_by_itself_is_not_there_after_a_failover(target: str) -> None:
    """Before the first pass and later. Nothing that has, or had, a message is touched; a person is told of it, once."""
    one = World(0, "dovecot", target)
    one.busy = False
    one.source.create("INBOX")
    one.source.create("Lists/Deep")
    one.source.append("Lists/Deep", b"Message-ID: <a>\r\n\r\na", frozenset(), 1)
    early, late, full = (one.target.path(name) for name in ("Early", "Late", "Full"))
    above = one.target.path("Lists")  # as some servers make it with what is to be below it
    for name in ("INBOX", early, full, above):
        one.target.create(name)
    one.target.append(full, b"Message-ID: <own>\r\n\r\nown", frozenset(), 1)
    one.quiet()
    assert early not in one.target.boxes and full in one.target.boxes and above in one.target.boxes
    one.target.create(late)
    one.source.append("INBOX", b"Message-ID: <b>\r\n\r\nb", frozenset(), 2)
    one.quiet()
    assert set(one.target.boxes) == {"INBOX", above, one.target.path("Lists", "Deep"), full}
    assert texts(one.target, full) == ["own"]
    assert [alert for alert in one.alerts if "on the replica only" in alert] == [
        f": {full} is on the replica only; it stays there, as it is"]


def test_what_a_server_makes_again_and_again_is_left_to_it() -> None:
    one = world("dovecot", "dovecot")
    deleted: list[str] = []
    delete = one.target.delete

    def again(name: str) -> None:
        deleted.append(name)
        delete(name)
        one.target.create(name)

    one.target.delete = again  # type: ignore[method-assign]
    one.target.create("Trash")
    for number in range(5):
        one.source.append("INBOX", b"Message-ID: <n%d>\r\n\r\nn" % number, frozenset(), 2)
        one.quiet()
    assert deleted == ["Trash"] and "Trash" in one.target.boxes


def test_a_folder_that_the_replica_will_not_delete_stops_nothing() -> None:
    one = world("dovecot", "dovecot")

    def refuses(name: str) -> None:
        raise Failed(refuse(550, "5.7.0", "this folder has to be there"))

    one.target.delete = refuses  # type: ignore[method-assign]
    one.target.create("Trash")
    one.source.append("INBOX", b"Message-ID: <n>\r\n\r\nn", frozenset(), 2)
    one.quiet()
    assert texts(one.target, "INBOX")[-1] == "n" and "Trash" in one.target.boxes
