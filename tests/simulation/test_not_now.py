"""A replica that works and makes no folder now: a lock, a limit, a bug. What does not need that folder goes on."""

from __future__ import annotations

from collections import Counter

import pytest

from onedomain.decision.link.actions import Action, CreateFolder, Read
from onedomain.decision.link.identity import identity_of
from onedomain.decision.link.shapes import REFUSALS
from onedomain.model.replica import Side

from .world import World


def filled(target: str) -> World:
    one = World(0, "dovecot", target, pace=0.0)
    one.busy = False
    for number in range(1, 7):
        one.source.append("INBOX", f"Message-ID: <{number}>\r\n\r\nbody {number}".encode(), frozenset(), number)
    one.quiet()
    return one


def bodies(one: World) -> Counter[bytes]:
    return Counter(message.raw[-1:] for _, _, message in one.target.everything())


@pytest.mark.parametrize("why", ["locked", "full"])
@pytest.mark.parametrize("target", ["dovecot", "cyrus", "node", "burning", "plain"])
def test_what_was_moved_into_it_stays_and_all_else_is_carried(target: str, why: str) -> None:
    one = filled(target)
    one.source.create("New")
    if why == "locked":
        one.target.locked = frozenset({one.target.path("New")})
    else:
        one.target.folders = len(one.target.boxes)
    one.copy(one.source, "INBOX", 1, "New", move=True)
    one.expunge(one.source, "INBOX", (2,))
    one.source.append("INBOX", b"Message-ID: <7>\r\n\r\nbody 7", frozenset(), 7)
    for _ in range(2):
        report = one.sweep()
        assert report is not None and not report.whole
        assert report.full and not report.stopped
        assert bodies(one) == Counter((b"1", b"3", b"4", b"5", b"6", b"7")), "all but what was expunged"
        assert set(one.target.boxes) == {"INBOX"}
        assert "New" in {link.source_name for link in one.disk.state.folders}, "what is known of it is kept"
    one.target.locked, one.target.folders = frozenset(), None
    one.quiet()
    one.check_equal()
    assert set(one.target.boxes) == {"INBOX", one.target.path("New")}, "under its own name"
    assert not any("is called" in alert for alert in one.alerts)


@pytest.mark.parametrize("target", ["cyrus", "node", "burning"])
def test_the_primary_dies_meanwhile(target: str) -> None:
    one = filled(target)
    one.source.create("New")
    one.target.locked = frozenset({one.target.path("New")})
    one.copy(one.source, "INBOX", 1, "New", move=True)
    before = Counter(identity_of(message.raw).digest for _, _, message in one.source.everything())
    assert one.sweep() is not None
    state = one.disk.state
    promotion = one.fail_over()
    assert not promotion.refused
    assert Counter(identity_of(message.raw).digest for _, _, message in one.target.everything()) == before
    one.target.locked = frozenset()
    one.bring_back(state, promotion)
    one.quiet()
    one.check_equal()
    assert Counter(identity_of(message.raw).digest for _, _, message in one.source.everything()).keys() == before.keys()


def test_a_message_comes_back_from_it_while_a_pass_looks_what_was_moved_there() -> None:
    """It is in no folder that was read, and must not be deleted where it was."""
    one = filled("cyrus")
    one.source.create("New")
    one.target.locked = frozenset({"New"})
    one.copy(one.source, "INBOX", 1, "New", move=True)
    done = False

    def back(step: int, action: Action) -> str:
        nonlocal done
        if isinstance(action, Read) and (action.side, action.folder) == (Side.SOURCE, "New") and not done:
            done = True
            one.copy(one.source, "New", 1, "INBOX", move=True)
        return ""

    one.crash_at = back
    report = one.sweep()
    assert report is not None and done and bodies(one)[b"1"] == 1


def test_a_server_without_room_is_not_asked_for_every_folder() -> None:
    """Nor does one that is locked keep the others from being made."""
    one = filled("cyrus")
    for number in range(40):
        one.source.create(f"F{number:02}")
    one.target.locked = frozenset({"F03"})
    report = one.sweep()
    assert report is not None and "not now" in report.full
    assert len(one.target.boxes) == 40
    one.target.locked, one.target.folders = frozenset(), 40
    for number in range(40, 80):
        one.source.create(f"F{number:02}")
    before = len(one.driver.log)
    report = one.sweep()
    assert report is not None and "replica has no folder" in report.full
    asked = [each for each in one.driver.log[before:] if each.startswith(CreateFolder.__name__)]
    assert len(asked) == 2 * REFUSALS, "by its own name, and by a plain one"
    one.target.folders = None
    one.quiet()
    one.check_equal()
    assert set(one.target.boxes) == set(one.source.boxes)
