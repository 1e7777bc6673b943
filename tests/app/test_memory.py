"""What is frozen is not looked at again, and garbage is not frozen with it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from onedomain.app.memory import freeze, freeze_all


class Thing:
    pass


def cycle() -> weakref.ref[Thing]:
    """To something that only the collector can free."""
    one = Thing()
    one.itself = one  # type: ignore[attr-defined]
    return weakref.ref(one)


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    gc.collect()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("do", [freeze, freeze_all])
def test_what_stays_is_not_looked_at_and_garbage_is_not_kept(do: Callable[[], None]) -> None:
    gone, kept = cycle(), [[number] for number in range(1000)]
    do()
    assert gone() is None
    assert gc.get_freeze_count() > len(kept) > len(gc.get_objects())


def test_what_is_frozen_is_freed_with_its_last_reference() -> None:
    thing = Thing()
    there = weakref.ref(thing)
    freeze()
    del thing
    assert there() is None
