"""A connection as callbacks use it: what goes in and out now, what is asked of the poller, TLS, and the end.

Knows a wire, a poller, and what the kernel has not taken yet. Does not wait for anything: streams do (stream.py), and
visits and relays are told. Does not know protocols, nor who the peer ought to be.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from onedomain.net.linger import Linger
from onedomain.net.poller import IN, OUT, Poller
from onedomain.net.wire import BLOCKED, RECORD, Bytes, PlainWire, Source, TlsError, TlsInfo, TlsWire, Wire, broken

SLICE = 65536
"""Most bytes handed to the kernel in one call."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))
"""A peer that vanished without a FIN is noticed after four minutes."""


class Channel:
    """`peer` and `local` are (address, port); a PROXY header replaces them. `tls` is None on a plain connection.

    `on_close` is called once, before TLS says goodbye.
    `backlog`: what was taken from the writer and not yet by the kernel; None where there is nothing.
    """

    __slots__ = (
        "__weakref__", "_busy", "_eof", "_error", "_local", "_mask", "_quick_ack", "_unread", "backlog", "closed", "fd",
        "on_close", "peer", "poller", "tls", "wire",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, peer: tuple[str, int] | None, poller: Poller, *, quick_ack: bool) -> None:
        """Takes over a connected (or connecting) socket, which it makes non-blocking.

        `quick_ack` acknowledges at once, every time: a server that leaves Nagle's algorithm on stalls 40 ms without.
        """
        if sock.gettimeout() != 0:
            sock.setblocking(False)
        self.wire: Wire = PlainWire(sock)
        self.fd = sock.fileno()
        self.peer = peer if peer is not None else _address(sock.getpeername())
        self.poller = poller
        self.tls: TlsInfo | None = None
        self.closed = False
        self.on_close: Callable[[Channel], None] | None = None
        self.backlog: bytearray | None = None
        self._local: tuple[str, int] | None = None
        self._quick_ack = quick_ack
        self._unread = b""
        self._error: ConnectionError | None = None  # of a write; reading goes on, there may be last words
        self._eof = False
        self._busy = False  # more is likely to be there already: try before waiting
        self._mask = 0

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

    # -- in and out

    def unread(self, data: bytes) -> None:
        """Put back bytes; the next read returns them first."""
        self._unread = data + self._unread

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

    # -- TLS

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

    # -- the end

    def keep_alive(self) -> None:
        """Notice a peer that vanishes without a FIN."""
        with suppress(OSError):  # closed by now; or a unix socket
            set_keepalive(self.wire.sock)

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

    def _end(self) -> None:
        """Leave the poller."""
        self.poller.detach(self.fd)
        self._mask = 0
        self.closed = True
        self.backlog = None
        self._unread = b""

    def _acknowledge(self) -> None:
        with suppress(OSError):  # closed by now
            self.wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

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
