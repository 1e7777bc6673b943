"""The spool of one worker: messages accepted and not yet delivered, durable.

Two journals in one directory, which is named by the worker's slot, so that a restart finds it: `log` holds the
messages, `state` what happened to them. One process owns them, by a lock beside the directory.

Knows what has to be durable before what. Does not know who delivers, when, or to whom.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from onedomain.model.failure import Failed, Failure, again
from onedomain.model.message import Body, Outcome
from onedomain.model.ports import Clock, Nonce, Trace
from onedomain.queue import crash, record
from onedomain.queue.adopt import clear, is_adopted, take_over, unnest
from onedomain.queue.body import BytesBody, FreshBodies, StoredBody
from onedomain.queue.draft import Draft
from onedomain.queue.entry import Entry
from onedomain.queue.ids import Ids
from onedomain.queue.limits import SpoolLimits as SpoolLimits  # part of this interface
from onedomain.queue.notes import Notes
from onedomain.queue.replay import Replay, snapshot, snapshots
from onedomain.queue.shelf import Shelf
from onedomain.queue.tidy import Tidier, relocate
from onedomain.store.disk import Disk, Lock
from onedomain.store.journal import FULL_FAILURE, Journal
from onedomain.store.segment import Damage, Position

MESSAGES = "log"
STATES = "state"
ROOM_CHECKED_EVERY = 1.0


T = TypeVar("T")


def own_threads(count: int) -> Executor:
    return ThreadPoolExecutor(count, thread_name_prefix="spool")


class Spool:
    """`entries` are the messages not finished yet, by id. `arrived` is called with each that gets in, once it is
    durable.

    `damage` is what replay found; it has been reported to the trace, too.
    """

    def __init__(
        self,
        directory: str,
        *,
        disk: Disk,
        clock: Clock,
        nonce: Nonce,
        trace: Trace,
        limits: SpoolLimits,
        crash_points: crash.CrashPoints,
        threads: Callable[[int], Executor],
    ) -> None:
        self.directory = directory
        self.entries: dict[str, Entry] = {}
        self.damage: list[Damage] = []
        self.arrived: Callable[[Entry], None] = lambda entry: None
        self.inline_limit = limits.inline
        self.chunk_size = limits.chunk
        self._disk = disk
        self._clock = clock
        self._nonce = nonce
        self._trace = trace
        self._limits = limits
        self._crash = crash_points
        self._ids = Ids(clock, nonce)
        self._syncing = threads(1)
        self._noting = threads(1)
        self._reading = threads(2)
        self._messages = self._journal(directory, MESSAGES, self._syncing)
        self._notes = Notes(self._journal(directory, STATES, self._noting), disk, directory, self._flushed)
        self._shelf = Shelf()
        self._fresh = FreshBodies(limits.fresh)
        self._tidier = Tidier(
            entries=self.entries,
            messages=self._messages,
            notes=self._notes,
            shelf=self._shelf,
            read=self.read,
            snapshots=self.snapshots,
            clock=clock,
            trace=trace,
            crash_points=crash_points,
        )
        self._in_memory = 0
        self._room_checked = float("-inf")
        self._has_room = True
        self._lock: Lock | None = None

    @classmethod
    async def open(
        cls,
        directory: str,
        *,
        disk: Disk,
        clock: Clock,
        nonce: Nonce,
        trace: Trace,
        limits: SpoolLimits | None = None,
        crash_points: crash.CrashPoints | None = None,
        threads: Callable[[int], Executor] = own_threads,
    ) -> Spool:
        """Replays what is there. Raises BlockingIOError if another process owns it, OSError if it can't be read."""
        spool = cls(
            directory,
            disk=disk,
            clock=clock,
            nonce=nonce,
            trace=trace,
            limits=limits or SpoolLimits(),
            crash_points=crash_points or crash.NoCrash(),
            threads=threads,
        )
        try:
            await spool._start()
        except BaseException:
            spool._release()
            raise
        return spool

    async def _start(self) -> None:
        disk = self._disk
        disk.make_directory(self.directory)
        self._lock = disk.lock(self.directory + ".lock")
        found = await self._in_thread(self._replay)
        for entry in found.entries.values():
            self.entries[entry.id] = entry
            self._shelf.put(entry)
        for id, place in found.places:
            self._shelf.found(id, place)
        self._report(found.damage)
        for event in found.amends:
            self._notes.note(event)
        try:
            await self.adopt()
        except (Failed, OSError) as error:
            # Our own messages can be delivered all the same; on a full disk that is what makes room.
            self._trace.note("spool not adopted", directory=self.directory, reason=str(error))
        self._tidier.run()

    def _replay(self) -> Replay:
        found = Replay(self._messages, self._notes, self._clock)
        found.run()
        if self._disk.free(self.directory) > self._limits.room:
            self._notes.keep_reserve()
        return found

    # -- messages in

    def draft(self) -> Draft:
        """Raises Failed (452 4.3.1): poisoned, full, or too many messages."""
        self._check()
        return Draft(self, self._ids.next())

    def draft_named(self, id: str) -> Draft:
        """A message whose id is given: one of our own making, that a crash must not double."""
        self._check()
        return Draft(self, id)

    @property
    def trouble(self) -> Failure | None:
        """Why no mail is accepted until a restart, or None."""
        return self._messages.poison or self._notes.trouble

    def _check(self) -> None:
        if trouble := self.trouble:
            raise Failed(trouble)
        if len(self.entries) >= self._limits.messages or self.size >= self._limits.size:
            raise Failed(again(452, "4.3.1", "Queue is full, try again later"))
        now = self._clock.monotonic()
        if now - self._room_checked >= ROOM_CHECKED_EVERY:
            self._room_checked = now
            self._has_room = self._disk.free(self.directory) > self._limits.room
        if not self._has_room:
            raise Failed(replace(FULL_FAILURE, reason="less room on the disk than is to stay free"))

    def held(self, change: int) -> bool:
        self._in_memory += change
        return self._in_memory > self._limits.in_memory

    def now(self) -> float:
        return self._clock.time()

    def write_chunk(self, *buffers: bytes) -> Position:
        self._check()
        place = self._messages.append(*buffers)
        self._shelf.pin(place)
        return place

    async def sync(self) -> None:
        await self._messages.commit()

    def give_up(self, chunks: list[Position]) -> None:
        self._shelf.unpin(chunks)

    async def accept(self, head: record.Head, meta: bytes, buffers: list[bytes], body: bytes | None) -> Entry:
        self._check()
        entry = Entry(head, meta, self._messages.append(*buffers))
        self._shelf.put(entry)
        self._crash.reach(crash.AFTER_WRITE)
        try:
            await self._messages.commit()
        except Failed:
            self._shelf.take(entry)
            raise
        except asyncio.CancelledError:
            # The session went away while the disk was busy. A restart would find the message, so it is accepted.
            self._enter(entry, body)
            raise
        self._crash.reach(crash.AFTER_SYNC)
        self._enter(entry, body)
        return entry

    def _enter(self, entry: Entry, body: bytes | None) -> None:
        self.entries[entry.id] = entry
        if body is not None:
            self._fresh.put(entry.id, body)
        self.arrived(entry)

    # -- reading

    def body(self, entry: Entry) -> Body:
        """To be read only while the entry is busy, or nothing else runs."""
        fresh = self._fresh.get(entry.id)
        return BytesBody(fresh) if fresh is not None else StoredBody(entry, self.read)

    async def read(self, place: Position) -> bytes | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, self._messages.read, place)
        except OSError as error:
            self._trace.note("spool unreadable", segment=place.segment, offset=place.offset, reason=str(error))
            return None

    # -- what happens to messages

    async def attempt(self, entry: Entry, indexes: tuple[int, ...], server: str) -> None:
        """An attempt begins: durable when this returns. Raises Failed: then it must not begin."""
        await self._notes.commit(record.pack_attempt(entry.id, indexes, server, self._clock.time()))
        entry.attempt(indexes, server)
        self._crash.reach(crash.AFTER_ATTEMPT)

    def outcomes(self, entry: Entry, outcomes: Mapping[int, Outcome]) -> None:
        """What came of it: noted now, durable within FLUSH_SECONDS. Finishes the entry if nothing is left to do."""
        for index, outcome in outcomes.items():
            entry.outcome(index, outcome)
        self._notes.note(record.pack_outcomes(entry.id, outcomes, self._clock.time()))
        self._crash.reach(crash.AFTER_RECORD)
        if entry.finished:
            self._leave(entry)

    def hold(self, entry: Entry, held: bool) -> None:
        entry.held = held
        self._notes.note(record.pack_hold(entry.id, held))

    def warned(self, entry: Entry) -> None:
        """Its sender has been told that it is late."""
        entry.warned = True
        self._notes.note(record.pack_warned(entry.id))

    def remove(self, entry: Entry) -> None:
        """Deletes it, whatever is left to do."""
        self._notes.note(record.pack_removed([entry.id]))
        self._leave(entry)

    def _leave(self, entry: Entry) -> None:
        if self.entries.pop(entry.id, None) is not None:
            self._fresh.forget(entry.id)
            self._shelf.take(entry)

    async def settle(self) -> None:
        """Returns when all that was noted is durable. Raises Failed."""
        await self._notes.commit()

    # -- housekeeping

    def _flushed(self) -> None:
        self._tidier.run()

    async def tidy(self) -> None:
        """Gives back what room there is to be had; returns when that is done."""
        await self.settle()
        self._tidier.run()
        await self._tidier.wait()

    async def snapshots(self) -> AsyncIterator[bytes]:
        """Events that say all that is known, for a checkpoint of the state journal."""
        for number, id in enumerate(list(self.entries)):
            entry = self.entries.get(id)
            if entry is not None and (entry.progress or entry.held or entry.warned):
                yield snapshot(entry)
            if number % 500 == 499:
                await asyncio.sleep(0)
        # Asked for last: what finishes from now on is noted behind.
        finished = [id for id in self._shelf.ids() if id not in self.entries]
        for start in range(0, len(finished), 1000):
            yield record.pack_removed(finished[start : start + 1000])

    async def adopt(self, directory: str = "") -> int:
        """Takes over the spool of a slot that is no more, and whatever could not be finished before -> number of
        messages. Its process must have ended.

        Raises BlockingIOError if it has not, Failed and OSError if it can't be finished now. What has been copied by
        then is served; nothing is tidied away until another call, or opening this spool again, has done the rest.
        """
        if directory:
            take_over(self._disk, directory, self.directory)
        count = 0
        while names := [name for name in self._disk.list_directory(self.directory) if is_adopted(name)]:
            await self._tidier.pause()
            count += await self._bring_in(f"{self.directory}/{names[0]}")
        self._tidier.resume()
        return count

    async def _bring_in(self, directory: str) -> int:
        await self._in_thread(lambda: unnest(self._disk, directory, self.directory))
        found = await self._in_thread(lambda: self._read_adopted(directory))
        brought: list[Entry] = []
        try:
            self._report(found.damage)
            strangers = [entry for entry in found.entries.values() if not self._shelf.knows(entry.id)]
            # What is known of them is durable before they are, else a crash between would forget their attempts.
            await self._notes.commit(*snapshots(strangers))
            try:
                for entry in strangers:
                    if await self._copy(found.messages, entry):
                        brought.append(entry)
            finally:
                # Also where room ran out half-way: the shelf knows these now, so no later try would bring them in.
                await self._messages.commit()
                for entry in brought:
                    self.entries[entry.id] = entry
            self._crash.reach(crash.IN_ADOPTION)
        finally:
            await found.close()
            for entry in brought:
                if entry.id in self.entries:
                    self.arrived(entry)
        keep = len(brought) < len(strangers)
        await self._in_thread(lambda: clear(self._disk, directory, self.directory, keep=keep))
        self._trace.note("spool adopted", directory=directory, messages=len(brought), unreadable=keep)
        return len(brought)

    def _read_adopted(self, directory: str) -> Replay:
        messages = self._journal(directory, MESSAGES, self._syncing)
        notes = Notes(self._journal(directory, STATES, self._noting), self._disk, directory, lambda: None)
        found = Replay(messages, notes, self._clock)
        found.run()
        return found

    async def _copy(self, source: Journal, entry: Entry) -> bool:
        """Appends the entry's records, read from `source`, to our own journal. False if they can't be read."""

        async def read(place: Position) -> bytes | None:
            return await self._in_thread(lambda: source.read(place))

        copied = await relocate(entry, read, self._messages)
        if copied is None:
            return False
        meta, body = copied
        entry.moved(meta, self._messages.append(record.message_head(meta), body))
        self._shelf.put(entry)
        return True

    def _report(self, damage: Iterable[Damage]) -> None:
        for one in damage:
            self.damage.append(one)
            self._trace.note(
                "spool damaged" if not one.tail else "spool tail cut off",
                segment=one.segment, offset=one.offset, size=one.length, reason=one.reason,
            )

    def _journal(self, directory: str, name: str, threads: Executor) -> Journal:
        return Journal(
            self._disk, directory, name, nonce=self._nonce, threads=threads, segment_size=self._limits.segment
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    # -- figures

    @property
    def size(self) -> int:
        """Bytes of messages waiting."""
        return self._shelf.live_bytes

    @property
    def oldest(self) -> float | None:
        """When the oldest message arrived, in seconds since 1970."""
        return min((entry.received for entry in self.entries.values()), default=None)

    async def close(self) -> None:
        """Syncs what was noted and gives the directory free. Raises Failed if that could not be synced."""
        try:
            await self._tidier.pause()
            try:
                await self._notes.close()
            finally:
                await self._messages.close()
        finally:
            self._release()

    def _release(self) -> None:
        for threads in (self._syncing, self._noting, self._reading):
            threads.shutdown(wait=False)
        if self._lock is not None:
            self._lock.release()
            self._lock = None
