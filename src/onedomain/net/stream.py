"""A connection as coroutines read and write it: log-in phases, SMTP, LMTP, probes.

Knows when to wait and for how long. Does not know protocols, nor who the peer ought to be. At most one task reads and
one writes. A visit or a relay takes a stream over through `take_over`, and uses it as the channel that it is.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

from onedomain.model.failure import Failed, refuse
from onedomain.net.channel import SLICE, Channel
from onedomain.net.poller import BROKEN, IN, OUT, Callback, Poller
from onedomain.net.wire import BLOCKED

MAX_PENDING = 1 << 20
"""Bytes that write_nowait may leave behind for a peer that does not read its replies."""

HANDSHAKE_SECONDS = 30.0
CLOSE_SECONDS = 5.0
"""How long aclose waits for the peer to take what was written."""

_TURNS = 16
"""Reads or writes one task may do in a row before the others have theirs."""


class Stream(Channel):
    """`resting` is true while its session may be ended without a loss, see `rest`; `leaving` asks it to end then.
    `deadline` is in loop.time(); looked at once a second, while something waits. None is no limit.
    read and write raise TimeoutError past the deadline, ConnectionError when the connection broke or was closed.
    """

    __slots__ = ("_reader", "_turns", "_watched", "_writer", "deadline", "leaving", "resting")

    def __init__(
        self,
        sock: socket.socket,
        *,
        peer: tuple[str, int] | None = None,
        quick_ack: bool = False,
        poller: Poller | None = None,
        callback: Callback | None = None,
    ) -> None:
        """`callback` gets its events from the start, as after `take_over`."""
        super().__init__(sock, peer, poller if poller is not None else Poller.running(), quick_ack=quick_ack)
        self.deadline: float | None = None
        self.resting = self.leaving = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._turns = 0
        self._watched = False
        if callback is not None:
            self.poller.attach(self.fd, callback)
        else:
            self.give_back()

    async def read(self, limit: int = 65536) -> bytes:
        """Whatever is there, 1 to `limit` bytes, as soon as there is anything; b"" at the end."""
        if self._unread:
            data, self._unread = self._unread[:limit], self._unread[limit:]
            return data
        if self._reader is not None:
            raise RuntimeError("two tasks read one stream")
        if self._busy:
            self._turns += 1
            if self._turns >= _TURNS:
                self._turns = 0
                await asyncio.sleep(0)
            if (found := self.receive(limit)) is not None:
                return found
        while True:
            if self._eof:
                return b""
            await self.readable()
            if (found := self.receive(limit)) is not None:
                return found

    async def rest(self, limit: int = 65536) -> bytes:
        """`read`, where the client has begun nothing. Its task is cancelled here once the session is asked to leave."""
        self.resting = True
        try:
            if self.leaving and (task := asyncio.current_task()) is not None:
                task.cancel()
                await asyncio.sleep(0)
            return await self.read(limit)
        finally:
            self.resting = False

    async def write(self, data: bytes) -> None:
        """Returns when the kernel has taken everything, this and what was written before."""
        if len(data) <= SLICE:
            if not self.push(data):
                await self._drained()
            return
        view = memoryview(data)
        for turn, start in enumerate(range(0, len(data), SLICE)):
            if not self.push(view[start : start + SLICE]):
                await self._drained()
            elif turn % _TURNS == _TURNS - 1:
                await asyncio.sleep(0)

    def write_nowait(self, data: bytes) -> None:
        """For replies: what the kernel does not take is kept and sent when it does, up to MAX_PENDING bytes."""
        self.push(data)
        if self.backlog and len(self.backlog) > MAX_PENDING:
            self.close()
            raise ConnectionError("the peer does not read what it is sent")

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        """Handshake; sets `tls`. Raises TlsError, ConnectionError, TimeoutError (after `seconds` or past the deadline).

        Refuses when plaintext from before is waiting to be read, because an attacker may have put it there
        (CVE-2011-0411); the caller's parser has to drop its own rest. After a failure only close() is left.
        """
        if self.tls is not None:
            raise Failed(refuse(503, "5.5.1", "TLS is on already"))
        if self._unread:
            raise Failed(refuse(503, "5.5.1", "Nothing may follow STARTTLS before the handshake", "plaintext injected"))
        before = self.deadline
        limit = self.poller.loop.time() + seconds
        self.deadline = limit if before is None else min(limit, before)
        try:
            if self.backlog:
                await self._drained()
            wire = self.wrap(context, server_side=server_side, server_hostname=server_hostname, session=session)
            while wire.handshake() == BLOCKED:
                await self.readable()
            self.secured(wire)
        finally:
            self.deadline = before

    async def aclose(self) -> None:
        """Send what is left, say goodbye in both TLS and TCP, close. Bounded by CLOSE_SECONDS; raises nothing of the
        connection's."""
        if self.closed:
            return
        self._tell()
        if self.backlog:
            self.give_back()
            self.ask(reading=False)
            self.deadline = self.poller.loop.time() + CLOSE_SECONDS
            try:
                await self._drained()
            except (ConnectionError, TimeoutError):
                self.close()
            except asyncio.CancelledError:
                self.close()
                raise
        self.part()

    def take_over(self, callback: Callback) -> None:
        """From now on events go to `callback`, and no deadline is looked at; aclose() takes back what it needs."""
        if not self.closed:
            self.poller.attach(self.fd, callback)
            self._unwatch()

    def give_back(self) -> None:
        """Events are the coroutines' again."""
        if not self.closed:
            self.poller.attach(self.fd, self._event)
            self.poller.watch(self)
            self._watched = True

    def _unwatch(self) -> None:
        if self._watched:
            self.poller.unwatch(self)
            self._watched = False

    async def readable(self) -> None:
        """Until there may be something to read."""
        if not self._mask & self.wire.reads_on:
            self.want(self._mask | self.wire.reads_on)
        self._reader = self._wait()
        try:
            await self._reader
        finally:
            self._reader = None

    async def writable(self) -> None:
        """Until there may be room to send, or a connect has ended; reading comes next, and is asked for with it."""
        self.want(IN | OUT)
        await self._write_wait()

    def sweep(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            for waiting in (self._reader, self._writer):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(TimeoutError("the peer took too long"))

    # -- within

    def _wait(self) -> asyncio.Future[None]:
        if self.closed:
            raise ConnectionAbortedError("closed here")
        if self.deadline is not None and self.poller.now >= self.deadline:
            raise TimeoutError("the peer took too long")
        return self.poller.loop.create_future()

    async def _write_wait(self) -> None:
        if self._writer is not None:
            raise RuntimeError("two tasks write to one stream")
        self._writer = self._wait()
        try:
            await self._writer
        finally:
            self._writer = None

    async def _drained(self) -> None:
        while self.backlog:
            await self._write_wait()
        if self._error is not None:
            raise self._error

    def _event(self, mask: int) -> None:
        if self.backlog:
            with suppress(ConnectionError):  # kept in _error, raised where somebody writes
                self.flush()
        writer = self._writer
        if writer is not None and not self.backlog and not writer.done():
            writer.set_result(None)
        reader = self._reader
        if reader is not None:
            if mask & (self.wire.reads_on | BROKEN) and not reader.done():
                reader.set_result(None)
        elif mask & (IN | BROKEN) and not (self.backlog and self.wire.sends_on == IN):
            self._busy = True
            self.want(self._mask & ~IN)
        if self._mask & OUT and not self.backlog and (writer is None or writer.done()):
            self.want(self._mask & ~OUT)

    def _end(self) -> None:
        """And wake whoever waits."""
        super()._end()
        if self._watched:
            self._unwatch()
        if self._reader is not None or self._writer is not None:
            for waiting in (self._reader, self._writer):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(ConnectionAbortedError("closed here"))
