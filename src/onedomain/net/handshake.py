"""A TLS handshake without a task, before the visit that begins when it is done.

Knows when OpenSSL wants to be asked again, and how long a client may take. Does not know what is spoken then. Most of
the time of a handshake nothing happens here: a task and its futures would cost more than all that is done for it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from onedomain.net.stream import HANDSHAKE_SECONDS
from onedomain.net.visit import Visit
from onedomain.net.wire import BLOCKED, TlsWire

if TYPE_CHECKING:
    from onedomain.net.visit import Host


class Handshake(Visit):
    __slots__ = ("_context", "_then", "_until", "_wire")

    def __init__(self, host: Host, place: str, context: ssl.SSLContext, then: Visit) -> None:
        super().__init__(host, place)
        self._context = context
        self._then = then
        self._wire: TlsWire

    def begin(self) -> None:
        stream = self.stream
        self._until = stream.poller.now + HANDSHAKE_SECONDS
        try:
            self._wire = stream.wrap(self._context, server_side=True)
        except ConnectionError as error:
            self.end(error)
            return
        stream.poller.watch(self)
        stream.ask(reading=True)

    def heard(self, mask: int) -> None:
        stream = self.stream
        try:
            blocked = self._wire.handshake() == BLOCKED
        except ConnectionError as error:
            self._give_up(error)
            return
        if blocked:
            stream.ask(reading=True)  # or writing: the wire knows
            return
        stream.poller.unwatch(self)
        stream.secured(self._wire)
        self._host.visit_becomes(self, self._then)

    def sweep(self, now: float) -> None:
        if now >= self._until:
            self._give_up(TimeoutError("the peer took too long"))

    def leave(self) -> None:
        """What comes after it will ask the stream."""
        self.stream.leaving = True

    def abort(self) -> None:
        self._give_up(None)

    def _give_up(self, error: BaseException | None) -> None:
        self.stream.poller.unwatch(self)
        self.end(error)
