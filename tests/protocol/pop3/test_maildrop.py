"""Numbers stay, marks come and go."""

from __future__ import annotations

import pytest

from onedomain.protocol.pop3.maildrop import Entry, Maildrop, NoSuchMessage


def test_marks() -> None:
    entries = [Entry(uid, uid * 10, f"u{uid}") for uid in (3, 5, 9)]
    drop = Maildrop(entries)
    drop.delete(2)
    assert drop.stat() == (2, 120)
    assert drop.listing() == ["1 30", "3 90"]
    assert drop.uidls() == ["1 u3", "3 u9"]
    assert drop.deleted == (entries[1],)
    for number in (0, 2, 4):
        with pytest.raises(NoSuchMessage):
            drop.entry(number)
        with pytest.raises(NoSuchMessage):
            drop.delete(number)
    drop.reset()
    assert drop.deleted == ()
    assert drop.entry(2) == entries[1]


def test_empty() -> None:
    assert Maildrop([]).stat() == (0, 0)
