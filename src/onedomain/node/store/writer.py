"""The one thread that writes: everything queued together becomes one sync of the bodies and one commit.

Knows batches, transactions and what to do when the disk fails. Does not know what the works do to the rows.

A work runs inside its own savepoint: when it raises, it alone is undone and its caller gets the exception. Callers are
answered, and changes published, after the commit, in the order of the works. The queue is bounded by its callers: each
session waits for its work before it submits another.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from onedomain.model.failure import Failed, Failure, again
from onedomain.node.store.bodies import Place, Segments
from onedomain.node.store.schema import open_for_writing
from onedomain.node.store.values import Change

T = TypeVar("T")

MAX_BATCH = 256

_OF_THE_WORK = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT)
"""Errors that a statement brings upon itself; they undo the statement only."""

DISK_FULL = again(452, "4.3.1", "insufficient system storage", "disk full")


def poisoned(reason: str) -> Failure:
    return again(451, "4.3.0", "storage failed, an operator has been told", reason)


@dataclass(frozen=True, slots=True)
class SmallBody:
    """The bytes of a body below `bodies.LARGE`, and their SHA-256."""

    data: bytes = field(repr=False)
    digest: bytes


Body = SmallBody | Place
"""What a work brings along: bytes to append to the shared segment, or a large body that is on disk already."""


class Transaction:
    """What a work may touch: the connection, the places of its bodies; and what it tells.

    `number` is that of the commit that this will be. `changes` are published after it. `left` are segments that lost
    a body: the empty ones are removed then.
    """

    def __init__(self, db: sqlite3.Connection, places: Sequence[Place], number: int | None = None) -> None:
        self.db = db
        self.places = places
        self.number = next_commit(db) if number is None else number
        self.changes: list[Change] = []
        self.left: set[int] = set()


def next_commit(db: sqlite3.Connection) -> int:
    """Inside a transaction that writes. The numbers grow in the order of the commits, whoever makes them."""
    (number,) = db.execute("UPDATE node SET change = change + 1 RETURNING change").fetchone()
    return int(number)


@dataclass(slots=True)
class _Work:
    run: Callable[[Transaction], Any]
    bodies: Sequence[Body]
    rejects: bool
    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    changes: Sequence[Change] = ()


class Writer:
    def __init__(
        self,
        directory: Path,
        segments: Segments,
        publish: Callable[[int, Sequence[Change]], None],
        alarm: Callable[[str], None],
    ) -> None:
        """Both are called in the loop: `publish` after each commit, with its number; `alarm` with the reason when
        storage has failed."""
        self._db = open_for_writing(directory)
        self._segments = segments
        self._publish = publish
        self._alarm = alarm
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="node-writer", daemon=True)
        self._poison: Failure | None = None
        self._closed = False
        self.batches = 0
        self.works = 0

    @property
    def db(self) -> sqlite3.Connection:
        """For what has to be read or mended before `start`."""
        return self._db

    def start(self) -> None:
        self._thread.start()

    async def run(self, work: Callable[[Transaction], T], bodies: Sequence[Body] = (), *, rejects: bool = True) -> T:
        """Run `work` in the writer's thread; its result once it is durable. Raises Failed, and whatever `work` raises.

        A work that never raises on purpose says so by `rejects`, and is spared its savepoint. A caller that is
        cancelled stops waiting; the work is done all the same.
        """
        if self._poison is not None:
            raise Failed(self._poison)
        if self._closed:
            raise Failed(again(421, "4.3.2", "shutting down", "store closed"))
        answer: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Work(work, bodies, rejects, answer))
        return await answer

    async def close(self) -> None:
        """Finish what is queued, then end."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._db.close()

    def _serve(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch, last = self._gather(first)
            number = self._do(batch)
            self.batches += 1
            self.works += len(batch)
            self._loop.call_soon_threadsafe(self._answer, number, batch)
            if last:
                return

    def _gather(self, first: _Work) -> tuple[list[_Work], bool]:
        batch = [first]
        while len(batch) < MAX_BATCH and not self._queue.empty():
            work = self._queue.get()
            if work is None:
                return batch, True
            batch.append(work)
        return batch, False

    def _do(self, batch: Sequence[_Work]) -> int:
        """The commit's number; 0 where there was none, and every work has its error."""
        failure = self._poison
        if failure is None:
            try:
                return self._commit(batch)
            except OSError as error:
                failure = self._poison = poisoned(f"bodies: {error}")
            except sqlite3.Error as error:
                failure = self._judge(error)
            except Exception as error:  # noqa: BLE001  a defect in a work: the thread has to live on
                failure = again(451, "4.3.0", "internal error", f"work failed: {error!r}")
            self._roll_back()
        for work in batch:
            work.error = Failed(failure)
        return 0

    def _commit(self, batch: Sequence[_Work]) -> int:
        ready: list[tuple[_Work, list[Place]]] = []
        for work in batch:
            try:
                ready.append((work, [self._place(body) for body in work.bodies]))
            except OSError as error:
                work.error = Failed(again(452, "4.3.1", DISK_FULL.text, f"append: {error}"))
        self._segments.sync()
        db = self._db
        left: set[int] = set()
        db.execute("BEGIN IMMEDIATE")
        number = next_commit(db)
        for work, places in ready:
            transaction = Transaction(db, places, number)
            if work.rejects:
                self._try(work, transaction)
            else:
                work.result = work.run(transaction)
            if work.error is None:
                work.changes = transaction.changes
                left |= transaction.left
        db.execute("COMMIT")
        self._remove_empty(left)
        return number

    def _try(self, work: _Work, transaction: Transaction) -> None:
        db = transaction.db
        db.execute("SAVEPOINT work")
        try:
            work.result = work.run(transaction)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and _code(error) not in _OF_THE_WORK:
                raise  # the disk's fault: SQLite may have undone the whole transaction
            db.execute("ROLLBACK TO work")
            work.error = error
        db.execute("RELEASE work")

    def _remove_empty(self, left: set[int]) -> None:
        """Nothing that is appended waits for its row here, so a segment without rows stays without."""
        for segment in left - {self._segments.shared}:
            if self._db.execute("SELECT 1 FROM body WHERE segment = ?", (segment,)).fetchone() is None:
                self._segments.remove(segment)

    def _place(self, body: Body) -> Place:
        return body if isinstance(body, Place) else self._segments.append(body.data, body.digest)

    def _judge(self, error: sqlite3.Error) -> Failure:
        """A full disk and a long lock pass; after anything else the file can't be trusted before it is checked."""
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            return DISK_FULL
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return again(451, "4.3.0", "storage is busy", f"sqlite: {error}")
        self._poison = poisoned(f"sqlite: {error}")
        return self._poison

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error as error:
                self._poison = poisoned(f"sqlite: rollback: {error}")

    def _answer(self, number: int, batch: Sequence[_Work]) -> None:
        for work in batch:
            if work.error is None and work.changes:
                self._publish(number, work.changes)
        for work in batch:
            if work.answer.done():
                continue
            if work.error is not None:
                work.answer.set_exception(work.error)
            else:
                work.answer.set_result(work.result)
        if self._poison is not None:
            self._alarm(self._poison.reason)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF
