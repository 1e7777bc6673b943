"""A link that is paired again, and cut off in the middle of it: what was recognised once is not copied again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onedomain.decision.link.actions import Action, Append, Expunge, ExpungeDeleted
from onedomain.model.replica import FolderLink

from .driver import Driver
from .server import Server
from .test_folders import texts, world
from .world import World


def forget(one: World) -> None:
    """As after a return or a restore: names stay, UIDs are looked at again."""
    links = tuple(FolderLink(link.source_name, link.target_name, link.identity) for link in one.disk.state.folders)
    one.disk.state = replace(one.disk.state, folders=links, whole=False)


@pytest.mark.parametrize("how", ["before", "within", "after"])
@pytest.mark.parametrize("surplus", [False, True])
@pytest.mark.parametrize(("source", "target"), [("node", "node"), ("dovecot", "cyrus"), ("dovecot", "dovecot"),
                                                ("node", "imap"), ("dovecot", "burning")])
def test_a_pairing_that_is_cut_off_copies_nothing_twice(source: str, target: str, surplus: bool, how: str) -> None:
    """In the middle there is one to copy: those above it were recognised, and are nobody's to delete."""
    one = world(source, target)
    forget(one)
    one.disk.state = replace(one.disk.state, surplus=surplus)
    there = one.target.boxes["INBOX"].messages
    del there[2]
    before = {uid: message.raw for uid, message in there.items()}
    one.crash_at = lambda step, action: how if isinstance(action, Append) else ""
    assert one.sweep() is None
    one.crash_at = None
    one.quiet()
    now = {uid: message.raw for uid, message in one.target.boxes["INBOX"].messages.items()}
    assert now.items() >= before.items()
    assert sorted(texts(one.target, "INBOX")) == [f"body {n}" for n in range(1, 5)]
    assert not one.aside


def test_what_only_the_replica_has_is_kept_by_a_pairing_that_is_cut_off() -> None:
    """Under a UID that the source has, too, for another message."""
    one = world("dovecot", "dovecot")
    forget(one)
    there = one.target.boxes["INBOX"].messages
    there[2].raw = b"Message-ID: <own>\r\n\r\nonly here"
    one.crash_at = lambda step, action: "before" if isinstance(action, Append) else ""
    assert one.sweep() is None
    one.crash_at = None
    one.quiet()
    assert sorted(texts(one.target, "INBOX")) == [*(f"body {n}" for n in range(1, 5)), "only here"]
    assert [uid for uid in (1, 3, 4) if uid not in one.target.boxes["INBOX"].messages] == []


def asked(driver: Driver, question: str, since: int = 0) -> list[str]:
    return [line for line in driver.log[since:] if line.startswith(question)]


@pytest.mark.parametrize(("source", "target"), [("node", "node"), ("dovecot", "cyrus"), ("dovecot", "dovecot"),
                                                ("cyrus", "node")])
def test_a_return_reads_only_folders_in_which_something_happened(source: str, target: str) -> None:
    """Each is a round trip, and until the link is whole nobody can follow if the new primary dies, too."""
    one = world(source, target, *(Server(source, 1).path(f"F{number}") for number in range(10)))
    one.source.append("INBOX", b"Message-ID: <tail>\r\n\r\ntail", frozenset(), 9)
    state, promotion = one.disk.state, one.fail_over()
    one.target.append("INBOX", b"Message-ID: <new>\r\n\r\nnew", frozenset(), 9)
    moved, old_name = one.target.path("F3"), one.source.path("F3")
    one.copy(one.target, moved, min(one.target.boxes[moved].messages), "INBOX", move=True)
    returning, since, old, new = one.driver, len(one.driver.log), one.source, one.target
    one.bring_back(state, promotion)
    read = asked(returning, "Read(side=<Side.SOURCE", since)
    assert len(read) <= 2, read  # INBOX: its tail, and what it had expunged
    report = one.sweep()
    assert report is not None and report.whole
    compared = asked(one.driver, "Read(side=<Side.TARGET")
    assert all("'INBOX'" in line or repr(old_name) in line for line in compared), compared
    one.quiet()
    one.check_equal()
    assert sorted(texts(old, "INBOX")) == sorted(texts(new, "INBOX")) and "tail" in texts(old, "INBOX")


