"""Outcomes are durable soon, whatever the disk does meanwhile."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import Executor

import pytest

from onedomain.model.failure import Failed
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
        self._flushed = asyncio.Event()
        self.notes = Notes(self.journal, disk, "/spool", self._flushed.set)
        self.notes.open()

    async def flushed(self) -> None:
        """Waits for the next flush."""
        self._flushed.clear()
        async with asyncio.timeout(5):
            await self._flushed.wait()

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


async def test_a_reserve_that_cannot_be_given_up_is_a_refusal_and_ends_no_flushing() -> None:
    disk = ForgetfulDisk()
    kept = Kept(disk, InlineThreads())
    kept.notes.keep_reserve()
    room, disk.capacity = disk.capacity, disk.used()

    def refuse(what: str) -> None:
        if what == "unlink":
            raise OSError(errno.EROFS, "Read-only file system")

    disk.on_step = refuse
    kept.notes.note(b"A")
    with pytest.raises(Failed) as caught:
        await kept.notes.commit(b"attempt")
    assert caught.value.failure.code == 452 and "reserve: [Errno" in caught.value.failure.reason
    await kept.flushed()
    disk.on_step, disk.capacity = None, room
    kept.notes.note(b"B")
    await kept.flushed()
    disk.crash(1)
    assert Kept(disk, InlineThreads()).events() == [b"A", b"B"]


async def test_once_closed_nothing_is_touched_any_more() -> None:
    """The directory may be another process's by now."""
    disk = ForgetfulDisk()
    kept = Kept(disk, InlineThreads())
    kept.notes.keep_reserve()
    kept.notes.note(b"A")
    await kept.notes.close()
    done = disk.operations
    kept.notes.note(b"late")
    with pytest.raises(Failed):
        await kept.notes.commit(b"late")
    assert disk.operations == done and kept.notes.trouble is None
    await kept.notes.close()
    disk.kill()
    assert Kept(disk, InlineThreads()).events() == [b"A"]
