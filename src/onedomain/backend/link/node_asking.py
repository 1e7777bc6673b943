"""What a link asks a node: connections that serve all accounts, lent for one question at a time.

Knows commands and their answers as words and lines. Does not know what any of them is for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from onedomain.backend.imap_session import ImapDoor
from onedomain.backend.link.xlink import Refusal, Xlink
from onedomain.backend.mailserver import Tools
from onedomain.backend.pool import Pool, PoolLimits
from onedomain.backend.trouble import troubles
from onedomain.model.server import Server
from onedomain.protocol.imap.response import Tagged

T = TypeVar("T")

CONNECTIONS = 4
LARGEST = 300 * 2**20
"""Octets of one message that are taken into memory; a node by default takes 128 MiB."""


class NodeAsking:
    def __init__(self, server: Server, tools: Tools) -> None:
        self.server = server
        self.tools = tools
        self._door = ImapDoor(server.imap, tools.contexts, tools.imap_times, largest=LARGEST)
        limits = PoolLimits(size=CONNECTIONS, idle=60.0, uses=1_000_000)
        self.append_limit: int | None = None  # as its last connection has it
        self._pool = Pool(f"links of {server.name}", self._open, limits)

    async def close(self) -> None:
        await self._pool.close()

    async def _open(self) -> Xlink:
        xlink = await Xlink.open(self._door, self.server.replication_user, self.server.replication_password)
        self.append_limit = xlink.append_limit
        return xlink

    async def using(self, work: Callable[[Xlink], Awaitable[T]]) -> T:
        async with self._pool.lend() as xlink:
            with troubles(self.doing):
                return await work(xlink)

    async def ask(self, *words: bytes, seconds: float | None = None) -> list[list[Any]]:
        """The lines of an answer that is OK. Raises Refusal, Failed."""
        tagged, lines = await self.using(lambda xlink: xlink.ask(*words, seconds=seconds))
        return self.accepted(tagged, lines)

    async def each(self, *words: bytes) -> AsyncGenerator[list[Any], None]:
        """The lines as they come. Raises Refusal, Failed."""
        answer: Tagged | None = None
        async with self._pool.lend() as xlink, aclosing(xlink.each(*words)) as responses:
            async for response in responses:
                if isinstance(response, Tagged):
                    answer = response
                else:
                    yield response
        assert answer is not None
        self.accepted(answer, [])

    def accepted(self, tagged: Tagged, lines: list[list[Any]]) -> list[list[Any]]:
        if tagged.status != "OK":
            raise Refusal(self.doing, tagged)
        return lines

    @property
    def doing(self) -> str:
        return f"XLINK at {self.server.name}"
