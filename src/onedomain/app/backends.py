"""The backends of one process, by server name, as the configuration has them now.

Knows when a backend has to be made anew. Does not know kinds (backend/registry) nor who uses them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from onedomain.backend.mailserver import MailServer, Tools
from onedomain.backend.registry import make_backend
from onedomain.model.server import Server


class Backends:
    """Call it with a server's name. Raises KeyError for one that is not configured."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._made: dict[str, MailServer] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def configure(self, servers: Iterable[Server]) -> None:
        """What changed is made anew, the old one ends its idle connections; deliveries under way go on with it."""
        wanted = {server.name: server for server in servers}
        for name in list(self._made):
            server = wanted.get(name)
            if server is None or not _same(server, self._made[name].server):
                self._close(self._made.pop(name))
        for name, server in wanted.items():
            if name not in self._made:
                self._made[name] = make_backend(server, self._tools)

    def __call__(self, name: str) -> MailServer:
        return self._made[name]

    def in_flight(self, name: str) -> int:
        backend = self._made.get(name)
        return backend.in_flight if backend is not None else 0

    async def close(self) -> None:
        for backend in self._made.values():
            self._close(backend)
        self._made.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _close(self, backend: MailServer) -> None:
        task = asyncio.create_task(backend.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _same(one: Server, other: Server) -> bool:
    """Being drained changes who is chosen, not how the server is spoken to."""
    return replace(one, draining=False) == replace(other, draining=False)
