"""Keeps the book of this edge equal to the database, and says so to whoever listens.

Knows when to read changes, when everything, and how to wait for a database that is away: the book goes on answering,
and the local snapshot stands in at a start, once the database has had its time to answer and has not: what it says is
newer. Does not know SQL, nor how workers are reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from onedomain.directory.book import Book
from onedomain.directory.delta import Delta, parts
from onedomain.directory.repository import Repository
from onedomain.directory.snapshot import Snapshot
from onedomain.model.ports import Clock, Nonce, Trace
from onedomain.store.sql import AWAY, Database, DatabaseError

Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0
STALE = 30.0
"""Seconds after which the snapshot's time is renewed."""

PRUNE = 3600.0
ASK_FIRST = 2.0
"""Seconds without a word of the database, at a start, after which the snapshot is good enough."""


class Feed:
    """`publish` gets every delta, in order, and the accounts whose sessions it ends; the book has it by then."""

    def __init__(
        self,
        open_database: Callable[[], Awaitable[Database]],
        book: Book,
        snapshot: Snapshot,
        publish: Callable[[Delta, tuple[str, ...]], None],
        *,
        clock: Clock,
        nonce: Nonce,
        trace: Trace,
        poll: float = 0.5,
    ) -> None:
        self._open = open_database
        self._book = book
        self._snapshot = snapshot
        self._publish = publish
        self._clock = clock
        self._nonce = nonce
        self._trace = trace
        self._poll = poll
        self._database_id = ""
        self._true_at = self._marked = 0.0
        self._pruned = 0.0
        self._loaded = asyncio.Event()
        self._heard = 0     # deltas that the database has given
        self._kept = False  # the snapshot is this process's own, and can be added to
        self.connected = False
        self.trouble = ""   # why not

    @property
    def source(self) -> str:
        """What is answered from: "database", "snapshot" (as it was when the database was last seen) or "nothing"."""
        if self.connected:
            return "database"
        return "snapshot" if self._loaded.is_set() else "nothing"

    @property
    def age(self) -> float | None:
        """Seconds since the book was known to be what the database says; None while there is nothing in it."""
        return max(0.0, self._clock.time() - self._true_at) if self._loaded.is_set() else None

    async def loaded(self) -> None:
        """Returns once there is a directory to answer from."""
        await self._loaded.wait()

    async def run(self) -> None:
        """Until cancelled: after the database; from the snapshot while it is away at first."""
        impatience = asyncio.create_task(self._be_impatient()) if await self._read_snapshot() else None
        try:
            await self._run()
        finally:
            if impatience is not None:
                impatience.cancel()

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._follow()
            except (DatabaseError, *AWAY) as error:
                if isinstance(error, DatabaseError):  # which no second try will mend
                    self._go_by_snapshot()
                self.trouble = _reason(error)
                if self.connected or pause == FIRST_PAUSE:
                    self._trace.note("directory away", reason=_reason(error), age=self.age)
                if self.connected:
                    pause = FIRST_PAUSE
                self.connected = False
            await asyncio.sleep(pause * (0.5 + self._nonce.random()))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _follow(self) -> None:
        database = await self._open()
        try:
            repository = Repository(database, self._clock)
            async with database.watching(self._poll) as watcher:  # before the first look, so that nothing falls between
                changed = True
                while True:
                    if changed:
                        await self._catch_up(repository)
                    await self._mark()
                    if not self.connected:
                        self.connected, self.trouble = True, ""
                        self._trace.note("directory", seq=self._book.seq, accounts=len(self._book))
                    await self._prune(repository)
                    changed = await watcher.wait()
        finally:
            # The connection may hang in a network that drops packets; nobody waits for its farewell.
            with suppress(*AWAY):
                async with asyncio.timeout(2):
                    await database.close()

    async def _catch_up(self, repository: Repository) -> None:
        version = await repository.version()
        seq = self._book.seq
        if version.id != self._database_id or version.seq < seq or version.oldest > seq + 1:
            await self._read_all(repository, version.id)
        else:
            while self._book.seq < version.seq and (delta := await repository.changes(self._book.seq)):
                self._heard += 1
                await self._take(delta)
            self._loaded.set()
            if not self._kept:
                await self._save()

    async def _mark(self) -> None:
        now = self._clock.time()
        self._true_at = now
        if now - self._marked > STALE:
            self._marked = now
            try:
                await _in_thread(self._snapshot.still_true, now)
            except OSError as error:
                self._trace.note("directory snapshot failed", reason=_reason(error))

    async def _read_all(self, repository: Repository, database_id: str) -> None:
        if len(self._book) and database_id != self._database_id and not await repository.count():
            # Somebody lost or moved the file, or the URL is wrong: refusing everybody's mail is not the answer.
            raise DatabaseError("an empty database stands in the place of the directory's; going on with what is known")
        async for delta in repository.whole():
            self._heard += 1
            self._publish(delta, self._book.apply(delta))
        self._database_id = database_id
        self._loaded.set()
        await self._save()

    async def _take(self, delta: Delta) -> None:
        self._publish(delta, self._book.apply(delta))
        try:
            if not await _in_thread(self._snapshot.add, delta):
                await self._save()
        except OSError as error:
            self._trace.note("directory snapshot failed", reason=_reason(error))

    async def _save(self) -> None:
        """A disk that takes no snapshot costs a start without the database, and nothing now."""
        self._kept = True
        try:
            await _in_thread(self._snapshot.write, self._database_id, parts(self._book.whole()))
        except OSError as error:
            self._trace.note("directory snapshot failed", reason=_reason(error))

    async def _read_snapshot(self) -> bool:
        """Into the book: it has the epochs, so that no old home comes back, and only changes have to be read from the
        database. Nobody is answered by it yet. False if there is none.
        """
        try:
            found = await _in_thread(self._snapshot.read)
        except OSError as error:
            self._trace.note("directory snapshot failed", reason=_reason(error))
            return False
        if found is None:
            return False
        head, deltas = found
        for delta in deltas:
            self._publish(delta, self._book.apply(delta))
            await asyncio.sleep(0)
        self._database_id, self._true_at = head.database, head.at
        return True

    async def _be_impatient(self) -> None:
        heard = -1
        while heard < self._heard:
            heard = self._heard
            await asyncio.sleep(ASK_FIRST)
        self._go_by_snapshot()

    def _go_by_snapshot(self) -> None:
        if self._database_id and not self._loaded.is_set():
            self._loaded.set()
            self._trace.note("directory from snapshot", seq=self._book.seq, accounts=len(self._book), age=self.age)

    async def _prune(self, repository: Repository) -> None:
        now = self._clock.monotonic()
        if now - self._pruned > PRUNE:
            self._pruned = now
            await repository.prune()


async def _in_thread(work: Callable[..., Result], *arguments: object) -> Result:
    """A thread goes on when its task is cancelled; nobody may write the snapshot while the last one still does."""
    task = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]
