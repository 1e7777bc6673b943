"""A message that is being received. It is in the spool once `commit` has returned, and not at all before.

A small one waits in memory and becomes one record; a large one is written in chunks as it comes, so that 100 MB need no
more memory than 1. Knows how a body is cut up. Does not know the protocol it comes by.
"""

from __future__ import annotations

from typing import Protocol

from onedomain.model.message import Envelope, Outcome
from onedomain.queue.entry import Entry
from onedomain.queue.record import Head, chunk_head, message_head, pack_meta, remember
from onedomain.store.segment import Position

# Chunks are synced along the way: dirty pages would pile up otherwise, and the last sync take seconds.
SYNC_EVERY = 4 << 20


class Desk(Protocol):
    """What a draft needs of the spool."""

    inline_limit: int
    chunk_size: int

    def held(self, change: int) -> bool:
        """Counts bytes that drafts hold in memory; True if there are too many of them."""
        ...

    def write_chunk(self, *buffers: bytes) -> Position: ...
    async def sync(self) -> None: ...
    async def accept(self, head: Head, meta: bytes, record: list[bytes], body: bytes | None) -> Entry: ...
    def give_up(self, chunks: list[Position]) -> None: ...
    def now(self) -> float: ...


class Draft:
    """`id` is the queue id, and the delivery id. Belongs to one task."""

    __slots__ = ("_buffers", "_chunks", "_closed", "_desk", "_in_memory", "_unsynced", "id", "size")

    def __init__(self, desk: Desk, id: str) -> None:
        self._desk = desk
        self.id = id
        self.size = 0
        self._buffers: list[bytes] = []
        self._in_memory = 0
        self._chunks: list[Position] = []
        self._unsynced = 0
        self._closed = False

    async def write(self, data: bytes) -> None:
        """The next bytes of the message. Raises Failed (452 4.3.1): then only `abort` is left."""
        if self._closed:
            raise RuntimeError("the draft is closed")
        self._buffers.append(data)
        self._in_memory += len(data)
        self.size += len(data)
        crowded = self._desk.held(len(data))
        least = self._desk.chunk_size if not crowded else self._desk.chunk_size // 16
        if self._in_memory > self._desk.inline_limit or (self._in_memory >= least and (crowded or self._chunks)):
            await self._spill()

    async def _spill(self) -> None:
        data = b"".join(self._buffers)
        self._drop_buffers()
        for start in range(0, len(data), self._desk.chunk_size):
            part = data[start : start + self._desk.chunk_size]
            self._chunks.append(self._desk.write_chunk(chunk_head(self.id), part))
            self._unsynced += len(part)
        if self._unsynced >= SYNC_EVERY:
            self._unsynced = 0
            await self._desk.sync()

    async def commit(
        self,
        envelope: Envelope,
        *,
        message_id: str = "",
        bounce_of: str = "",
        verdicts: tuple[tuple[int, Outcome], ...] = (),
    ) -> Entry:
        """Returns when the message is durable. Raises Failed: then it is not in the spool."""
        if self._closed:
            raise RuntimeError("the draft is closed")
        if self._chunks:
            await self._spill()
            # The record that names the chunks follows when they are durable: a chunk missing later is damage, no torn
            # write.
            await self._desk.sync()
        head = Head(
            id=self.id,
            received=round(self._desk.now(), 3),
            size=self.size,
            envelope=envelope,
            message_id=message_id,
            chunks=tuple(self._chunks),
            bounce_of=bounce_of,
            verdicts=verdicts,
        )
        meta = pack_meta(head)
        remember(meta, head)
        body = None
        if not self._chunks:
            body = self._buffers[0] if len(self._buffers) == 1 else b"".join(self._buffers)
        try:
            return await self._desk.accept(head, meta, [message_head(meta), body or b""], body)
        finally:
            self.abort()

    def abort(self) -> None:
        """Forgets it. After `commit` it only gives back what the draft held."""
        if self._closed:
            return
        self._closed = True
        self._drop_buffers()
        self._desk.give_up(self._chunks)

    def _drop_buffers(self) -> None:
        self._desk.held(-self._in_memory)
        self._buffers = []
        self._in_memory = 0