@pytest.mark.parametrize(("source", "target"), [("node", "node"), ("dovecot", "dovecot")])
def test_messages_under_other_uids_are_not_recognised_anew_at_each_return(source: str, target: str) -> None:
    """Of a large folder that takes seconds."""
    one = world(source, target)
    inbox = one.target.boxes["INBOX"]
    inbox.uidnext = 10
    one.source.append("INBOX", b"Message-ID: <other>\r\n\r\nother", frozenset(), 9)
    one.quiet()
    assert [link.runs for link in one.disk.state.folders if link.runs]
    one.source.boxes["INBOX"].uidnext = 100  # the UIDs of the two can't be made equal any more
    one.source.append("INBOX", b"Message-ID: <far>\r\n\r\nfar", frozenset(), 9)
    one.quiet()
    state, promotion = one.disk.state, one.fail_over()
    one.bring_back(state, promotion)
    assert one.sweep() is not None
    assert not asked(one.driver, "ReadIdentities"), one.driver.log
    one.quiet()
    one.check_equal()


@pytest.mark.parametrize("target", ["node", "plain"])
def test_what_can_not_be_set_aside_is_not_expunged(target: str) -> None:
    """Also where EXPUNGE takes all that is marked (no UIDPLUS)."""
    one = world("node", target)
    one.source.append("INBOX", b"Message-ID: <large>\r\n\r\n" + b"x" * 2000, frozenset(), 9)
    one.quiet()
    one.target.largest = 1000
    one.expunge(one.source, "INBOX", (max(one.source.boxes["INBOX"].messages), 1))
    one.sweep()
    assert [len(text) > 1000 for text in texts(one.target, "INBOX")] == [False, False, False, True]
    assert len(one.aside) == 1


def numbered(number: int) -> bytes:
    """About forty of them are what one Append of the driver carries."""
    return b"Message-ID: <%d>\r\n\r\nbody %04d %s" % (number, number, b"x" * 30)


def prefilled(source: str, target: str, count: int) -> World:
    """The replica has all that the source has, under UIDs that are too low: each can still be given its own."""
    one = World(0, source, target, pace=0.0)
    one.source.raise_uidnext("INBOX", count + 1)
    for number in range(count):
        for server in (one.source, one.target):
            server.append("INBOX", numbered(number), frozenset(), number)
    return one


def cut_off(one: World, number: int = 1) -> None:
    """Ahead of the `number`th Append."""
    left = [number]

    def crash_at(step: int, action: Action) -> str:
        left[0] -= isinstance(action, Append)
        return "" if left[0] else "before"

    one.crash_at = crash_at
    assert one.sweep() is None
    one.crash_at = None


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("source", "target"), [("node", "node"), ("dovecot", "cyrus"), ("dovecot", "dovecot"),
                                                ("dovecot", "burning")])
def test_02_no_brake_holds_what_a_pass_that_was_cut_off_meant_to_drop(
    source: str, target: str, first: bool, number: int
) -> None:
    """They are not deletions: each is there twice, or going to be. After a return with a long tail, and where a replica
    had messages before it was one.
    """
    if first:
        one = prefilled(source, target, 120)
    else:
        one = World(0, source, target, pace=0.0)
        for each in range(140):
            if each == 20:
                one.quiet()
            one.source.append("INBOX", numbered(each), frozenset(), each)
        state, promotion = one.disk.state, one.fail_over()
        one.bring_back(state, promotion)
    cut_off(one, number)
    assert len(one.disk.state.folders[0].surplus) >= 120
    one.quiet()
    one.check_equal()
    assert not any("deleted" in alert for alert in one.alerts), one.alerts


