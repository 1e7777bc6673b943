"""How a message gets into the spool: accepted once its record is durable, and not at all before.

Knows when nothing is taken, what drafts hold in memory, and the order of append, sync and entry. Does not know what is
in the spool already, nor what becomes of a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from onedomain.model.failure import Failed, Failure, again
from onedomain.model.ports import Clock
from onedomain.queue import crash, record
from onedomain.queue.entry import Entry
from onedomain.queue.limits import SpoolLimits
from onedomain.queue.shelf import Shelf
from onedomain.store.journal import FULL_FAILURE, Journal
from onedomain.store.segment import Position

ROOM_CHECKED_EVERY = 1.0
FULL = again(452, "4.3.1", "Queue is full, try again later")


class Accepting:
    """A draft's Desk. `trouble()`: why no mail is accepted until a restart; `is_full()`: too much waits; `free()`: how
    many bytes the disk has left. `entered` is called with each message that is durable, and its body if that is in
    memory.
    """

    def __init__(
        self,
        messages: Journal,
        shelf: Shelf,
        limits: SpoolLimits,
        *,
        clock: Clock,
        crash_points: crash.CrashPoints,
        trouble: Callable[[], Failure | None],
        is_full: Callable[[], bool],
        free: Callable[[], int],
        entered: Callable[[Entry, bytes | None], None],
    ) -> None:
        self.inline_limit = limits.inline
        self.chunk_size = limits.chunk
        self.in_memory = 0
        self._messages = messages
        self._shelf = shelf
        self._limits = limits
        self._clock = clock
        self._crash = crash_points
        self._trouble = trouble
        self._is_full = is_full
        self._free = free
        self._entered = entered
        self._room_checked = float("-inf")
        self._has_room = True

    def check(self) -> None:
        """Raises Failed (452 4.3.1): poisoned, full, or too many messages."""
        if trouble := self._trouble():
            raise Failed(trouble)
        if self._is_full():
            raise Failed(FULL)
        now = self._clock.monotonic()
        if now - self._room_checked >= ROOM_CHECKED_EVERY:
            self._room_checked = now
            self._has_room = self._free() > self._limits.room
        if not self._has_room:
            raise Failed(replace(FULL_FAILURE, reason="less room on the disk than is to stay free"))

    def held(self, change: int) -> bool:
        self.in_memory += change
        return self.in_memory > self._limits.in_memory

    def now(self) -> float:
        return self._clock.time()

    # -- a large body

    def write_chunk(self, *buffers: bytes) -> Position:
        self.check()
        place = self._messages.append(*buffers)
        self._shelf.pin(place)
        return place

    async def sync(self) -> None:
        await self._messages.commit()

    def give_up(self, chunks: list[Position]) -> None:
        self._shelf.unpin(chunks)

    # -- the message

    async def accept(self, head: record.Head, meta: bytes, buffers: list[bytes], body: bytes | None) -> Entry:
        entry = self._write(head, meta, buffers)
        try:
            await self._messages.commit()
        except Failed:
            self._shelf.take(entry)
            raise
        except asyncio.CancelledError:
            # The session went away while the disk was busy. A restart would find the message, so it is accepted.
            self._entered(entry, body)
            raise
        self._crash.reach(crash.AFTER_SYNC)
        self._entered(entry, body)
        return entry

    def accept_then(self, head: record.Head, meta: bytes, buffers: list[bytes], body: bytes | None,
                    told: Callable[[Failure | None], None]) -> None:
        """`accept` for those who have no task. Raises Failed or calls `told`; who does not care any more need not say
        so: the message is accepted all the same.
        """
        entry = self._write(head, meta, buffers)
        self._messages.when_durable(partial(self._durable, entry, body, told))

    def _durable(self, entry: Entry, body: bytes | None, told: Callable[[Failure | None], None],
                 failure: Failure | None) -> None:
        if failure is not None:
            self._shelf.take(entry)
            told(failure)
            return
        self._crash.reach(crash.AFTER_SYNC)
        try:
            self._entered(entry, body)
        finally:
            told(None)

    def _write(self, head: record.Head, meta: bytes, buffers: list[bytes]) -> Entry:
        self.check()
        entry = Entry(head, meta, self._messages.append(*buffers))
        self._shelf.put(entry)
        self._crash.reach(crash.AFTER_WRITE)
        return entry
