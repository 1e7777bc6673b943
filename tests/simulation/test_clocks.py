"""Servers whose clocks are wrong. Dates of messages are the primary's; a replica may not take them as they are."""

from __future__ import annotations

from functools import partial

import pytest

from .seeds import seeds
from .test_folders import texts, world
from .world import World


def compared(world: World) -> list[str]:
    """The bytes that audits read where nothing has happened."""
    before = len(world.driver.log)
    world.quiet()
    return [each for each in world.driver.log[before:] if each.startswith("ReadIdentities") and "uids=()" not in each]


@pytest.mark.parametrize("wrong", [1, 3600])
@pytest.mark.parametrize("source", ["node", "dovecot", "cyrus", "imap"])
def test_a_primary_whose_clock_is_ahead(source: str, wrong: int) -> None:
    """Dovecot stores no date in the future. Messages that differ in that alone are compared once, or each audit would
    read the whole mailbox at both sides.
    """
    one = world(source, "dovecot")
    time = 1000
    one.target.clock = lambda: time
    for number in range(20):
        time += 10
        raw = f"Message-ID: <c{number}>\r\n\r\nnew {number}".encode()
        one.source.append("INBOX", raw, frozenset(), time + wrong)
        assert one.sweep() is not None
    one.quiet()
    assert texts(one.source, "INBOX") == texts(one.target, "INBOX")
    here, there = (sorted(server.boxes["INBOX"].messages.items())[4:] for server in (one.source, one.target))
    assert {mine.date - other.date for (_, mine), (_, other) in zip(here, there, strict=True)} == {wrong}
    assert not compared(one) and not one.alerts


def test_a_date_that_a_sender_made_up_hides_no_restore() -> None:
    """It is years ahead, and looked at each time. UIDs that were used again are found all the same."""
    one = world("node", "dovecot")
    one.target.clock = lambda: 1000
    one.source.append("INBOX", b"Message-ID: <f>\r\n\r\nfuture", frozenset(), 10**9)
    one.quiet()
    early = one.source.snapshot()
    one.source.append("INBOX", b"Message-ID: <a>\r\n\r\nnew", frozenset(), 900)
    one.quiet()
    assert all(link.skew == 0 for link in one.disk.state.folders)
    one.source.restore(early)
    one.source.append("INBOX", b"Message-ID: <b>\r\n\r\nother", frozenset(), 100_900)
    one.source.append("INBOX", b"Message-ID: <c>\r\n\r\nmore", frozenset(), 100_901)
    one.source.boxes["INBOX"].modseq += 100  # as if nothing had happened
    one.quiet()
    assert any("different messages" in alert for alert in one.alerts)
    assert sorted(texts(one.target, "INBOX"))[4:] == ["future", "more", "new", "other"]


def reads(world: World, ahead: int) -> int:
    return int(world.now) + 4000 + ahead


@pytest.mark.parametrize("wrong", [3600, -3600])
@pytest.mark.parametrize(("source", "target"), [("dovecot", "dovecot"), ("cyrus", "dovecot"), ("dovecot", "cyrus")])
def test_clocks_that_differ_by_an_hour_converge_and_fail_over(source: str, target: str, wrong: int) -> None:
    """Invariants 2 and 7: the new primary's clock is right, or the old one's; whose folders are the younger no longer
    follows from their UIDVALIDITYs.
    """
    for seed in seeds(10):
        one = World(seed, source, target, accidents=0.05)
        for server, ahead in ((one.source, wrong), (one.target, 0)):
            server.clock = partial(reads, one, ahead)
        for _ in range(6):
            one.sweep()
        one.quiet()
        state, promotion = one.disk.state, one.fail_over()
        assert not promotion.refused
        one.check_ledger(one.target)
        for _ in range(6):
            one.act(one.target)
        one.bring_back(state, promotion)
        one.busy, one.accidents = True, 0.05
        for _ in range(3):
            one.sweep()
        one.quiet()
        one.check_ledger(one.source)
        one.check_ledger(one.target)
        one.check_equal(dates=False)
        assert not compared(one), one.label