@pytest.mark.parametrize("room", [3, 4, 5, 6])
@pytest.mark.parametrize(("source", "target"), [("node", "node"), ("dovecot", "cyrus"), ("dovecot", "dovecot"),
                                                ("dovecot", "burning"), ("node", "imap")])
def test_what_has_no_room_under_its_own_uid_is_not_dropped_under_the_other(source: str, target: str, room: int) -> None:
    """It is the replica's only copy. Nor is it taken for the message that has that UID at the source, and no room."""
    one = World(0, source, target, pace=0.0)
    one.source.append("INBOX", b"Message-ID: <w>\r\n\r\nother", frozenset(), 9)
    one.source.raise_uidnext("INBOX", 11)
    for number in range(3):
        for server in (one.source, one.target):
            server.append("INBOX", numbered(number), frozenset(), number)
    one.target.room = room
    had = set(texts(one.target, "INBOX"))
    for _ in range(4):
        report = one.sweep()
        assert report is not None
        assert report.full or room > 4
        assert set(texts(one.target, "INBOX")) >= had
    if room > 4:
        one.check_equal()
    one.target.room = None
    one.quiet()
    one.check_equal()


def test_what_was_moved_to_where_there_is_no_room_is_not_dropped_where_it_came_late() -> None:
    one = world("dovecot", "dovecot", "Lists")
    late = one.source.append("INBOX", b"Message-ID: <late>\r\n\r\nlate", frozenset(), 9)
    one.copy(one.source, "INBOX", late, "Lists", move=True)
    one.target.append("INBOX", b"Message-ID: <late>\r\n\r\nlate", frozenset(), 9)
    one.target.room = 9
    for _ in range(2):
        report = one.sweep()
        assert report is not None and report.full
        assert texts(one.target, "INBOX") == [*(f"body {n}" for n in range(1, 5)), "late"]
    one.target.room = None
    one.quiet()
    one.check_equal()


@pytest.mark.parametrize(("source", "target"), [("node", "imap"), ("dovecot", "imap"), ("node", "plain"),
                                                ("dovecot", "dovecot")])
def test_what_was_recognised_by_a_pass_that_died_is_not_copied_again(source: str, target: str) -> None:
    """One came and one went: where there are no MODSEQs the replica looks as the last whole pass left it."""
    one = world(source, target)
    one.source.append("INBOX", b"Message-ID: <z>\r\n\r\nz", frozenset(), 9)
    one.crash_at = lambda step, action: "after" if isinstance(action, Append) else ""
    assert one.sweep() is None
    one.expunge(one.source, "INBOX", (1,))
    one.crash_at = lambda step, action: "after" if isinstance(action, Expunge | ExpungeDeleted) else ""
    assert one.sweep() is None
    one.crash_at = None
    assert sorted(texts(one.target, "INBOX")) == ["body 2", "body 3", "body 4", "z"]
    assert one.sweep() is not None
    assert sorted(texts(one.target, "INBOX")) == ["body 2", "body 3", "body 4", "z"]
    one.quiet()
    one.check_equal()


@pytest.mark.parametrize(("source", "target"), [("node", "node"), ("dovecot", "dovecot"), ("dovecot", "cyrus")])
def test_what_was_not_dropped_before_a_promotion_is_carried_to_the_old_primary(source: str, target: str) -> None:
    """It stayed, as it is nowhere else. No mark tells of it: there it was never, here it has not changed since."""
    one = world(source, target)
    late = one.target.append("INBOX", b"Message-ID: <late>\r\n\r\nlate", frozenset(), 9)
    [link] = one.disk.state.folders
    mark = replace(one.target.mark("INBOX"), messages=link.source.messages)
    one.disk.state = replace(one.disk.state, folders=(replace(link, surplus=(late,), target=mark),))
    state, promotion = one.disk.state, one.fail_over()
    one.bring_back(state, promotion)
    report = one.sweep()
    assert report is not None and report.whole
    assert texts(one.target, "INBOX") == [*(f"body {n}" for n in range(1, 5)), "late"]
    one.quiet()
    one.check_equal()
