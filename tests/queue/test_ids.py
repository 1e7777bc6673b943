"""Queue ids are short, sortable, never the same, and tell nothing that could be used."""

from __future__ import annotations

import re

from onedomain.queue.ids import Ids, derived_id
from tests.queue.fakes import ManualClock
from tests.store.inline import SeededNonce


def test_ids_grow_even_when_the_clock_does_not() -> None:
    clock = ManualClock()
    ids = Ids(clock, SeededNonce())
    made = []
    for change in (0, 0, 1e-6, 5, -100, 0, 1000):
        clock.now += change
        made.append(ids.next())
    assert made == sorted(made)
    assert len({one[:10] for one in made}) == len(made)
    assert all(re.fullmatch("[0-9a-z]{17}", one) for one in made)


def test_edges_whose_clocks_agree_make_different_ids() -> None:
    clock = ManualClock()
    first, second = Ids(clock, SeededNonce(1)), Ids(clock, SeededNonce(2))
    assert not {first.next() for _ in range(100)} & {second.next() for _ in range(100)}


def test_ids_keep_their_order_until_2085() -> None:
    assert Ids(ManualClock(3.6e9), SeededNonce()).next() > Ids(ManualClock(1.7e9), SeededNonce()).next()


def test_a_derived_id_is_always_the_same_and_never_its_parent() -> None:
    parent = Ids(ManualClock(), SeededNonce()).next()
    assert derived_id(parent, "failed 0") == derived_id(parent, "failed 0")
    assert len({parent, derived_id(parent, "failed 0"), derived_id(parent, "failed 1")}) == 3
    assert re.fullmatch("[0-9a-z]{17}", derived_id(parent, "failed 0"))
