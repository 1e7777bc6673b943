"""The state journal: attempts and what came of them, in a file of its own beside the messages.

Outcomes may wait for a sync shared with others, `FLUSH_SECONDS` at most: if one is lost with the power its attempt is
still on record, and the delivery is looked up. An attempt is durable before `commit` returns, or it is not begun.

Outcomes must be writable when the disk is full, or a full disk could never empty: a reserve is given up for them then.
Knows the journal, the reserve and when to sync. Does not know what the events mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterator
from dataclasses import replace

from onedomain.model.failure import Failed, Failure
from onedomain.store.disk import Disk
from onedomain.store.journal import Journal
from onedomain.store.segment import Damage, Position

STATES = "state"
FLUSH_SECONDS = 0.05
RESERVE_SIZE = 4 << 20
RESERVE_NAME = "reserve"
CHECKPOINT_SIZE = 16 << 20


class Notes:
    """`flushed` is called after every sync of outcomes, when there may be something to tidy up."""

    def __init__(self, journal: Journal, disk: Disk, directory: str, flushed: Callable[[], None]) -> None:
        self._journal = journal
        self._disk = disk
        self._directory = directory
        self._flushed = flushed
        self._unwritten: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._again = False                             # something was noted while a flush was under way
        self._checkpoint_at = CHECKPOINT_SIZE
        self._has_reserve = False
        self._under_way: list[bytes] = []               # being made durable for somebody
        self._meanwhile: list[bytes] | None = None      # those of a checkpoint's time

    def open(self) -> list[Damage]:
        """Blocks; OSError."""
        damage = self._journal.open()
        self._has_reserve = RESERVE_NAME in self._disk.list_directory(self._directory)
        return damage

    def replay(self) -> Iterator[tuple[Position, bytes] | Damage]:
        return self._journal.replay()

    @property
    def trouble(self) -> Failure | None:
        return self._journal.poison

    def keep_reserve(self) -> None:
        """Sets room aside, if that is not done yet; to be called while there is plenty. Blocks."""
        if self._has_reserve:
            return
        path = f"{self._directory}/{RESERVE_NAME}"
        file = self._disk.open(path, create=True)
        try:
            # zeros that are really written: a hole would reserve nothing
            file.write([bytes(RESERVE_SIZE)], 0)
            file.sync()
            self._has_reserve = True
        except OSError:
            self._disk.unlink(path)
        finally:
            file.close()

    def note(self, event: bytes) -> None:
        """Written now, durable soon. Never fails: what finds no room is kept until there is some."""
        if self._journal.ended:
            return  # nothing more will be sent either; what was under way is in doubt after the restart
        self._unwritten.append(event)
        try:
            self._write()
        except Failed:
            pass  # `commit` meets the same failure before the next attempt, and stops dispatch by it
        self._flush_soon()

    async def commit(self, *events: bytes) -> None:
        """All noted so far and these are durable; raises Failed."""
        self._write()
        for event in events:
            self._append(event)
        self._under_way += events
        if self._meanwhile is not None:
            self._meanwhile += events
        try:
            await self._journal.commit()
        finally:
            for event in events:
                self._under_way.remove(event)

    def _write(self) -> None:
        while self._unwritten:
            self._append(self._unwritten[0])
            self._unwritten.popleft()

    def _append(self, event: bytes) -> None:
        try:
            self._journal.append(event)
        except Failed as full:
            if self._journal.ended or not self._has_reserve:
                raise
            try:
                self._disk.unlink(f"{self._directory}/{RESERVE_NAME}")
            except OSError as error:
                raise Failed(replace(full.failure, reason=f"{full.failure.reason}; reserve: {error}")) from error
            self._has_reserve = False
            self._journal.append(event)

    def _flush_soon(self) -> None:
        if self._flushing:
            self._again = True  # its sync may have begun already
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        """Without a task: a loop that ends leaves none behind that never began."""
        self._timer = None
        try:
            self._write()
        except Failed as error:
            self._after_flush(error.failure)
        else:
            self._flushing = True
            self._journal.when_durable(self._after_flush)

    def _after_flush(self, failure: Failure | None) -> None:
        """A `failure`: poisoned, which is kept in `trouble`, or full, and the next note or attempt tries again."""
        again, self._flushing, self._again = self._again, False, False
        if self._journal.ended:
            return
        if again:
            self._flush_soon()
        self._flushed()

    @property
    def wants_checkpoint(self) -> bool:
        return sum(self._journal.sizes.values()) > self._checkpoint_at

    async def checkpoint(self, events: AsyncIterable[bytes]) -> None:
        """Begins anew with `events`, which say everything that is worth knowing, and drops what was noted before.

        Events noted meanwhile land behind them. Raises Failed, and OSError from the dropping; then both are there,
        which says the same twice.
        """
        self._write()
        old = list(self._journal.sizes)
        self._journal.rotate()
        # Whoever has these made durable books them when they are: `events` may not know of them yet. Said twice, and
        # behind what came of it, an attempt changes nothing, or leaves a doubt.
        self._meanwhile = list(self._under_way)
        try:
            async for event in events:
                self._append(event)
            for event in self._meanwhile:
                self._append(event)
        finally:
            self._meanwhile = None
        await self._journal.commit()
        await self._journal.drop(old)
        self._checkpoint_at = CHECKPOINT_SIZE + 2 * sum(self._journal.sizes.values())

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            if not self._journal.ended:
                self._write()
        finally:
            await self._journal.close()
