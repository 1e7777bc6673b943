"""A message that is being received. It is in the spool once `commit` has returned, and not at all before.

A small one waits in memory and becomes one record; a large one is written in chunks as it comes, so that 100 MB need no
more memory than 1. Knows how a body is cut up. Does not know the protocol it comes by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from onedomain.model.failure import Failure
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
    def accept_then(self, head: Head, meta: bytes, record: list[bytes], body: bytes | None,
                    told: Callable[[Failure | None], None]) -> None: ...
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
        if self.put(data):
            await self.spill()

    def put(self, data: bytes) -> bool:
        """The next bytes; True where `spill` has to be awaited before any more."""
        if self._closed:
            raise RuntimeError("the draft is closed")
        self._buffers.append(data)
        self._in_memory += len(data)
        self.size += len(data)
        crowded = self._desk.held(len(data))
        least = self._desk.chunk_size if not crowded else self._desk.chunk_size // 16
        if self._in_memory > self._desk.inline_limit:
            return True
        return self._in_memory >= least and (crowded or bool(self._chunks))

    async def spill(self) -> None:
        """Out of the memory. Raises Failed as `write` does."""
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
            await self.spill()
            # The record that names the chunks follows when they are durable: a chunk missing later is damage, no torn
            # write.
            await self._desk.sync()
        head, meta = self._head(envelope, message_id, bounce_of, verdicts)
        body = self._body()
        try:
            return await self._desk.accept(head, meta, [message_head(meta), body or b""], body)
        finally:
            self.abort()

    def commit_then(self, envelope: Envelope, told: Callable[[Failure | None], None], *, message_id: str = "") -> bool:
        """`commit` for those who have no task: `told` is called, or Failed is raised. False, and nothing was done:
        there is more to wait for than one sync.
        """
        if self._closed:
            raise RuntimeError("the draft is closed")
        if self._chunks:
            return False
        head, meta = self._head(envelope, message_id)
        body = self._body()
        try:
            self._desk.accept_then(head, meta, [message_head(meta), body or b""], body, told)
        finally:
            self.abort()
        return True

    def _head(self, envelope: Envelope, message_id: str, bounce_of: str = "",
              verdicts: tuple[tuple[int, Outcome], ...] = ()) -> tuple[Head, bytes]:
        """And as it is written."""
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
        return head, meta

    def _body(self) -> bytes | None:
        """What stands in the record itself."""
        if self._chunks:
            return None
        return self._buffers[0] if len(self._buffers) == 1 else b"".join(self._buffers)

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


