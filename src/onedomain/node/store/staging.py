"""A body on its way in: kept in memory while it is small, written to a segment of its own from there on.

Knows where the line is, the digest, and how to find the delivery id. Does not know who sends the body.
"""

from __future__ import annotations

import asyncio
import hashlib
import re

from onedomain.model.failure import Failed, again
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.node.store.bodies import LARGE, LargeDraft, Segments
from onedomain.node.store.writer import DISK_FULL, Body, SmallBody

MAX_DELIVERY_ID = 200
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_DELIVERY_ID = re.compile(
    rb"^%b:[ \t]*([!-~]{1,%d})[ \t]*\r?$" % (DELIVERY_ID_HEADER.encode(), MAX_DELIVERY_ID),
    re.IGNORECASE | re.MULTILINE,
)


def delivery_id(head: bytes) -> str | None:
    """The value of the delivery id header, if it stands in `head`, the beginning of a message."""
    end = _END_OF_HEADERS.search(head)
    found = _DELIVERY_ID.search(head, 0, end.end() if end else len(head))
    return found[1].decode("ascii") if found else None


class Staging:
    """`write` as it comes, then `finish` or `abort`, exactly one of them."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._pieces: list[bytes] = []
        self._held = 0
        self._digest = hashlib.sha256()
        self._draft: LargeDraft | None = None
        self.size = 0
        self.delivery: str | None = None

    async def write(self, data: bytes) -> None:
        """Raises Failed when the disk has no room."""
        self._pieces.append(data)
        self._held += len(data)
        self.size += len(data)
        if self._held > LARGE:
            await self._spill()

    async def finish(self) -> Body:
        """A small body is not durable yet, a large one is. Raises Failed."""
        if self._draft is None:
            data = b"".join(self._pieces)
            self.delivery = delivery_id(data)
            return SmallBody(data, hashlib.sha256(data).digest())
        await self._spill()
        try:
            return await asyncio.to_thread(self._draft.finish, self._digest.digest())
        except OSError as error:
            raise Failed(again(452, "4.3.1", DISK_FULL.text, f"large body: {error}")) from error

    async def abort(self) -> None:
        self._pieces.clear()
        if self._draft is not None:
            await asyncio.to_thread(self._draft.abort)

    async def _spill(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        try:
            if self._draft is None:
                self.delivery = delivery_id(data)
                self._draft = await asyncio.to_thread(self._segments.draft)
            await asyncio.to_thread(self._append, self._draft, data)
        except OSError as error:
            raise Failed(again(452, "4.3.1", DISK_FULL.text, f"large body: {error}")) from error

    def _append(self, draft: LargeDraft, data: bytes) -> None:
        self._digest.update(data)
        draft.write(data)
