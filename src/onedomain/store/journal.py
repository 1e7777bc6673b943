"""An append-only journal in segments, durable by group commit.

`append` puts a record into the page cache and says where; `commit` returns when everything appended before it survives
power loss. One fdatasync is in flight at a time, in a thread; whatever is appended meanwhile goes with the next.

After a failed fdatasync Linux may call pages clean that never reached the disk, so its next success means nothing: the
journal is poisoned, everything that waits is refused, and nothing more is accepted until somebody opens it anew.
A journal that is opened never appends to an old segment: what a crash tore off can't be continued by mistake.

Knows records and durability. Does not know what is in the records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial

from onedomain.model.failure import Failed, Failure, again
from onedomain.model.ports import Nonce
from onedomain.store.disk import FULL, Disk
from onedomain.store.segment import (
    HEADER_SIZE,
    KEY_SIZE,
    MAX_RECORD,
    RECORD_HEADER_SIZE,
    BadHeader,
    Damage,
    Position,
    Sealer,
    Segment,
    pack_header,
    read_record,
    scan,
    set_aside,
    unpack_header,
)

Told = Callable[[Failure | None], None]
"""None: it is durable. Else why that is not known."""

SEGMENT_SIZE = 64 << 20
GATHER = 4
"""Turns of the loop that a sync waits at most, as long as each brings more to be synced."""
PATIENCE = 0.003
"""Seconds that a sync waits at most for as many as came lately: it costs as much for one message as for ten."""

COMPANY = 3
"""Fewer than so many are not waited for."""

SUFFIX = ".segment"

FULL_FAILURE = again(452, "4.3.1", "Insufficient system storage, try again later")
CLOSED = again(452, "4.3.1", "Storage failure, try again later", "journal closed")


class Journal:
    """Segments `<name>-<number>.segment` of one directory, which nobody else may have open.

    `threads` runs what waits for the device; it has one thread, so that no file is closed while it is synced. All
    methods belong to one event loop.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        name: str,
        *,
        nonce: Nonce,
        threads: Executor,
        segment_size: int = SEGMENT_SIZE,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._name = name
        self._nonce = nonce
        self._threads = threads
        self._segment_size = segment_size
        self._segments: dict[int, Segment] = {}
        self._current: Segment | None = None
        self._dirty: list[Segment] = []
        self._waiting: list[Told] = []
        self._syncing = False
        self._rested = asyncio.Event()  # set whenever `_syncing` ends
        self._expected = 0  # how many may come while they wait for each other: the last lot, and who came behind it
        self._patience: asyncio.TimerHandle | None = None
        self._gathered = 0  # how many waited when a sync was last about to begin
        self.poison: Failure | None = None  # what went wrong for good
        self._closed = False
        self._next_number = 1
        self.syncs = 0

    # -- opening

    def open(self) -> list[Damage]:
        """Opens what is there; blocks. Segments without a readable header are reported and otherwise left alone.

        What is read is made durable first: after a crash of the process alone it may live in the page cache only.
        Raises OSError.
        """
        unreadable = []
        prefix = self._name + "-"
        for name in self._disk.list_directory(self._directory):
            digits = name.removeprefix(prefix).removesuffix(SUFFIX)
            if name != f"{prefix}{digits}{SUFFIX}" or not (digits.isascii() and digits.isdigit()):
                continue
            number = int(digits)
            self._next_number = max(self._next_number, number + 1)
            file = self._disk.open(self._path(name))
            try:
                found, key = unpack_header(file.read(0, HEADER_SIZE))
                if found != number:
                    raise BadHeader(f"header is that of segment {found}")
            except BadHeader as error:
                size = file.size()
                unreadable.append(Damage(number, 0, size, str(error), tail=size <= HEADER_SIZE))
                file.close()
                continue
            file.sync()
            self._segments[number] = Segment(name, file, Sealer(number, key), file.size(), entered=True)
        if self._segments:
            self._disk.sync_directory(self._directory)
        return unreadable

    def replay(self) -> Iterator[tuple[Position, bytes] | Damage]:
        """Every record in the order it was appended, and what was damaged between. Blocks; OSError."""
        for number in sorted(self._segments):
            segment = self._segments[number]
            for item in scan(segment.file, segment.sealer):
                if isinstance(item, Damage):
                    set_aside(self._disk, self._directory, segment, item)
                yield item

    # -- writing

    @property
    def ended(self) -> Failure | None:
        """Why nothing is accepted any more: poisoned, or closed."""
        return self.poison or (CLOSED if self._closed else None)

    def append(self, *buffers: bytes) -> Position:
        """Not durable before the next `commit`. Raises Failed: disk full (nothing was written), or `ended`."""
        if (ended := self.ended) is not None:
            raise Failed(ended)
        length = sum(map(len, buffers))
        if length > MAX_RECORD:
            raise ValueError(f"record of {length} bytes")
        segment = self._segment_for(RECORD_HEADER_SIZE + length)
        offset = segment.end
        header = segment.sealer.header(offset, length, buffers)
        self._write(segment, [header, *buffers])
        return Position(segment.number, offset, length)

    def _segment_for(self, size: int) -> Segment:
        segment = self._current
        if segment is not None and segment.end + size <= self._segment_size:
            return segment
        number = self._next_number
        name = f"{self._name}-{number:010d}{SUFFIX}"
        key = self._nonce.token(KEY_SIZE)
        try:
            file = self._disk.open(self._path(name), create=True)
        except OSError as error:
            raise Failed(self._refusal(error)) from error
        segment = Segment(name, file, Sealer(number, key), 0, entered=False)
        try:
            self._write(segment, [pack_header(number, key)])
        except Failed:
            # a disk that stays full must not fill with empty files as well
            self._dirty = [other for other in self._dirty if other is not segment]
            file.close()
            try:
                self._disk.unlink(self._path(name))
            except OSError as error:
                raise Failed(self._refusal(error)) from error
            raise
        self._next_number += 1
        self._segments[number] = segment
        self._current = segment
        return segment

    def _write(self, segment: Segment, buffers: list[bytes]) -> None:
        try:
            segment.file.write(buffers, segment.end)
        except OSError as error:
            failure = self._refusal(error)
            try:
                segment.file.truncate(segment.end)
            except OSError as worse:
                failure = self.poison = _poisoned(f"cutting off a failed write: {worse}")
            raise Failed(failure) from error
        segment.end += sum(map(len, buffers))
        if segment not in self._dirty:
            self._dirty.append(segment)

    def _refusal(self, error: OSError) -> Failure:
        if error.errno in FULL:
            return again(FULL_FAILURE.code, FULL_FAILURE.enhanced, FULL_FAILURE.text, str(error))
        self.poison = _poisoned(str(error))
        return self.poison

    async def commit(self) -> None:
        """Returns when everything appended so far is durable; raises Failed if that is not known."""
        if not self.poison and not self._dirty and not self._syncing:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.when_durable(partial(_settle, done))
        await done

    def when_durable(self, told: Told) -> None:
        """`commit` for those who have no task: `told` is called once, maybe at once."""
        if self.poison or (not self._dirty and not self._syncing):
            told(self.poison)
            return
        self._waiting.append(told)
        if not self._syncing:
            self._syncing = True
            self._gathered = 1
            asyncio.get_running_loop().call_soon(self._gather, GATHER)
        elif self._patience is not None and len(self._waiting) >= self._expected:
            self._start()

    def _gather(self, turns: int) -> None:
        """Whoever else is ready in this turn of the loop comes along; who is alone does not wait for more of them."""
        if len(self._waiting) < self._expected >= COMPANY:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE, self._start)
        elif turns and len(self._waiting) > self._gathered:
            self._gathered = len(self._waiting)
            asyncio.get_running_loop().call_soon(self._gather, turns - 1)
        else:
            self._start()

    def _start(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._expected = len(self._waiting)
        waiting, self._waiting = self._waiting, []
        dirty, self._dirty = self._dirty, []
        marks = [(segment, segment.end) for segment in dirty]
        # Not loop.run_in_executor: a second future, and a turn of the loop to copy the first one into it.
        loop = asyncio.get_running_loop()
        work = self._threads.submit(self._sync, dirty)
        work.add_done_callback(partial(_tell, loop, partial(self._synced, waiting, marks)))

    def _sync(self, segments: list[Segment]) -> None:
        """In the thread."""
        for segment in segments:
            segment.file.sync()
        if not all(segment.entered for segment in segments):
            self._disk.sync_directory(self._directory)

    def _synced(self, waiting: list[Told], marks: list[tuple[Segment, int]], work: Future[None]) -> None:
        self.syncs += 1
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        if error is not None:
            self._fail(waiting, [segment for segment, _ in marks], error)
            return
        for segment, end in marks:
            segment.durable = end
            segment.entered = True
        if self._waiting:
            self._expected += len(self._waiting)
            self._gathered = 1
            asyncio.get_running_loop().call_soon(self._gather, GATHER)
        else:
            self._rest()
        self._answer(waiting, None)

    def _rest(self) -> None:
        self._syncing = False
        self._rested.set()

    def _fail(self, waiting: list[Told], segments: list[Segment], error: BaseException) -> None:
        poison = self.poison = _poisoned(f"sync: {error!r}")
        waiting += self._waiting
        self._waiting = []
        segments += [segment for segment in self._dirty if segment not in segments]

        def tell(cut: asyncio.Future[None]) -> None:
            if not cut.cancelled():
                cut.exception()
            self._rest()
            self._answer(waiting, poison)

        asyncio.get_running_loop().run_in_executor(self._threads, self._cut_back, segments).add_done_callback(tell)

    @staticmethod
    def _answer(waiting: list[Told], failure: Failure | None) -> None:
        for told in waiting:
            try:
                told(failure)
            except Exception as error:  # noqa: BLE001  one's bug must not leave the others without an answer
                asyncio.get_running_loop().call_exception_handler({"message": "told of a sync", "exception": error})

    def _cut_back(self, segments: list[Segment]) -> None:
        """In the thread. Those who wait are about to be told no: no replay should find their records."""
        for segment in segments:
            try:
                segment.file.truncate(segment.durable)
            except OSError:
                continue  # the poison is reported; a record too many is a message twice, not a message lost

    # -- reading and tidying

    def read(self, position: Position) -> bytes | None:
        """The payload, or None if it is damaged or its segment has gone. May block for the device; OSError."""
        segment = self._segments.get(position.segment)
        if segment is None:
            return None
        return read_record(segment.file, segment.sealer, position.offset, position.length)

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes of each segment by number, oldest first."""
        return {number: self._segments[number].size for number in sorted(self._segments)}

    @property
    def current(self) -> int:
        """Number of the segment that is written to; 0 if none is."""
        return self._current.number if self._current else 0

    def rotate(self) -> None:
        """The next record begins a new segment."""
        self._current = None

    async def drop(self, numbers: Iterable[int]) -> None:
        """Removes segments whose records are wanted no more; returns when they are gone for good. Raises OSError."""
        numbers = list(numbers)
        if self.current in numbers:
            self.rotate()  # what comes from now on is wanted
        await self.commit()
        gone = [self._segments.pop(number) for number in numbers if number in self._segments]
        if gone:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._unlink, gone)

    def _unlink(self, segments: list[Segment]) -> None:
        for segment in segments:
            segment.file.close()
            self._disk.unlink(self._path(segment.name))
        self._disk.sync_directory(self._directory)

    async def close(self) -> None:
        """Commits what is left and closes the files. Raises Failed like `commit`, after closing."""
        self._closed = True
        try:
            if not self.poison:
                await self.commit()
        finally:
            # poisoned or cancelled: a sync may be under way all the same, and its failure cuts these files back
            while self._syncing:
                self._rested.clear()
                await self._rested.wait()
            segments = list(self._segments.values())
            self._segments.clear()
            self._current = None
            await asyncio.get_running_loop().run_in_executor(self._threads, self._close, segments)

    def _close(self, segments: list[Segment]) -> None:
        """In the thread, behind whatever it still does with them."""
        for segment in segments:
            segment.file.close()

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def _settle(done: asyncio.Future[None], failure: Failure | None) -> None:
    if done.done():
        return  # who waited was cancelled
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(Failed(failure))


def _tell(loop: asyncio.AbstractEventLoop, done: Callable[[Future[None]], None], work: Future[None]) -> None:
    """In the thread."""
    with suppress(RuntimeError):  # the loop is closed, and nobody waits
        loop.call_soon_threadsafe(done, work)


def _poisoned(reason: str) -> Failure:
    return again(452, "4.3.1", "Storage failure, try again later", f"journal poisoned: {reason}")
