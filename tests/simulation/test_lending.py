"""Where there is no UIDPLUS: a plain EXPUNGE that is cut off changes nobody's flags, and takes nobody's message."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onedomain.decision.link.actions import Action, ExpungeDeleted, Save
from onedomain.model.replica import LinkState

from .world import World

DELETED = frozenset({"\\Deleted", "\\Seen"})


def moved() -> World:
    """1 and 2 are marked by their user; 3 was expunged, 4 was moved, and no pass has said so yet."""
    one = World(0, "node", "plain", pace=0.0)
    one.source.create("Lists")
    for number in range(1, 7):
        flags = DELETED if number < 3 else frozenset({"\\Flagged"})
        one.source.append("INBOX", f"Message-ID: <{number}>\r\n\r\nbody {number}".encode(), flags, number)
    one.quiet()
    assert flags_of(one)[:2] == [DELETED, DELETED]
    one.expunge(one.source, "INBOX", (3,))
    one.copy(one.source, "INBOX", 4, "Lists", move=True)
    return one


def flags_of(one: World, name: str = "INBOX") -> list[frozenset[str]]:
    return [message.flags for _, message in sorted(one.target.boxes[name].messages.items())]


def cut(one: World, step: int, how: str) -> Callable[[int, Action], str]:
    end = one.steps + step
    return lambda now, action: how if now == end else ""


@pytest.mark.parametrize("how", ["before", "within", "after"])
@pytest.mark.parametrize("again", ["promotion", "pass"])
def test_a_pass_is_cut_off_and_what_follows_gives_flags_back(again: str, how: str) -> None:
    step, reached = 0, True
    while reached:
        step += 1
        one = moved()
        one.busy, one.accidents = False, 0.0
        one.crash_at = cut(one, step, how)
        reached = one.sweep() is None
        one.crash_at = None
        if again == "pass":
            report = one.sweep()  # as every pass is that finds little: it does not compare lists
            assert report is not None and report.whole
            one.check_equal()
        else:
            assert not one.fail_over().refused
            inbox = one.target.boxes["INBOX"].messages
            says = {message.raw[-1:]: message.flags for message in inbox.values()}
            assert says.pop(b"1") == says.pop(b"2") == DELETED, step
            assert set(says.values()) == {frozenset({"\\Flagged"})}, f"{step}: what nobody marked is not \\Deleted"


@pytest.mark.parametrize("how", ["before", "within", "after"])
def test_a_promotion_is_cut_off_and_repeated(how: str) -> None:
    step, reached = 0, True
    while reached:
        step += 1
        one = moved()
        one.crash_at = lambda now, action: "before" if isinstance(action, ExpungeDeleted) else ""
        assert one.sweep() is None
        one.crash_at = cut(one, step, how)
        begun = one.steps
        assert not one.fail_over().refused
        reached = one.steps >= begun + step
        inbox = one.target.boxes["INBOX"].messages
        assert [message.raw[-1:] for _, message in sorted(inbox.items())] == [b"1", b"2", b"3", b"5", b"6"], step
        assert flags_of(one) == [DELETED, DELETED, *[frozenset({"\\Flagged"})] * 3], step
        assert flags_of(one, "Lists") == [frozenset({"\\Flagged"})]


def test_what_was_lent_is_saved_before_and_is_not_kept() -> None:
    one = moved()
    noted: list[LinkState] = []

    def see(now: int, action: Action) -> str:
        if isinstance(action, Save):
            noted.append(action.state)
        return ""

    one.crash_at = see
    one.sweep()
    assert [(link.unmarked, link.marked) for state in noted for link in state.folders if link.unmarked] == [
        ((1, 2), (3, 4))]
    assert not any(link.unmarked or link.marked for link in one.disk.state.folders)


def test_what_is_set_aside_goes_where_there_is_no_room_for_the_rest() -> None:
    """Or each pass would set the same messages aside again, and push out what else is kept."""
    one = World(0, "node", "plain", pace=0.0)
    for number in range(1, 131):
        one.source.append("INBOX", f"Message-ID: <{number}>\r\n\r\nbody {number}".encode(), frozenset(), number)
    one.quiet()
    one.expunge(one.source, "INBOX", tuple(range(1, 121)))
    one.driver.room = lambda: len(one.aside) < 60
    for _ in range(3):
        report = one.sweep()
        assert report is not None and report.whole and report.owed == {"INBOX"}
        assert len(one.target.boxes["INBOX"].messages) == 80 and len(one.aside) < 70
    one.driver.room = lambda: True
    one.quiet()
    one.check_equal()
    assert len(one.aside) < 140 and len(set(one.aside)) == 120
