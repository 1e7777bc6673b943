"""The last seconds of a connection that we have ended.

Knows a socket after our FIN. Does not know what was said on it.
Closing while the peer still talks would answer it with a reset, and a reset can cost it our last words.
"""

from __future__ import annotations

import socket

from onedomain.net.poller import Poller

LINGER_SECONDS = 2.0


class Linger:
    """A socket after our FIN: what still comes is read and thrown away until the peer's end, LINGER_SECONDS at most.

    Its descriptor is in the epoll already, for reading.
    """

    __slots__ = ("_fd", "_poller", "_sock", "_until")

    def __init__(self, poller: Poller, sock: socket.socket) -> None:
        self._poller = poller
        self._sock = sock
        self._fd = sock.fileno()
        self._until = poller.loop.time() + LINGER_SECONDS
        poller.attach(self._fd, self._event)
        poller.watch(self)

    def sweep(self, now: float) -> None:
        if now >= self._until:
            self._close()

    def _event(self, mask: int) -> None:
        try:
            # Not SSLSocket's recv_into: after close_notify nothing is deciphered any more.
            if socket.socket.recv_into(self._sock, self._poller.buffer) == 0:
                self._close()
        except BlockingIOError:
            return
        except OSError:
            self._close()

    def _close(self) -> None:
        self._poller.detach(self._fd)
        self._poller.unwatch(self)
        self._sock.close()
