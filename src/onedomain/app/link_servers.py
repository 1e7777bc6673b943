"""The servers of one process as links speak to them, by name, as the configuration has them now.

Knows when one has to be made anew. Does not know kinds (backend/link) nor who uses them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from onedomain.backend.link.base import LinkEnd, LinkServer
from onedomain.backend.mailserver import Tools
from onedomain.model.account import Account
from onedomain.model.failure import Failed, again
from onedomain.model.server import Server

Make = Callable[[Server, Tools], LinkServer]


class LinkServers:
    """Call it with a server's name. Raises KeyError for one that is not configured, or whose kind has no links."""

    def __init__(self, tools: Tools, make: Make) -> None:
        self._tools = tools
        self._make = make
        self._servers: dict[str, Server] = {}
        self._made: dict[str, LinkServer] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def configure(self, servers: Iterable[Server]) -> None:
        """What changed is made anew when it is next used; the old one lets passes under way fail or end."""
        wanted = {server.name: server for server in servers}
        for name, server in self._servers.items():
            now = wanted.get(name)
            if name in self._made and (now is None or not _same(now, server)):
                self._close(self._made.pop(name))
        self._servers = wanted

    def __call__(self, name: str) -> LinkServer:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._make(self._servers[name], self._tools)
        return made

    async def end(self, account: Account) -> LinkEnd:
        """At the account's primary: a queue.rescue.Ends. Raises Failed."""
        name = account.home.primary
        try:
            server = self(name)
        except KeyError:
            raise Failed(again(451, "4.3.5", "No way to the account's server", f"{name}: no links there")) from None
        return await server.end(account)

    async def close(self) -> None:
        for made in self._made.values():
            self._close(made)
        self._made.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _close(self, made: LinkServer) -> None:
        task = asyncio.create_task(made.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _same(one: Server, other: Server) -> bool:
    return replace(one, draining=False) == replace(other, draining=False)
