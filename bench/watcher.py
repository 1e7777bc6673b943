"""A reader who sees a folder grow: a session that asks NOOP again and again. IDLE would add what a server makes of it
(Dovecot answers half a second later).

Knows as much IMAP as that takes, over a raw socket: what an answer costs the reader, and SELECT the server, would be in
the figure, as both take it from the same cores. Does not know what is measured.
"""

from __future__ import annotations

import imaplib
import re
import socket
import time

PATIENCE = 20.0
LOOK_EVERY = 0.0005
_EXISTS = re.compile(rb"\* (\d+) EXISTS\r\n")


class Watcher:
    """`session` is logged in. `count` messages are in INBOX as of the last look."""

    def __init__(self, session: imaplib.IMAP4) -> None:
        self._session = session  # its socket ends with it
        self._socket = session.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.count = 0
        self._ask(b"EXAMINE INBOX")

    def until(self, count: int) -> float:
        """When the folder was first seen with so many."""
        until = time.perf_counter() + PATIENCE
        while time.perf_counter() < until:
            self._ask(b"NOOP")
            if self.count >= count:
                return time.perf_counter()
            time.sleep(LOOK_EVERY)
        raise RuntimeError(f"message {count} is not there after {PATIENCE:g} s, but {self.count}")

    def close(self) -> None:
        self._session.logout()

    def _ask(self, command: bytes) -> None:
        self._socket.sendall(b"a %s\r\n" % command)
        self._hear(b"a ")

    def _hear(self, tag: bytes) -> None:
        """Up to the line that begins with `tag`."""
        heard = b""
        while True:
            last = heard.rfind(b"\n", 0, -1) + 1
            if heard.endswith(b"\n") and heard.startswith(tag, last):
                break
            # Cyrus leaves Nagle's algorithm on: the second packet of an answer waits for our word on the first.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            data = self._socket.recv(65536)
            if not data:
                raise RuntimeError("the server has ended the reader's session")
            heard += data
        if not heard.startswith(tag + b"OK", last) and tag == b"a ":
            raise RuntimeError(f"the reader was answered {heard[last:]!r}")
        for found in _EXISTS.finditer(heard):
            self.count = int(found[1])
