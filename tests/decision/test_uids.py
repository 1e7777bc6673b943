"""Sets of UIDs as ranges, and what of them a replica has: to span 100,000 UIDs costs no more than to span three."""

from __future__ import annotations

import random
import sys

from onedomain.decision.link.compare import doomed, lowest
from onedomain.decision.link.uids import Pairs
from onedomain.model.replica import FolderLink, Mark, Run
from onedomain.model.uids import UidSet

HUGE = 0xFFFF_FFFE


def test_a_set() -> None:
    some = UidSet.of((7, 3, 4, 9))
    assert some.ranges == ((3, 4), (7, 7), (9, 9)) and tuple(some) == (3, 4, 7, 9)
    assert [uid for uid in range(11) if uid in some] == [3, 4, 7, 9] and "3" not in some
    assert UidSet.spanning([(5, 9), (1, 2), (3, 4), (8, 20)]).ranges == ((1, 20),)
    assert some.within(4, 8).ranges == ((4, 4), (7, 7)) and not some.within(5, 6) and not some.within(9, 3)
    assert UidSet.spanning([(1, HUGE)]).without((1, 5, 6, HUGE)).ranges == ((2, 4), (7, HUGE - 1))
    assert not UidSet.of((3,)).without((3,)) and not UidSet() and UidSet.of((1,))


def test_random_sets() -> None:
    dice = random.Random(7)
    for _ in range(300):
        uids = {dice.randrange(1, 60) for _ in range(dice.randrange(40))}
        taken = sorted({dice.randrange(1, 60) for _ in range(dice.randrange(20))})
        low, high = dice.randrange(60), dice.randrange(60)
        some = UidSet.of(uids)
        assert set(some) == uids and all((uid in some) == (uid in uids) for uid in range(62))
        assert set(some.without(taken)) == uids - set(taken)
        assert set(some.within(low, high)) == {uid for uid in uids if low <= uid <= high}


def test_whose_partners_vanished() -> None:
    dice = random.Random(8)
    seen = 0
    for _ in range(300):
        target = 40
        runs = tuple(Run(source, target := target + dice.randrange(3, 6), dice.randrange(1, 3))
                     for source in sorted(dice.sample(range(1, 40, 3), 4)))
        link = FolderLink("INBOX", "INBOX", source=Mark(1, 50, 9, 0), target=Mark(1, dice.randrange(40, 60), 9, 0),
                          runs=runs, kept=(2,), refused=(35,))
        uids = {dice.randrange(1, 55) for _ in range(10)}
        partners = {Pairs(link).target(uid) for uid in uids if uid < 50}
        wanted = sorted(uid for uid in partners if 0 < uid < link.target.uidnext)
        first = lowest(link, UidSet.of(uids))
        assert tuple(wanted) == doomed(link, range(1, 80), UidSet.of(uids))
        assert not wanted or 0 < first <= wanted[0]
        seen += bool(wanted)
    assert seen > 200


def test_a_gap_of_many_failovers_is_as_dear_as_one_message() -> None:
    link = FolderLink("INBOX", "INBOX", source=Mark(1, HUGE, 9, 0), target=Mark(1, HUGE, 9, 0))
    lines = 0

    def count(*_: object) -> object:
        nonlocal lines
        lines += 1
        return count

    gap = UidSet.spanning([(50, HUGE - 2)])
    sys.settrace(count)  # type: ignore[arg-type]
    try:
        first, gone = lowest(link, gap), doomed(link, (1, 60, HUGE - 1), gap)
    finally:
        sys.settrace(None)
    assert (first, gone) == (50, (60,)) and lines < 200
