"""The bytes of a spooled message, read when somebody wants them: from memory while it is fresh, else from the journal.

Knows where they lie. Does not know who reads, and never alters a byte.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from itertools import accumulate

from onedomain.model.failure import Failed, again
from onedomain.queue.entry import Entry
from onedomain.queue.record import CHUNK_HEADER_SIZE, BadRecord, split_message
from onedomain.store.segment import Position

Read = Callable[[Position], Awaitable[bytes | None]]

DAMAGED = again(451, "4.3.0", "Message cannot be read from the spool", "the body's record is damaged")


class FreshBodies:
    """Bodies written a moment ago, up to `limit` bytes; the oldest go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def put(self, id: str, body: bytes) -> None:
        self.forget(id)
        self._bodies[id] = body
        self._size += len(body)
        while self._size > self._limit:
            _, oldest = self._bodies.popitem(last=False)
            self._size -= len(oldest)

    def get(self, id: str) -> bytes | None:
        return self._bodies.get(id)

    def forget(self, id: str) -> None:
        body = self._bodies.pop(id, None)
        if body is not None:
            self._size -= len(body)

    @property
    def size(self) -> int:
        return self._size


class BytesBody:
    """A body that is in memory."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    async def read(self, offset: int, length: int) -> bytes:
        if offset == 0 and length >= len(self._data):
            return self._data
        return self._data[offset : offset + length]


class StoredBody:
    """A body in the journal. Holds one record of it in memory."""

    __slots__ = ("_ends", "_entry", "_in_chunks", "_part", "_part_index", "_places", "_read")

    def __init__(self, entry: Entry, read: Read) -> None:
        self._entry = entry
        self._read = read
        chunks = entry.chunks
        self._in_chunks = bool(chunks)
        self._places = chunks or (entry.place,)
        self._ends = list(accumulate(one.length - CHUNK_HEADER_SIZE for one in chunks)) or [entry.size]
        self._part = b""
        self._part_index = -1

    @property
    def size(self) -> int:
        return self._entry.size

    async def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes, perhaps fewer at the end of a chunk. Raises Failed if they can't be read."""
        if offset >= self.size or length <= 0:
            return b""
        index = bisect_right(self._ends, offset)
        if index != self._part_index:
            self._part = await self._load(index)
            self._part_index = index
        start = offset - (self._ends[index - 1] if index else 0)
        if start == 0 and length >= len(self._part):
            return self._part
        return self._part[start : start + length]

    async def _load(self, index: int) -> bytes:
        payload = await self._read(self._places[index])
        if payload is None:
            # compaction may have moved it since
            self._places = self._entry.chunks or (self._entry.place,)
            payload = await self._read(self._places[index])
        if payload is None:
            raise Failed(DAMAGED)
        if self._in_chunks:
            return payload[CHUNK_HEADER_SIZE:]
        try:
            return split_message(payload)[1]
        except BadRecord as error:
            raise Failed(DAMAGED) from error
