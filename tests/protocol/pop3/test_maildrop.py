"""Numbers stay, marks come and go."""

from __future__ import annotations

from collections.abc import Iterator

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


def test_counts_are_kept_and_not_counted_anew() -> None:
    entries = Walked(Entry(uid, uid * 10, f"u{uid}") for uid in (3, 5, 9))
    drop = Maildrop(entries)
    entries.walks = 0
    drop.delete(2)
    with pytest.raises(NoSuchMessage):
        drop.delete(2)
    assert drop.stat() == (2, 120)
    drop.delete(1)
    assert drop.stat() == (1, 90)
    drop.reset()
    drop.reset()
    assert drop.stat() == (3, 170)
    assert not entries.walks


class Walked(list[Entry]):
    walks = 0

    def __iter__(self) -> Iterator[Entry]:
        self.walks += 1
        return super().__iter__()
