"""Taking over the spool of a worker slot that is no more.

The dead slot's directory is first moved into ours by one rename: from then on it is ours alone, and opening our spool
goes on with it after a crash. It is removed when all of it is durable in our own journals.

Knows names and order. Does not know what becomes of the messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from onedomain.model.ports import Clock, Trace
from onedomain.queue import crash, record
from onedomain.queue.aside import ASIDE, Aside
from onedomain.queue.entry import Entry
from onedomain.queue.notes import STATES, Notes
from onedomain.queue.replay import MESSAGES, Replay, snapshots
from onedomain.queue.shelf import Shelf
from onedomain.queue.tidy import Read, relocate
from onedomain.store.disk import Disk
from onedomain.store.journal import Journal
from onedomain.store.segment import Damage, Position

T = TypeVar("T")

PREFIX = "adopted-"
DAMAGED = ".damaged"


def is_adopted(name: str) -> bool:
    return name.startswith(PREFIX) and not name.endswith(DAMAGED)


def take_over(disk: Disk, directory: str, own: str) -> str:
    """Moves the directory into `own` -> its new path, or "" if there is none. Blocks.

    Raises BlockingIOError while a process still has it, OSError.
    """
    parent, _, name = directory.rpartition("/")
    if not disk.list_directory(directory):
        return ""
    lock = disk.lock(directory + ".lock")
    try:
        taken = _free_name(disk, own, PREFIX + name)
        disk.rename(directory, taken)
        disk.sync_directory(parent)
        disk.sync_directory(own)
    finally:
        lock.release()
    return taken


def unnest(disk: Disk, directory: str, own: str) -> list[str]:
    """What the dead worker had itself been adopting becomes ours, too -> the new paths. Blocks; OSError."""
    moved = []
    for name in disk.list_directory(directory):
        if is_adopted(name):
            taken = _free_name(disk, own, name)
            disk.rename(f"{directory}/{name}", taken)
            moved.append(taken)
    if moved:
        disk.sync_directory(directory)
        disk.sync_directory(own)
    return moved


def clear(disk: Disk, directory: str, own: str, *, keep: bool) -> None:
    """Removes an adopted directory. What is damaged stays in `own` for a human; with `keep` everything does. Blocks.

    Messages first, and for good: one that is there still, and what became of it not, would be sent again.
    """
    name = directory.rpartition("/")[2]
    files = disk.list_directory(directory)
    states = [file for file in files if file.startswith(STATES)]
    for some in ([file for file in files if file not in states], states):
        for file in some:
            path = f"{directory}/{file}"
            if keep or file.endswith(DAMAGED):
                disk.rename(path, f"{own}/{name}.{file.removesuffix(DAMAGED)}{DAMAGED}")
            else:
                disk.unlink(path)
        disk.sync_directory(directory)
    disk.remove_directory(directory)
    disk.sync_directory(own)


def _free_name(disk: Disk, own: str, name: str) -> str:
    taken = set(disk.list_directory(own))
    while name in taken:
        name += "-"
    return f"{own}/{name}"


class Adoption:
    """Brings adopted directories into the spool that these journals and shelves are of. `journal` makes one of a
    directory and a name, `report` hears what was damaged.
    """

    def __init__(
        self,
        *,
        disk: Disk,
        directory: str,
        messages: Journal,
        aside: Aside,
        notes: Notes,
        shelf: Shelf,
        threads: Executor,
        journal: Callable[[str, str], Journal],
        report: Callable[[Iterable[Damage]], None],
        clock: Clock,
        trace: Trace,
        crash_points: crash.CrashPoints,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._messages = messages
        self._aside = aside
        self._notes = notes
        self._shelf = shelf
        self._threads = threads
        self._journal = journal
        self._report = report
        self._clock = clock
        self._trace = trace
        self._crash = crash_points

    async def bring_in(self, directory: str, enter: Callable[[Entry], None], arrived: Callable[[Entry], None]) -> int:
        """Copies what nobody here knows: each is given to `enter` when it is durable, and to `arrived` when the dead
        spool is closed -> their number. Raises Failed, OSError.
        """
        await self._in_thread(partial(unnest, self._disk, directory, self._directory))
        found = await self._in_thread(partial(self._read, directory))
        brought: list[Entry] = []
        try:
            self._report(found.damage)
            strangers = [entry for entry in found.entries.values() if not self._knows(entry.id)]
            # What is known of them is durable before they are, else a crash between would forget their attempts.
            await self._notes.commit(*snapshots(strangers))
            try:
                for entry in strangers:
                    if await self._copy(found, entry):
                        brought.append(entry)
            finally:
                # Also where room ran out half-way: the shelf knows these now, so no later try would bring them in.
                await self._messages.commit()
                await self._aside.journal.commit()
                for entry in brought:
                    enter(entry)
            self._crash.reach(crash.IN_ADOPTION)
        finally:
            await found.close()
            for entry in brought:
                arrived(entry)
        keep = len(brought) < len(strangers)
        await self._in_thread(lambda: clear(self._disk, directory, self._directory, keep=keep))
        self._trace.note("spool adopted", directory=directory, messages=len(brought), unreadable=keep)
        return len(brought)

    def _read(self, directory: str) -> Replay:
        notes = Notes(self._journal(directory, STATES), self._disk, directory, lambda: None)
        found = Replay(self._journal(directory, MESSAGES), self._journal(directory, ASIDE), notes, self._clock)
        found.run()
        return found

    def _knows(self, id: str) -> bool:
        return self._shelf.knows(id) or self._aside.shelf.knows(id)

    async def _copy(self, found: Replay, entry: Entry) -> bool:
        """Appends the entry's records to a journal of ours. False if they can't be read."""
        read = self._reader(found.aside if entry.aside else found.messages)
        if entry.aside and entry.finished:
            if (there := await self._aside.copy(entry, read)) is None:
                return False
            self._aside.put(entry, *there)
            return True
        copied = await relocate(entry, read, self._messages)
        if copied is None:
            return False
        meta, body = copied
        entry.moved(meta, self._messages.append(record.message_head(meta), body))
        entry.aside = False
        entry.in_net = entry.finished
        self._shelf.put(entry)
        return True

    def _reader(self, source: Journal) -> Read:
        async def read(place: Position) -> bytes | None:
            return await self._in_thread(lambda: source.read(place))

        return read

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
