"""The directory on this machine's own disk: whole or not at all, changes appended, whatever happened to the file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onedomain.directory.book import Book
from onedomain.directory.delta import Delta, parts
from onedomain.directory.snapshot import Snapshot
from onedomain.model.account import Home
from tests.directory.views import account

ROWS = [account(f"a{i}@example.com") for i in range(5)]
WHOLE = Delta(5, accounts=tuple(ROWS[:3]), whole=True)


def read(path: Path) -> Book | None:
    found = Snapshot(path).read()
    if found is None:
        return None
    book = Book([], [], [])
    for delta in found[1]:
        book.apply(delta)
    return book


def written(path: Path) -> Snapshot:
    snapshot = Snapshot(path)
    snapshot.write("id", parts(WHOLE))
    return snapshot


def test_whole_and_changes(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    assert Snapshot(path).read() is None
    snapshot = written(path)
    assert snapshot.add(Delta(6, accounts=(ROWS[3],)))
    assert snapshot.add(Delta(7, gone_accounts=(ROWS[0].address,)))
    book = read(path)
    assert book is not None
    assert (book.seq, set(book.accounts())) == (7, set(ROWS[1:4]))
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["snapshot"]


def test_age_is_when_it_was_last_known_to_be_true(tmp_path: Path) -> None:
    snapshot = written(tmp_path / "s")
    snapshot.still_true(1_000_000.0)
    found = snapshot.read()
    assert found is not None and (found[0].database, found[0].at) == ("id", 1_000_000.0)


def test_only_the_writer_appends_and_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "s"
    snapshot = written(path)
    assert not Snapshot(path).add(Delta(6))
    for seq in range(6, 5000):
        if not snapshot.add(Delta(seq, accounts=tuple(ROWS))):
            break
    else:
        pytest.fail("it grows for ever")
    assert seq > 100


def test_what_a_failed_append_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "s"
    snapshot = written(path)
    with path.open("ab") as file:
        file.write(b"00000000 {to")
    assert snapshot.add(Delta(6, accounts=(ROWS[4],)))
    book = read(path)
    assert book is not None and book.seq == 6


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_torn_and_damaged_files(tmp_path: Path, data: st.DataObject) -> None:
    """Any prefix with any byte changed: nothing, or the directory as it was at some time."""
    path = tmp_path / "s"
    snapshot = written(path)
    snapshot.add(Delta(6, accounts=(ROWS[3],)))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(bytes(content))
    book = read(path)
    assert book is None or (book.seq, len(book)) in ((5, 3), (6, 4))


def test_a_promotion_travels_and_rows_of_an_older_version_are_read() -> None:
    shown = replace(ROWS[0], home=Home("s2", ("s1",), 4, no_modseq=True, shown="9 5:7", uidl="%v.%u", modseq_of="z"))
    assert Delta.decode(Delta(1, accounts=(shown,)).encode()).accounts == (shown,)
    row = replace(ROWS[0], home=Home("s2", ("s1",), 4, pending=True, no_modseq=True))
    line = Delta(1, accounts=(row,)).encode()
    assert Delta.decode(line).accounts == (row,)
    older = line.replace(b",1,1,1,1]", b",1,1]")
    assert older != line
    assert Delta.decode(older).accounts == (replace(row, home=Home("s2", ("s1",), 4)),)
