"""Who is busy with which targets of a message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from onedomain.queue.entry import Entry
from onedomain.queue.in_flight import InFlight

ONE = cast(Entry, SimpleNamespace(id="one"))
OTHER = cast(Entry, SimpleNamespace(id="other"))


def test_nobody_has_what_another_has() -> None:
    busy = InFlight()
    assert busy.claim(ONE, (0, 1)) == (0, 1) and busy.of("one") == {0, 1}
    assert busy.claim(ONE, (1, 2)) == (2,) and busy.claim(OTHER, (1,)) == (1,)
    busy.release(ONE, (0, 1))
    assert busy.claim(ONE, (0, 1, 2)) == (0, 1), "2 is the other's still"
    busy.release(ONE, (2,))
    busy.release(ONE, (0, 1))
    assert "one" not in busy and "other" in busy and busy.of("one") == frozenset()


def test_a_claim_of_nothing_may_outlive_the_others() -> None:
    """A sweep that found all of a message's targets busy waits for the disk, while they are done."""
    busy = InFlight()
    mine = busy.claim(ONE, (0,))
    nothing = busy.claim(ONE, (0,))
    assert nothing == ()
    busy.release(ONE, mine)
    busy.release(ONE, nothing)
    assert "one" not in busy
    busy.release(ONE, busy.claim(ONE, ()))
    assert "one" not in busy, "who claims nothing keeps nobody waiting"
