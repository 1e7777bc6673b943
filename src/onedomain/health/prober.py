"""Asks every server how it is, again and again, and tells the board.

Knows when to ask. A question that is open for `impatience` is told as silence while it stays open, and the next one is
asked beside it, so that a server which answers late is told from one that does not answer. A connection is kept open
for the only purpose of being ended: a server that is killed is noticed when the kernel says so, not at the next
question. Does not know what is asked (backend) nor what follows (board).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from onedomain.health.board import Board
from onedomain.health.view import FACES
from onedomain.model.failure import Failed
from onedomain.model.health import Seen, Sighting
from onedomain.model.server import Server


class Probed(Protocol):
    """What the prober asks of a backend; see backend.base.Backend."""

    async def probe(self, face: str) -> Sighting: ...
    async def watch(self, face: str) -> None: ...
    async def probe_message(self, account: str) -> Sighting: ...


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds. `interval` between questions, `soon` where there is a doubt, `impatience` until an open question counts
    as silence, `limit` until it is given up. `message`: between probe messages to each probe account, 0 for none.
    `jitter`: the share by which pauses vary.
    """

    interval: float = 1.0
    soon: float = 0.2
    impatience: float = 2.0
    limit: float = 8.0
    message: float = 60.0
    jitter: float = 0.1


class Prober:
    """`backends(name)` speaks to a server; `random` is uniform in [0, 1)."""

    def __init__(
        self,
        board: Board,
        backends: Callable[[str], Probed],
        random: Callable[[], float],
        rhythm: Rhythm | None = None,
    ) -> None:
        self._board = board
        self._backends = backends
        self._random = random
        self._rhythm = rhythm or Rhythm()
        self._servers: dict[str, Server] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._faces: dict[tuple[str, str], Face] = {}
        self._group: asyncio.TaskGroup | None = None

    def configure(self, servers: Iterable[Server]) -> None:
        """Begin with servers that are new, end with those that are gone; one that was changed is both."""
        before, self._servers = self._servers, {server.name: server for server in servers}
        for name in list(self._tasks):
            if self._servers.get(name) != before.get(name):
                self._tasks.pop(name).cancel()
        if self._group is not None:
            for name, server in self._servers.items():
                if name not in self._tasks:
                    self._tasks[name] = self._group.create_task(self._ask_server(server))

    async def run(self) -> None:
        """Until it is cancelled."""
        self._board.on_doubt.append(self._doubt)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.configure(self._servers.values())
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._board.on_doubt.remove(self._doubt)

    def _doubt(self, server: str, face: str) -> None:
        if asked := self._faces.get((server, face)):
            asked.hurry.set()

    async def _ask_server(self, server: Server) -> None:
        backend = self._backends(server.name)
        faces = {name: Face(server.name, name, backend, self._board, self._pause, self._rhythm) for name in FACES}
        self._faces.update({(server.name, name): face for name, face in faces.items()})
        async with asyncio.TaskGroup() as group:
            for face in faces.values():
                group.create_task(face.ask(group))
                group.create_task(face.watch())
            if self._rhythm.message:
                for account in server.probe_accounts:
                    group.create_task(self._send_messages(server.name, backend, account))

    async def _send_messages(self, server: str, backend: Probed, account: str) -> None:
        await asyncio.sleep(self._rhythm.message * self._random())  # not all servers and edges at once
        while True:
            if self._board.verdict(server).usable:
                self._board.message_probed(account, await self._message(server, backend, account))
            await asyncio.sleep(self._pause(self._rhythm.message))

    async def _message(self, server: str, backend: Probed, account: str) -> Sighting:
        patience = 4 * self._rhythm.limit
        try:
            async with asyncio.timeout(patience):
                return await backend.probe_message(account)
        except TimeoutError:
            return Sighting(server, "delivery", Seen.SILENT, patience, "the probe message took too long")

    def _pause(self, seconds: float) -> float:
        """Uneven, so that no two edges ask in step."""
        return seconds * (1 + self._rhythm.jitter * (2 * self._random() - 1))


class Face:
    """The questions to one face of one server."""

    def __init__(
        self,
        server: str,
        face: str,
        backend: Probed,
        board: Board,
        pause: Callable[[float], float],
        rhythm: Rhythm,
    ) -> None:
        self._server = server
        self._face = face
        self._backend = backend
        self._board = board
        self._pause = pause
        self._rhythm = rhythm
        self._open = 0
        self.hurry = asyncio.Event()

    async def ask(self, group: asyncio.TaskGroup) -> None:
        clock = asyncio.get_running_loop().time
        most = int(self._rhythm.limit / self._rhythm.interval) + 2
        while True:
            self.hurry.clear()
            asked = clock()
            if self._open < most:
                group.create_task(self._question())
            try:
                async with asyncio.timeout(self._pause(self._rhythm.interval)):
                    await self.hurry.wait()
                    await asyncio.sleep(asked + self._rhythm.soon - clock())
            except TimeoutError:
                continue

    async def watch(self) -> None:
        """The end of an idle connection is an accusation: the next question is asked at once."""
        while True:
            try:
                await self._backend.watch(self._face)
                self._board.saw(self._sighting(Seen.REFUSED, 0.0, "the server ended an idle connection"))
            except Failed:
                pass  # the questions fail, too, and they tell
            await asyncio.sleep(self._rhythm.interval)

    async def _question(self) -> None:
        self._open += 1
        task = asyncio.create_task(self._backend.probe(self._face))
        try:
            patience = self._rhythm.impatience
            await asyncio.wait({task}, timeout=patience)
            if not task.done():
                self._board.probed(self._sighting(Seen.SILENT, patience, f"no answer for {patience:g} s"))
                await asyncio.wait({task}, timeout=self._rhythm.limit - patience)
            if task.done():
                self._board.probed(await task)
            else:
                limit = self._rhythm.limit
                self._board.probed(self._sighting(Seen.SILENT, limit, f"no answer for {limit:g} s"))
        finally:
            self._open -= 1
            task.cancel()

    def _sighting(self, seen: Seen, seconds: float, reason: str) -> Sighting:
        return Sighting(self._server, self._face, seen, seconds, reason)
