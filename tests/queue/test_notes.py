"""Outcomes are durable soon, whatever the disk does meanwhile."""

from __future__ import annotations

from concurrent.futures import Executor

import pytest

from onedomain.queue import notes
from onedomain.queue.notes import STATES, Notes
from onedomain.store.journal import Journal
from onedomain.store.segment import Damage
from tests.store.forgetful import ForgetfulDisk
from tests.store.inline import HeldThreads, InlineThreads, SeededNonce


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "RESERVE_SIZE", 3000)
    monkeypatch.setattr(notes, "FLUSH_SECONDS", 0.01)


class Kept:
    """Notes on a disk."""

    def __init__(self, disk: ForgetfulDisk, threads: Executor) -> None:
        disk.make_directory("/spool")
        self.journal = Journal(disk, "/spool", STATES, nonce=SeededNonce(disk.generation), threads=threads)
        self.notes = Notes(self.journal, disk, "/spool", lambda: None)
        self.notes.open()

    def events(self) -> list[bytes]:
        return [item[1] for item in self.notes.replay() if not isinstance(item, Damage)]


async def test_what_is_noted_while_a_sync_hangs_is_durable_soon_after_it() -> None:
    disk, threads = ForgetfulDisk(), HeldThreads()
    kept = Kept(disk, threads)
    kept.notes.note(b"A")
    release = await threads.begun()
    kept.notes.note(b"B")
    release()
    (await threads.begun())()
    disk.crash(1)
    assert Kept(disk, InlineThreads()).events() == [b"A", b"B"]
