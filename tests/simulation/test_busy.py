"""Accounts that don't hold still while a pass looks at them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onedomain.decision.link.actions import Action, ListFolders, Look, Read
from onedomain.decision.link.order import Order
from onedomain.decision.link.sweep import sweep
from onedomain.model.replica import Side

from .test_folders import texts, world


@pytest.mark.parametrize(("source", "target"), [("dovecot", "node"), ("node", "dovecot"), ("burning", "cyrus")])
def test_a_list_is_not_listed_again_because_something_came(source: str, target: str) -> None:
    """After a return all has to be listed. Of a large folder where mail flows each list would be late again, and the
    link not whole for as long as it does.
    """
    one = world(source, target)
    links = [replace(link, source=replace(link.source, modseq=0)) for link in one.disk.state.folders]
    one.disk.state = replace(one.disk.state, folders=tuple(links))
    listed = 0

    def happens(step: int, action: Action) -> str:
        nonlocal listed
        if isinstance(action, Look) or (isinstance(action, ListFolders) and action.side is Side.SOURCE):
            listed += 1
            if listed in (2, 3, 4):  # each time after the folder was read
                inbox = one.source.boxes["INBOX"].messages
                one.source.append("INBOX", f"Message-ID: <c{listed}>\r\n\r\ncame {listed}".encode(), frozenset(), 9)
                one.source.expunge("INBOX", (min(inbox),))
                one.source.store("INBOX", max(inbox) - 1, frozenset({"\\Seen"}))
        return ""

    one.crash_at = happens
    before = len(one.driver.log)
    report = one.sweep()
    assert report is not None and report.whole
    one.check_equal()
    assert texts(one.target, "INBOX") == ["body 4", "came 2", "came 3", "came 4"]
    read = [line for line in one.driver.log[before:] if line.startswith(repr(Read(Side.SOURCE, "INBOX"))[:46])]
    assert len(read) == 4 and sum("since=0" in line for line in read) == 1, read


def test_a_source_that_is_restored_between_two_reads_is_listed_again() -> None:
    one = world("dovecot", "node")
    links = [replace(link, source=replace(link.source, modseq=0)) for link in one.disk.state.folders]
    one.disk.state = replace(one.disk.state, folders=tuple(links))
    inbox = one.source.boxes["INBOX"]
    listed = 0

    def happens(step: int, action: Action) -> str:
        nonlocal listed
        if isinstance(action, Look) or (isinstance(action, ListFolders) and action.side is Side.SOURCE):
            listed += 1
            if listed == 2:  # the youngest message had not been synced
                del inbox.messages[max(inbox.messages)]
                inbox.modseq -= 1
        return ""

    one.crash_at = happens
    before = len(one.driver.log)
    one.sweep()
    read = [line for line in one.driver.log[before:] if line.startswith(repr(Read(Side.SOURCE, "INBOX"))[:46])]
    assert sum("since=0" in line for line in read) == 2, read


@pytest.mark.parametrize("target", ["dovecot", "node", "cyrus"])
def test_what_is_expunged_is_looked_for_from_there_on(target: str) -> None:
    """Not in the whole of a folder with thousands of messages, for each that goes."""
    one = world("dovecot", target)
    one.source.expunge("INBOX", (3,))
    before = len(one.driver.log)
    assert one.sweep() is not None
    one.check_equal()
    read = [line for line in one.driver.log[before:] if line.startswith("Read(side=<Side.TARGET")]
    assert len(read) == 1 and "first=3" in read[0], read


def test_who_tidies_up_is_not_braked_because_passes_are_faster_than_what_is_told() -> None:
    """Each deletion is seen by a pass before its answer, which says that somebody wanted it."""
    one = world("dovecot", "node")
    for number in range(100):
        one.source.append("INBOX", f"Message-ID: <t{number}>\r\n\r\ntidied {number}".encode(), frozenset(), 9)
    one.quiet()
    for _ in range(80):
        one.commanded.clear()
        one.source.expunge("INBOX", (min(one.source.boxes["INBOX"].messages),))
        assert one.sweep() is not None
        one.commanded.add("INBOX")
        assert one.sweep() is not None
    assert not one.alerts
    one.check_equal()


@pytest.mark.parametrize("told", [True, False])
def test_what_is_told_while_a_pass_runs_counts_for_it(told: bool) -> None:
    """All of a folder is moved while a pass that began before looks at it."""
    one = world("dovecot", "node", "Archive")
    for number in range(100):
        one.source.append("INBOX", f"Message-ID: <t{number}>\r\n\r\ntidied {number}".encode(), frozenset(), 9)
    one.quiet()
    commanded: set[str] = set()

    def happens(step: int, action: Action) -> str:
        if isinstance(action, Read) and action.side is Side.SOURCE:
            one.source.expunge("INBOX", tuple(one.source.boxes["INBOX"].messages))
        elif isinstance(action, ListFolders) and not one.source.boxes["INBOX"].messages and told:
            commanded.add("INBOX")
        return ""

    one.source.append("INBOX", b"Message-ID: <new>\r\n\r\nnew", frozenset(), 9)
    one.crash_at = happens
    powers = one.source.traits.powers, one.target.traits.powers
    one.driver.run(sweep(one.disk.state, *powers, Order(one.now, commanded)))
    assert bool(one.alerts) is not told and bool(one.target.boxes["INBOX"].messages) is not told
