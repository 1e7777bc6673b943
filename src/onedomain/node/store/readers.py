"""A few threads that read, each with a connection of its own: a long search holds up neither deliveries nor the loop.

Knows threads and connections, and how a body is found. Does not know what is asked.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from onedomain.node.store.bodies import BodyFile, Place, Segments
from onedomain.node.store.schema import open_for_reading

T = TypeVar("T")

_TRIES = 3


class Reading:
    """What a query may touch. One thread's own; never kept beyond the query."""

    def __init__(self, db: sqlite3.Connection, segments: Segments) -> None:
        self.db = db
        self._segments = segments

    def body(self, body: int) -> BodyFile | None:
        """The body opened, or None where it was expunged meanwhile. The caller closes it."""
        for _ in range(_TRIES):  # compaction may move it between the look-up and the opening
            row = self.db.execute("SELECT segment, offset, size, digest FROM body WHERE id = ?", (body,)).fetchone()
            if row is None:
                return None
            place = Place(*row)
            try:
                return BodyFile(self._segments.path(place.segment), place)
            except FileNotFoundError:
                self.db.execute("COMMIT")
                self.db.execute("BEGIN")  # look again, at this moment
        raise FileNotFoundError(f"segment of body {body} is missing")


class Readers:
    def __init__(self, directory: Path, segments: Segments, threads: int = 4) -> None:
        self._directory = directory
        self._segments = segments
        self._pool = ThreadPoolExecutor(threads, "node-reader")
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def run(self, query: Callable[[Reading], T]) -> T:
        """Run `query` in a reader's thread, inside one read transaction: it sees one moment of the database."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._do, query)

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)
        for db in self._opened:
            db.close()

    def _do(self, query: Callable[[Reading], T]) -> T:
        reading: Reading | None = getattr(self._own, "reading", None)
        if reading is None:
            db = open_for_reading(self._directory)
            self._opened.append(db)
            reading = self._own.reading = Reading(db, self._segments)
        reading.db.execute("BEGIN")
        try:
            return query(reading)
        finally:
            reading.db.execute("COMMIT")
