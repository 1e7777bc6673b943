"""The other edges of the domain: says in the database that this one is there, answers them, asks them.

Knows addresses and certificates. Does not know what the answers mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from onedomain.control import peer
from onedomain.control.link import MAX_LINE, Handler, Link, LinkError
from onedomain.decision.agreement import Difference, differences
from onedomain.directory.repository import GONE_AFTER, Edge, Repository
from onedomain.model.ports import Clock, Trace
from onedomain.store.sql import AWAY, Database, DatabaseError

SAY_EVERY = 20.0
SAY_FIRST = 1.0           # and then after pauses that double: edges that start together should not have to wait
STALE = 2.0               # whoever asks more than so long after the last look has us look again
LOOK_SECONDS = 2.0
ASK_SECONDS = 5.0


class Peers:
    """`listen` and `address` are "host:port": where we accept, and where the others find us; None: no peers."""

    def __init__(self, me: peer.Identity, listen: str | None, address: str | None,
                 open_database: Callable[[], Awaitable[Database]], handlers: Mapping[str, Handler],
                 left: Callable[[Link], None] = lambda link: None, *, settings: str = "",
                 alert: Callable[[str], None] = lambda text: None, clock: Clock, trace: Trace) -> None:
        """`settings`: what of our file has to be the same everywhere; `alert` is told where it is not."""
        self._me = me
        self._listen = listen
        self._address = address or listen
        self._open = open_database
        self._handlers = handlers
        self._left = left
        self._settings = settings
        self._alert = alert
        self._clock = clock
        self._trace = trace
        self._others: dict[str, Edge] = {}
        self._looking = asyncio.Lock()
        self._looked = 0.0  # when the database last answered; never to be asked by the way while it is away
        self._server: asyncio.Server | None = None
        self._served: set[Link] = set()

    async def run(self) -> None:
        """Until cancelled. A database that is away leaves us with the peers we know."""
        if self._listen is None:
            return
        pause = SAY_FIRST
        try:
            while True:
                try:
                    await self._exchange()
                except (DatabaseError, *AWAY) as error:
                    self._looked = float("inf")
                    self._trace.note("peers unknown", reason=f"{type(error).__name__}: {error}".split("\n")[0])
                await asyncio.sleep(pause)
                pause = min(2 * pause, SAY_EVERY)
        finally:
            if self._server is not None:
                self._server.close()
            for link in self._served:
                link.close()

    async def ask(self, verb: str, *, within: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Every other edge's answer, or the LinkError or OSError that came instead, by name. `within`: seconds for
        each, so that one that is off the network does not cost the others' answers.
        """
        if self._server is not None and self._clock.monotonic() - self._looked > STALE:
            with suppress(TimeoutError, DatabaseError, *AWAY):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._exchange()
        others = dict(self._others)
        asked = (self._ask_within(within, edge, verb, arguments) for edge in others.values())
        return dict(zip(others, await asyncio.gather(*asked, return_exceptions=True), strict=True))

    async def dial(self, name: str, handlers: Mapping[str, Handler]) -> tuple[Link, asyncio.Task[None]]:
        """A lasting link to an edge, and the task that serves it. Raises LinkError, OSError, TimeoutError, also where
        nobody of that name is known yet.
        """
        if name not in self._others and self._server is not None:
            with suppress(TimeoutError, DatabaseError, *AWAY):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._exchange()
        edge = self._others.get(name)
        if edge is None:
            raise LinkError(f"no edge {name!r} is known here")
        return await peer.dial(self._me, *_split(edge.address), edge.certificate, handlers)

    async def _ask_within(self, seconds: float | None, edge: Edge, verb: str, arguments: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(seconds):
                return await self._ask_one(edge, verb, arguments)
        except TimeoutError:
            raise LinkError(f"{edge.address} does not answer") from None

    async def _ask_one(self, edge: Edge, verb: str, arguments: dict[str, Any]) -> Any:
        try:
            link, task = await peer.dial(self._me, *_split(edge.address), edge.certificate)
        except TimeoutError:
            raise LinkError(f"{edge.address} does not answer") from None
        except OSError as error:
            raise LinkError(f"{edge.address}: {error.strerror or error}") from None
        try:
            return await link.call(verb, timeout=ASK_SECONDS, **arguments)
        finally:
            link.close()
            task.cancel()

    async def _exchange(self) -> None:
        async with self._looking:
            await self._look()
            self._looked = self._clock.monotonic()

    async def _look(self) -> None:
        assert self._address is not None
        database = await self._open()
        try:
            repository = Repository(database, self._clock)
            now = self._clock.time()
            await repository.put_edge(Edge(self._me.name, self._address, self._me.certificate, now, self._settings))
            found = {edge.name: edge for edge in await repository.edges()
                     if edge.name != self._me.name and now - edge.seen < GONE_AFTER}
        finally:
            with suppress(*AWAY):
                await database.close()
        trusted = {edge.certificate for edge in found.values()}
        if self._server is None or trusted != {edge.certificate for edge in self._others.values()}:
            self._others = found
            await self._serve(trusted)
        self._others = found
        for difference in self.differences:
            self._alert(str(difference))

    @property
    def differences(self) -> list[Difference]:
        """Of what should be the same everywhere."""
        return differences(self._settings, {edge.name: edge.settings for edge in self._others.values()})

    async def _serve(self, trusted: set[str]) -> None:
        """Listens with exactly these certificates trusted; an edge that was removed is out at once."""
        assert self._listen is not None
        if self._server is not None:
            self._server.close()
        context = peer.context(self._me, trusted, server=True)
        self._server = await asyncio.start_server(self._accept, *_split(self._listen), ssl=context, limit=MAX_LINE,
                                                  reuse_port=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer, self._handlers)
        self._served.add(link)
        try:
            await link.serve()
        finally:
            self._served.discard(link)
            self._left(link)


def _split(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
