"""The spool of one worker: messages accepted and not yet delivered, durable.

Three journals in one directory, which is named by the worker's slot, so that a restart finds it: `log` holds the
messages, `aside` those that the safety net has held for a while, `state` what happened to them all. One process owns
them, by a lock beside the directory.

Knows what has to be durable before what. How a message gets in is accepting.py's. Does not know who delivers, when, or
to whom.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from onedomain.model.failure import Failed, Failure
from onedomain.model.message import Body, Outcome
from onedomain.model.ports import Clock, Nonce, Trace
from onedomain.queue import crash, record
from onedomain.queue.accepting import Accepting
from onedomain.queue.adopt import Adoption, is_adopted, take_over
from onedomain.queue.aside import ASIDE, Aside
from onedomain.queue.body import BytesBody, FreshBodies, StoredBody
from onedomain.queue.draft import Draft
from onedomain.queue.entry import Entry
from onedomain.queue.ids import Ids
from onedomain.queue.limits import SpoolLimits as SpoolLimits  # part of this interface
from onedomain.queue.notes import STATES, Notes
from onedomain.queue.replay import MESSAGES, Replay, snapshot
from onedomain.queue.shelf import Shelf
from onedomain.queue.tidy import Tidier
from onedomain.store.disk import Disk, Lock
from onedomain.store.journal import Journal
from onedomain.store.segment import Damage, Position
from onedomain.store.threads import OneThread

NO_EPOCHS: Mapping[int, int] = MappingProxyType({})
T = TypeVar("T")


def own_threads(count: int) -> Executor:
    return OneThread("spool") if count == 1 else ThreadPoolExecutor(count, thread_name_prefix="spool")


class Spool:
    """`entries` are the messages not finished yet, by id; `netted` those that are, and are held by the safety net.
    `arrived` is called with each that gets in, once it is durable; `caught` with each that the net gets to hold.

    `damage` is what replay found; it has been reported to the trace, too.
    """

    def __init__(self, directory: str, *, disk: Disk, clock: Clock, nonce: Nonce, trace: Trace, limits: SpoolLimits,
                 crash_points: crash.CrashPoints, threads: Callable[[int], Executor]) -> None:
        self.directory = directory
        self.entries: dict[str, Entry] = {}
        self.damage: list[Damage] = []
        self.arrived: Callable[[Entry], None] = lambda entry: None
        self.caught: Callable[[Entry], None] = lambda entry: None
        self._disk = disk
        self._clock = clock
        self._nonce = nonce
        self._trace = trace
        self._limits = limits
        self._crash = crash_points
        self._ids = Ids(clock, nonce)
        self._syncing, self._moving = threads(1), threads(1)
        self._noting = threads(1)
        self._reading = threads(2)
        self._messages = self._journal(directory, MESSAGES, self._syncing)
        self._notes = Notes(self._journal(directory, STATES, self._noting), disk, directory, self._flushed)
        self._shelf = Shelf()
        self._fresh = FreshBodies(limits.fresh)
        self._aside = Aside(self._journal(directory, ASIDE, self._moving))
        self._in_log: dict[str, Entry] = {}  # finished and netted
        self.netted: MutableMapping[str, Entry] = ChainMap(self._in_log, self._aside.entries)
        self._all = ChainMap(self.entries, self._in_log, self._aside.entries)
        tidier = partial(Tidier, entries=self._all, notes=self._notes, clock=clock, trace=trace,
                         crash_points=crash_points)
        self._tidiers = (
            tidier(messages=self._messages, aside=False, shelf=self._shelf, read=self.read, snapshots=self.snapshots),
            tidier(messages=self._aside.journal, aside=True, shelf=self._aside.shelf, read=self.read_aside,
                   snapshots=None))
        self._adoption = Adoption(
            disk=disk, directory=directory, messages=self._messages, aside=self._aside, notes=self._notes,
            shelf=self._shelf, threads=self._reading, journal=partial(self._journal, threads=self._syncing),
            report=self._report, clock=clock, trace=trace, crash_points=crash_points)
        self.accepting = Accepting(
            self._messages, self._shelf, limits, clock=clock, crash_points=crash_points, trouble=lambda: self.trouble,
            is_full=self._is_full, free=partial(disk.free, directory), entered=self._enter)
        self._oldest: Entry | None = None
        self._lock: Lock | None = None

    @classmethod
    async def open(cls, directory: str, *, disk: Disk, clock: Clock, nonce: Nonce, trace: Trace,
                   limits: SpoolLimits | None = None, crash_points: crash.CrashPoints | None = None,
                   threads: Callable[[int], Executor] = own_threads) -> Spool:
        """Replays what is there. Raises BlockingIOError if another process owns it, OSError if it can't be read."""
        spool = cls(directory, disk=disk, clock=clock, nonce=nonce, trace=trace, limits=limits or SpoolLimits(),
                    crash_points=crash_points or crash.NoCrash(), threads=threads)
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
            entry.in_net = entry.finished and not entry.aside
            self._shelf_of(entry).put(entry)
            self._place(entry)
        for id, place, aside in found.places:
            (self._aside.shelf if aside else self._shelf).found(id, place)
        self._report(found.damage)
        for event in found.amends:
            self._notes.note(event)
        try:
            await self.adopt()
        except (Failed, OSError) as error:
            # Our own messages can be delivered all the same; on a full disk that is what makes room.
            self._trace.note("spool not adopted", directory=self.directory, reason=str(error))
        self._flushed()

    def _replay(self) -> Replay:
        found = Replay(self._messages, self._aside.journal, self._notes, self._clock)
        found.run()
        if self._disk.free(self.directory) > self._limits.room:
            self._notes.keep_reserve()
        return found

    # -- messages in

    def draft(self) -> Draft:
        """Raises Failed (452 4.3.1): poisoned, full, or too many messages."""
        self.accepting.check()
        return Draft(self.accepting, self._ids.next())

    def draft_named(self, id: str) -> Draft:
        """A message whose id is given: one of our own making, that a crash must not double."""
        self.accepting.check()
        return Draft(self.accepting, id)

    @property
    def trouble(self) -> Failure | None:
        """Why no mail is accepted until a restart, or None."""
        return self._messages.poison or self._notes.trouble or self._aside.journal.poison

    def _is_full(self) -> bool:
        return len(self.entries) >= self._limits.messages or self.size >= self._limits.size

    def _enter(self, entry: Entry, body: bytes | None) -> None:
        self.entries[entry.id] = entry
        if body is not None:
            self._fresh.put(entry.id, body)
        self.arrived(entry)

    # -- reading

    def body(self, entry: Entry) -> Body:
        """To be read only while the entry is busy, or nothing else runs."""
        fresh = self._fresh.get(entry.id)
        if fresh is not None:
            return BytesBody(fresh)
        # asked anew at each read: it may be set aside meanwhile
        return StoredBody(entry, lambda place: (self.read_aside if entry.aside else self.read)(place))

    def cool(self, entry: Entry) -> None:
        """Its body will not be wanted soon: the memory is for those that will."""
        self._fresh.forget(entry.id)

    async def read(self, place: Position) -> bytes | None:
        return await self._read(self._messages, place)

    async def read_aside(self, place: Position) -> bytes | None:
        return await self._read(self._aside.journal, place)

    async def _read(self, journal: Journal, place: Position) -> bytes | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, journal.read, place)
        except OSError as error:
            self._trace.note("spool unreadable", segment=place.segment, offset=place.offset, reason=str(error))
            return None

    # -- what happens to messages

    async def attempt(self, entry: Entry, indexes: tuple[int, ...], server: str,
                      epochs: Mapping[int, int] = NO_EPOCHS) -> None:
        """An attempt begins: durable when this returns. Raises Failed: then it must not begin. `epochs`: of the homes
        that have replicas, by index of target; what is delivered there goes into the safety net.
        """
        await self._notes.commit(record.pack_attempt(entry.id, indexes, server, self._clock.time(), epochs))
        entry.attempt(indexes, server, epochs)
        self._crash.reach(crash.AFTER_ATTEMPT)

    def outcomes(self, entry: Entry, outcomes: Mapping[int, Outcome],
                 epochs: Mapping[int, int] = NO_EPOCHS) -> None:
        """What came of it: noted now, durable within FLUSH_SECONDS. Finishes the entry if nothing is left to do.

        `epochs`, where they are not those of the attempt; 0: the safety net lets go.
        """
        for index, outcome in outcomes.items():
            entry.outcome(index, outcome)
        if epochs:
            entry.set_epochs(epochs)
        self._notes.note(record.pack_outcomes(entry.id, outcomes, self._clock.time(), epochs))
        self._crash.reach(crash.AFTER_RECORD)
        if entry.over:
            self._leave(entry)
            return
        if entry.finished and entry.id in self.entries:
            shelf = self._shelf_of(entry)
            shelf.take(entry)
            entry.in_net = not entry.aside
            shelf.put(entry)
            self._fresh.forget(entry.id)
            self._place(entry)
        if any(entry.of(index).netted for index in outcomes):
            self.caught(entry)

    def _place(self, entry: Entry) -> None:
        """Among the others of its kind."""
        if not entry.finished:
            self.entries[entry.id] = entry
            return
        self.entries.pop(entry.id, None)
        (self._aside.entries if entry.aside else self._in_log)[entry.id] = entry

    def _shelf_of(self, entry: Entry) -> Shelf:
        return self._aside.shelf if entry.aside else self._shelf

    def find(self, id: str) -> Entry | None:
        """Waiting or held."""
        return self._all.get(id)

    def netted_in_log(self) -> list[Entry]:
        """What the safety net holds and has not set aside, the oldest first."""
        return list(self._in_log.values())

    def set_epochs(self, entry: Entry, epochs: Mapping[int, int]) -> None:
        """The safety net holds it for other epochs of its targets' homes, or (0) not at all. Durable soon: where it is
        lost, the net asks again.
        """
        self.outcomes(entry, {}, epochs)

    async def set_aside(self, ids: Iterable[str]) -> int:
        """Moves what the safety net holds out of the log -> how many; the others can't be read. Raises Failed."""
        for one in self._tidiers:
            await one.pause("setting aside")
        try:
            reach = partial(self._crash.reach, crash.IN_SETTING_ASIDE)
            return await self._aside.take(self._in_log, ids, self._shelf, self.read, reach)
        finally:
            for one in self._tidiers:
                one.resume("setting aside")

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
        for entries in self._all.maps:
            if entries.pop(entry.id, None) is not None:
                self._fresh.forget(entry.id)
                self._shelf_of(entry).take(entry)

    async def settle(self) -> None:
        """Returns when all that was noted is durable. Raises Failed."""
        await self._notes.commit()

    # -- housekeeping

    def _flushed(self) -> None:
        for one in self._tidiers:
            one.run()

    async def tidy(self) -> None:
        """Gives back what room there is to be had; returns when that is done."""
        await self.settle()
        for one in self._tidiers:
            one.run()
            await one.wait()

    async def snapshots(self) -> AsyncIterator[bytes]:
        """Events that say all that is known, for a checkpoint of the state journal."""
        for number, id in enumerate(list(self._all)):
            entry = self._all.get(id)
            if entry is not None and (entry.progress or entry.held or entry.warned):
                for event in snapshot(entry):
                    yield event
            if number % 500 == 499:
                await asyncio.sleep(0)
        # Asked for last: what finishes from now on is noted behind.
        finished = [id for shelf in (self._shelf, self._aside.shelf) for id in shelf.ids() if id not in self._all]
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
        names = [name for name in self._disk.list_directory(self.directory) if is_adopted(name)]
        while names:
            for one in self._tidiers:
                await one.pause("adoption")
            count += await self._adoption.bring_in(f"{self.directory}/{names[0]}", self._place, self._adopted)
            names = [name for name in self._disk.list_directory(self.directory) if is_adopted(name)]
        for one in self._tidiers:
            one.resume("adoption")
        return count

    def _adopted(self, entry: Entry) -> None:
        self._oldest = None
        if entry.id in self.entries:
            self.arrived(entry)
        if entry.netted and entry.id in self._all:
            self.caught(entry)

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
        return self._shelf.live_bytes - self._shelf.net_bytes

    @property
    def net_sizes(self) -> tuple[int, int]:
        """Bytes that the safety net holds in the log, and aside."""
        return self._shelf.net_bytes, self._aside.shelf.live_bytes

    @property
    def oldest(self) -> float | None:
        """When the oldest message arrived, in seconds since 1970."""
        oldest = self._oldest
        if oldest is None or oldest.id not in self.entries:
            # Asked for twice a second, with a million messages perhaps; what comes in meanwhile is younger.
            oldest = self._oldest = min(self.entries.values(), key=lambda entry: entry.received, default=None)
        return oldest.received if oldest is not None else None

    async def close(self) -> None:
        """Syncs what was noted and gives the directory free. Raises Failed if that could not be synced."""
        try:
            for one in self._tidiers:
                await one.pause("closing")
            try:
                await self._notes.close()
            finally:
                try:
                    await self._messages.close()
                finally:
                    await self._aside.journal.close()
        finally:
            self._release()

    def _release(self) -> None:
        for threads in (self._syncing, self._moving, self._noting, self._reading):
            threads.shutdown(wait=False)
        if self._lock is not None:
            self._lock.release()
            self._lock = None
