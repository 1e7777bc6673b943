"""The node's store as its sessions see it: write, read, watch a folder. Owns the threads and the files.

Knows how the parts hang together. Does not know SMTP or IMAP.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from onedomain.model.failure import Failed, Failure
from onedomain.model.ports import Clock, Trace
from onedomain.node.store import accounts, bodies, compact, expunges, folders, messages, retired
from onedomain.node.store.bodies import Place, Segments
from onedomain.node.store.index import Index, Indexes
from onedomain.node.store.readers import Readers, Reading
from onedomain.node.store.staging import Staging
from onedomain.node.store.values import Account, Taken
from onedomain.node.store.writer import DISK_FULL, Body, Transaction, Writer

T = TypeVar("T")

RESERVE = 64 * 1024 * 1024
"""Bytes of free disk below which nothing is taken, so that there is room to expunge."""

MAINTENANCE = 600.0
DELIVERIES_KEPT = 90 * 86400
"""Seconds for which delivery ids are remembered: longer than any spool retries, or a safety net keeps."""


class InUse(Exception):
    """Another node runs on this directory."""


class Store:
    def __init__(self, directory: Path, clock: Clock, trace: Trace) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._clock = clock
        self._trace = trace
        self._lock = _lock(directory)
        self._segments = Segments(directory / bodies.FOLDER)
        self.indexes = Indexes(self._load)
        self._writer = Writer(directory, self._segments, self.indexes.publish, self._storage_failed)
        self._readers = Readers(directory, self._segments)
        self._accounts: dict[str, Account] = {}
        self._maintenance: asyncio.Task[None] | None = None
        self._alarmed = False
        self._room: Failure | None = None
        self._room_known_until = 0.0

    @classmethod
    async def open(cls, directory: Path, clock: Clock, trace: Trace) -> Store:
        """Raises InUse, WrongVersion, sqlite3.Error, OSError."""
        store = cls(directory, clock, trace)
        known = [row[0] for row in store._writer.db.execute("SELECT DISTINCT segment FROM body")]
        for segment in store._segments.open(known):
            trace.note("segment removed", segment=segment, reason="no row speaks of it")
        store._accounts = {account.name: account for account in accounts.everyone(store._writer.db)}
        store._writer.start()
        store._maintenance = asyncio.create_task(store._maintain())
        return store

    async def close(self) -> None:
        if self._maintenance is not None:
            self._maintenance.cancel()
            await asyncio.gather(self._maintenance, return_exceptions=True)
        await self._writer.close()
        await self._readers.close()
        self._segments.close()
        os.close(self._lock)

    def now(self) -> int:
        return int(self._clock.time())

    async def write(self, work: Callable[[Transaction], T], brought: Sequence[Body] = ()) -> T:
        """The result of `work` once it is durable. Raises Failed, Rejected."""
        return await self._writer.run(work, brought)

    async def read(self, query: Callable[[Reading], T]) -> T:
        """Raises Rejected."""
        return await self._readers.run(query)

    def stage(self) -> Staging:
        return Staging(self._segments)

    def room(self) -> Failure | None:
        """None, or why nothing can be taken now; asked of the disk once a second at most."""
        now = self._clock.monotonic()
        if now >= self._room_known_until:
            disk = os.statvfs(self._directory)
            self._room = DISK_FULL if disk.f_bavail * disk.f_frsize < RESERVE else None
            self._room_known_until = now + 1
        return self._room

    async def account(self, name: str) -> Account | None:
        """From memory; asked of the database when it is not there, since the command line makes accounts too."""
        found = self._accounts.get(name)
        if found is None:
            found = await self.read(lambda reading: accounts.find(reading.db, name))
            if found is not None:
                self._accounts[name] = found
        return found

    async def password(self, name: str) -> str:
        return await self.read(lambda reading: accounts.password(reading.db, name))

    async def create_account(self, name: str, password: str = "") -> Account:
        account = await self.write(lambda tx: accounts.create(tx, name, self.now(), password))
        self._accounts[name] = account
        return account

    async def deliver(self, body: Body, delivery: str | None, to: Sequence[Account]) -> list[Taken]:
        """The body into the INBOX of each account, all in one commit. Raises Failed: then nothing was stored."""
        now = self.now()
        wanted = [account.id for account in to]

        def work(tx: Transaction) -> list[Taken]:
            return messages.deliver(tx, tx.places[0], wanted, delivery, now)

        outcomes = await self._writer.run(work, [body], rejects=False)
        if Taken.STORED not in outcomes:
            self.discard([body])
        for account, outcome in zip(to, outcomes, strict=True):
            if outcome is Taken.NO_ACCOUNT:
                self._accounts.pop(account.name, None)
        return outcomes

    def discard(self, unwanted: Sequence[Body]) -> None:
        """Bodies that certainly no row names. In doubt leave them: the next start removes what is nobody's."""
        for body in unwanted:
            if isinstance(body, Place):
                self._segments.remove(body.segment)

    async def compact(self) -> None:
        """Copy what is left of half-empty segments. Runs by itself now and then."""
        await compact.run(self._writer, self._readers, self._segments, self._trace)

    async def _load(self, folder: int) -> Index:
        def load(reading: Reading) -> Index:
            (commit,) = reading.db.execute("SELECT change FROM node").fetchone()
            return Index(folders.by_id(reading.db, folder), messages.of_folder(reading.db, folder), commit)

        return await self.read(load)

    async def _maintain(self) -> None:
        while True:
            await asyncio.sleep(MAINTENANCE)
            before = self.now() - DELIVERIES_KEPT
            try:
                await self.write(partial(messages.forget_deliveries, before=before))
                await self.write(partial(retired.forget, before=before))
                await self.write(expunges.forget)
                await self.compact()
            except Failed as failed:
                self._trace.note("maintenance failed", reason=failed.failure.reason)

    def _storage_failed(self, reason: str) -> None:
        if not self._alarmed:
            self._alarmed = True
            self._trace.note("storage failed", reason=reason)


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InUse(f"another node runs on {directory}") from None
    return descriptor
