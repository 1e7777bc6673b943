"""Gives back room: drops segments that nobody wants, copies the few wanted messages out of old ones, and begins the
state journal anew when most of it is history.

In this order always: outcomes durable, copies durable, then the old segment is removed. Knows when tidying pays. Does
not know what messages are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import replace

from onedomain.model.failure import Failed
from onedomain.model.ports import Clock, Trace
from onedomain.queue import crash, record
from onedomain.queue.entry import Entry
from onedomain.queue.notes import Notes
from onedomain.queue.shelf import Shelf
from onedomain.store.journal import Journal
from onedomain.store.segment import Position

SPARSE_SHARE = 0.25
COPY_EVERY = 10.0
SYNC_EVERY = 4 << 20

Read = Callable[[Position], Awaitable[bytes | None]]


class Tidier:
    """One piece of work at a time, begun by `run` after outcomes have been synced. `entries` are all that are needed,
    `messages` and `shelf` those of the log, or of what was set `aside`; `snapshots` None: somebody else's work.
    """

    def __init__(
        self,
        *,
        entries: Mapping[str, Entry],
        messages: Journal,
        aside: bool,
        notes: Notes,
        shelf: Shelf,
        read: Read,
        snapshots: Callable[[], AsyncIterable[bytes]] | None,
        clock: Clock,
        trace: Trace,
        crash_points: crash.CrashPoints,
    ) -> None:
        self._entries = entries
        self._messages = messages
        self._aside = aside
        self._notes = notes
        self._shelf = shelf
        self._read = read
        self._snapshots = snapshots
        self._clock = clock
        self._trace = trace
        self._crash = crash_points
        self._task: asyncio.Task[None] | None = None
        self._pauses: set[str] = set()
        self._copied = float("-inf")

    def run(self) -> None:
        """Begins what there is to do; returns at once."""
        if self._pauses or self._task is not None or not self._has_work():
            return
        self._task = asyncio.get_running_loop().create_task(self._work())

    def _has_work(self) -> bool:
        return bool(self._empty() or self._wants_checkpoint or self._sparse())

    @property
    def _wants_checkpoint(self) -> bool:
        return self._snapshots is not None and self._notes.wants_checkpoint

    def _empty(self) -> list[int]:
        return self._shelf.empty(self._messages.sizes, self._messages.current)

    def _sparse(self) -> int:
        if self._clock.monotonic() - self._copied < COPY_EVERY:
            return 0
        return self._shelf.sparse(self._messages.sizes, self._messages.current, SPARSE_SHARE)

    async def _work(self) -> None:
        try:
            if number := self._sparse():
                self._copied = self._clock.monotonic()
                await self._copy_out(number)
            if numbers := self._empty():
                await self._notes.commit()
                await self._messages.drop(numbers)
                self._shelf.dropped(numbers)
            if self._snapshots is not None and self._notes.wants_checkpoint:
                await self._notes.checkpoint(self._snapshots())
        except (Failed, OSError) as error:
            # Nothing was removed that is still wanted; the next sync of outcomes tries again.
            reason = error.failure.reason if isinstance(error, Failed) else str(error)
            self._trace.note("spool not tidied", reason=reason)
        finally:
            self._task = None

    async def _copy_out(self, number: int) -> None:
        for id in sorted(self._shelf.inhabitants(number)):
            entry = self._entries.get(id)
            if entry is None or entry.aside is not self._aside or number not in entry.segments():
                continue
            moved = await relocate(entry, self._read, self._messages, number)
            if moved is None:
                self._trace.note("spool unreadable", queue_id=id, segment=number)
            elif id in self._entries:
                self.settle(entry, *moved)
        await self._messages.commit()
        self._crash.reach(crash.IN_COMPACTION)

    def settle(self, entry: Entry, meta: bytes, body: bytes) -> None:
        """Writes the record of a message whose chunks have been copied, and books it there."""
        place = self._messages.append(record.message_head(meta), body)
        self._shelf.take(entry)
        entry.moved(meta, place)
        self._shelf.put(entry)

    async def pause(self, reason: str) -> None:
        """No tidying from here on, until the reason is gone; returns when none is under way."""
        self._pauses.add(reason)
        await self.wait()

    async def wait(self) -> None:
        """Returns when no tidying is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def resume(self, reason: str) -> None:
        self._pauses.discard(reason)


async def relocate(
    entry: Entry, read: Read, target: Journal, number: int | None = None
) -> tuple[bytes, bytes] | None:
    """Copies the entry's chunks (those of segment `number`, or all) to `target` -> its new meta, and the body that lies
    in its record; None if it can't be read. Raises Failed.
    """
    payload = await read(entry.place)
    if payload is None:
        return None
    meta, body = record.split_message(payload)
    head = entry.head
    chunks = []
    unsynced = 0
    for chunk in head.chunks:
        if number is not None and chunk.segment != number:
            chunks.append(chunk)
            continue
        part = await read(chunk)
        if part is None:
            return None
        chunks.append(target.append(part))
        unsynced += len(part)
        if unsynced >= SYNC_EVERY:
            unsynced = 0
            await target.commit()
    if chunks:
        await target.commit()
        meta = record.pack_meta(replace(head, chunks=tuple(chunks)))
    return meta, body
