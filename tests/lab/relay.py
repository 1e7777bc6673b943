"""A TCP relay between a client and a server that makes the line slow, silent, or broken, on demand.

Runs in a thread with an event loop of its own, so that it works under any test. Looks at bytes only to find the ones
at which a test wants the line to break.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.lab.ports import free_port

CHUNK = 1 << 16
IN_FLIGHT = 256
"""Chunks on the slow line in each direction; then reading stops, as a full pipe's would."""

T = TypeVar("T")


class Relay:
    """Listens on `port` and passes everything on to the server. `delay`, in seconds each way, may be changed any time.

    `hang` accepts and passes nothing; `cut` resets what is open and refuses what comes; `mend` undoes both.
    """

    def __init__(self, to_host: str, to_port: int, *, delay: float = 0.0, host: str = "127.0.0.1") -> None:
        self.to_host, self.to_port = to_host, to_port
        self.host, self.port = host, free_port(host)
        self.delay = delay
        self.accepted = 0
        self.bytes_up = self.bytes_down = 0
        self._lost_word: bytes | None = None
        self._lost_count = 0
        self._lines: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._flowing: asyncio.Event

    def start(self) -> None:
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """Reset everything and give the port back; the relay can't be started again."""
        if self._thread.is_alive():
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def hang(self) -> None:
        """From now on nothing arrives, in neither direction, on old connections and on new ones."""
        self._call(self._set_flowing(False))

    def cut(self) -> None:
        self._call(self._cut(listen=False))

    def reset(self) -> None:
        """Reset what is open; new connections are served."""
        self._call(self._cut(listen=True))

    def mend(self) -> None:
        self._call(self._mend())

    def lose(self, word: bytes, times: int = 1) -> None:
        """The next `times` chunks from the server that hold `word` never arrive: the line is reset in their place.

        `lose(b"250 2.6.0")` takes the answer to a message away after the server has given it. Not for TLS lines, and a
        word that the server sends in two pieces goes unseen.
        """
        self._lost_word, self._lost_count = word, times

    @property
    def still_to_lose(self) -> int:
        return self._lost_count

    @property
    def open(self) -> int:
        """Connections open now."""
        return len(self._lines)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, self.host, self.port, backlog=1024)

    async def _set_flowing(self, flowing: bool) -> None:
        if flowing:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _cut(self, listen: bool) -> None:
        if not listen and self._server:
            self._server.close()
            self._server = None
        for line in list(self._lines):
            _reset(*line)

    async def _mend(self) -> None:
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port, backlog=1024)

    async def _close(self) -> None:
        await self._cut(listen=False)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await self._flowing.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(self.to_host, self.to_port)
        except OSError:
            _reset(writer)
            return
        line = (writer, far_writer)
        self._lines.add(line)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, far_writer, line, down=False))
                group.create_task(self._pass(far_reader, writer, line, down=True))
        except* OSError:
            _reset(*line)
        finally:
            self._lines.discard(line)
            for end in line:
                end.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        line: tuple[asyncio.StreamWriter, ...],
        down: bool,
    ) -> None:
        """Each chunk arrives `delay` after it was read, without holding up those behind it."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._arrive(on_the_way, writer))
            while True:
                data = await reader.read(CHUNK)
                if down and self._is_lost(data):
                    _reset(*line)
                    data = b""
                if down:
                    self.bytes_down += len(data)
                else:
                    self.bytes_up += len(data)
                await on_the_way.put((self._loop.time() + self.delay, data))
                if not data:
                    return

    async def _arrive(self, on_the_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._flowing.wait()
            if not data:
                if writer.can_write_eof() and not writer.is_closing():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    def _is_lost(self, data: bytes) -> bool:
        if not self._lost_count or self._lost_word is None or self._lost_word not in data:
            return False
        self._lost_count -= 1
        return True


def _reset(*writers: asyncio.StreamWriter) -> None:
    """Close with RST, as a machine does that knows nothing of the connection: SO_LINGER with zero, socket(7)."""
    for writer in writers:
        sock: socket.socket | None = writer.get_extra_info("socket")
        if sock is not None and not writer.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
