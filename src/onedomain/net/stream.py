"""A connection as coroutines read and write it: log-in phases, SMTP, LMTP, probes.

Knows when to wait and for how long. Does not know protocols, nor who the peer ought to be. At most one task reads and
one writes. A relay takes a stream over through `take_over` and uses the part below the line.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from onedomain.model.failure import Failed, refuse
from onedomain.net.linger import Linger
from onedomain.net.poller import BROKEN, IN, OUT, Callback, Poller
from onedomain.net.wire import BLOCKED, RECORD, Bytes, PlainWire, Source, TlsError, TlsInfo, TlsWire, Wire, broken

SLICE = 65536
"""Most bytes handed to the kernel in one call."""

MAX_PENDING = 1 << 20
"""Bytes that write_nowait may leave behind for a peer that does not read its replies."""

HANDSHAKE_SECONDS = 30.0
CLOSE_SECONDS = 5.0
"""How long aclose waits for the peer to take what was written."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))
"""A peer that vanished without a FIN is noticed after four minutes."""

_TURNS = 16
"""Reads or writes one task may do in a row before the others have theirs."""


class Stream:
    """`peer` and `local` are (address, port); a PROXY header replaces them. `tls` is None on a plain connection.

    `on_close` is called once, before TLS says goodbye.
    `resting` is true while its session may be ended without a loss, see `rest`; `leaving` asks it to end then.
    `deadline` is in loop.time(); looked at once a second, while something waits. None is no limit.
    `backlog`: what was taken from the writer and not yet by the kernel; None where there is nothing.
    read and write raise TimeoutError past the deadline, ConnectionError when the connection broke or was closed.
    """

    __slots__ = (
        "__weakref__", "_busy", "_eof", "_error", "_local", "_mask", "_quick_ack", "_reader", "_turns", "_unread",
        "_watched", "_writer", "backlog", "closed", "deadline", "fd", "leaving", "on_close", "peer", "poller",
        "resting", "tls", "wire",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        *,
        peer: tuple[str, int] | None = None,
        quick_ack: bool = False,
        poller: Poller | None = None,
        callback: Callback | None = None,
    ) -> None:
        """Takes over a connected (or connecting) socket, which it makes non-blocking.

        `quick_ack` acknowledges at once, every time: a server that leaves Nagle's algorithm on stalls 40 ms without.
        `callback` gets its events from the start, as after `take_over`.
        """
        if sock.gettimeout() != 0:
            sock.setblocking(False)
        self.wire: Wire = PlainWire(sock)
        self.fd = sock.fileno()
        self.peer = peer if peer is not None else _address(sock.getpeername())
        self.tls: TlsInfo | None = None
        self.deadline: float | None = None
        self.closed = self.resting = self.leaving = False
        self.on_close: Callable[[Stream], None] | None = None
        self._local: tuple[str, int] | None = None
        self._quick_ack = quick_ack
        self._unread = b""
        self.backlog: bytearray | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._error: ConnectionError | None = None  # of a write; reading goes on, there may be last words
        self._eof = False
        self._busy = False  # more is likely to be there already: try before waiting
        self._turns = 0
        self._mask = 0
        self._watched = False
        self.poller = poller if poller is not None else Poller.running()
        if callback is not None:
            self.poller.attach(self.fd, callback)
        else:
            self.give_back()

    def __repr__(self) -> str:
        return f"<Stream {self.peer[0]}:{self.peer[1]}{' TLS' if self.tls else ''}{' closed' if self.closed else ''}>"

    @property
    def local(self) -> tuple[str, int]:
        if self._local is None:
            self._local = _address(self.wire.sock.getsockname())
        return self._local

    @local.setter
    def local(self, address: tuple[str, int]) -> None:
        self._local = address

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

    def unread(self, data: bytes) -> None:
        """Put back bytes; the next read returns them first."""
        self._unread = data + self._unread

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

    def part(self, *, done: bool = False) -> None:
        """Say goodbye in both TLS and TCP, and close; what the kernel has not taken is lost.

        `done`: the peer has said that it says nothing more, so nothing it sends can turn our last words into a reset.
        """
        if self.closed:
            return
        self._tell()
        if self._error is None:
            self.wire.say_goodbye()
        if done or self._error is not None:
            self.close()
            return
        self.wire.half_close()
        if self._eof:
            self.close()
        else:
            self._linger()

    def leave(self) -> None:
        """`part` from a peer that was asked to end, and does so first: then it is its port, not ours, that the
        connection is remembered by for a minute. What it still says is thrown away.
        """
        if self.closed:
            return
        self._tell()
        if self._error is None and not self._eof and not self.backlog:
            self.wire.say_goodbye()
            self._linger()
        else:
            self.close()

    def close(self) -> None:
        """At once; unsent bytes are lost. Whoever waits gets ConnectionAbortedError."""
        if self.closed:
            return
        self._tell()
        self._end()
        self.wire.sock.close()

    # -- for who shakes hands without a task

    def wrap(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> TlsWire:
        """TLS from here on, beginning with its handshake. TlsError, ConnectionError: closed."""
        try:
            # The new socket takes the descriptor over from the plain one, and closes it if it fails after that.
            sock = context.wrap_socket(
                self.wire.sock,
                server_side=server_side,
                do_handshake_on_connect=False,
                server_hostname=server_hostname,
                session=session,
            )
        except (OSError, ValueError) as error:
            self.close()
            raise broken(error) if isinstance(error, OSError) else TlsError(str(error)) from None
        self.wire = wire = TlsWire(sock)
        return wire

    def secured(self, wire: TlsWire) -> None:
        """The handshake is done."""
        self.tls = wire.info()
        self._busy = True  # the peer may have spoken in the same packet

    # -- for the pump and the dialler -------------------------------------------------------------------------------

    def receive(self, limit: int) -> bytes | None:
        """What is there now; b"" at the end, None if nothing is there yet."""
        if self._eof:
            return b""
        if self.closed:
            raise ConnectionAbortedError("closed here")
        data = self.wire.receive(limit)
        if data is None:
            self._busy = False
            return None
        if self._quick_ack:
            self._acknowledge()
        if data:
            self._busy = len(data) >= limit or (self.tls is not None and len(data) >= RECORD)
        else:
            self._eof = True
        return data

    def receive_into(self, view: memoryview) -> int:
        """Like `receive`, into a buffer: a count, 0 at the end, BLOCKED."""
        if self._eof:
            return 0
        if self.closed:
            raise ConnectionAbortedError("closed here")
        count = self.wire.receive_into(view)
        if count == 0:
            self._eof = True
        elif count > 0 and self._quick_ack:
            self._acknowledge()
        return count

    @property
    def source(self) -> Source:
        """Reads as `receive` does, by as few calls as can be: it may raise what the kernel raises, and the end is to be
        told by `ended`.
        """
        return self if self._quick_ack else self.wire.bare

    recv = receive

    def ended(self) -> None:
        """Its end was read past us."""
        self._eof = True

    def take_unread(self) -> bytes:
        data, self._unread = self._unread, b""
        return data

    def push(self, data: Bytes) -> bool:
        """Send, or keep for later what the kernel does not take. True when nothing is left. ConnectionError."""
        if self._error is not None:
            raise self._error
        if self.closed:
            raise ConnectionAbortedError("closed here")
        if self.backlog:
            self.backlog += data
            return False
        if not data:
            return True
        try:
            sent = self.wire.send(data)
        except ConnectionError as error:
            self._error = error
            raise
        if sent == len(data):
            return True
        self.keep(data, sent)
        return False

    def keep(self, data: Bytes, sent: int) -> None:
        """The wire has taken `sent` of it, or was BLOCKED: the rest is the backlog."""
        self.backlog = bytearray(data if sent == BLOCKED else memoryview(data)[sent:])
        self.want(self._mask | self.wire.sends_on)

    def failed(self, error: OSError) -> ConnectionError:
        """The wire could not send: nobody need try again."""
        self._error = broken(error)
        return self._error

    def flush(self) -> bool:
        """Send what push kept. True when nothing is left. ConnectionError, after which nothing is."""
        out = self.backlog
        try:
            while out:
                with memoryview(out) as whole, whole[:SLICE] as part:
                    sent = self.wire.send(part)
                if sent == BLOCKED:
                    self.want(self._mask | self.wire.sends_on)
                    return False
                del out[:sent]
        except ConnectionError as error:
            self._error = error
            raise
        finally:
            if not out or self._error is not None:
                self.backlog = None
                self.want(self._mask & ~OUT)
        return True

    @property
    def pending(self) -> int:
        """Bytes that push kept."""
        return len(self.backlog) if self.backlog else 0

    @property
    def at_end(self) -> bool:
        return self._eof

    def want(self, mask: int) -> None:
        """Ask for these events and no others."""
        if mask != self._mask and not self.closed:
            self.poller.interest(self.fd, self._mask, mask)
            self._mask = mask

    def ask(self, *, reading: bool) -> None:
        """Ask for what can happen next: something to read if `reading`, room for what push kept."""
        mask = (self.wire.reads_on if reading else 0) | (self.wire.sends_on if self.backlog else 0)
        if mask != self._mask:
            self.want(mask)

    def take_over(self, callback: Callback) -> None:
        """From now on events go to `callback`, and no deadline is looked at; aclose() takes back what it needs."""
        if not self.closed:
            self.poller.attach(self.fd, callback)
            self._unwatch()

    def keep_alive(self) -> None:
        """Notice a peer that vanishes without a FIN."""
        with suppress(OSError):  # closed by now; or a unix socket
            set_keepalive(self.wire.sock)

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

    # -- within ------------------------------------------------------------------------------------------------------

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

    def _acknowledge(self) -> None:
        with suppress(OSError):  # closed by now
            self.wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _end(self) -> None:
        """Leave the poller and wake whoever waits."""
        self.poller.detach(self.fd)
        if self._watched:
            self._unwatch()
        self._mask = 0
        self.closed = True
        self.backlog = None
        self._unread = b""
        if self._reader is not None or self._writer is not None:
            for waiting in (self._reader, self._writer):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(ConnectionAbortedError("closed here"))

    def _tell(self) -> None:
        if self.on_close is not None:
            self.on_close(self)
            self.on_close = None

    def _linger(self) -> None:
        self.want(IN)
        self._mask = 0  # the descriptor stays in the epoll, for Linger
        self._end()
        Linger(self.poller, self.wire.sock)


def set_keepalive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _address(name: tuple[str, int] | tuple[str, int, int, int] | str) -> tuple[str, int]:
    """What getpeername gives, without IPv6's flow and scope; a unix socket has a path, or nothing."""
    return (str(name), 0) if isinstance(name, str) else (name[0], name[1])
