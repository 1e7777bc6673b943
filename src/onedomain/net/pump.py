"""A relay: two streams joined, bytes passed both ways by callbacks, no task of its own.

Knows streams, when to stop reading and when all is over. Does not know what the bytes mean: a filter may look at them,
or change them, for as long as it is set. Nothing is kept for an idle session but the two sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import NamedTuple

from onedomain.net.flow import Filter, Flow, Gate
from onedomain.net.stream import Stream

Parting = Callable[[], bytes]
"""What the client is told when the server has ended and it has not; b"" is nothing."""

KEEPALIVE_AFTER = 60.0
"""Seconds after which the connection to the server is told to notice a peer that vanished: most are closed by then."""

LAST_CALL_SECONDS = 30.0
"""How long the server may go on after the client has ended: its commands are still being carried out."""


class End(Enum):
    """Who ended a relay."""

    CLIENT = "client"
    SERVER = "server"
    IDLE = "idle"
    CUT = "cut"


class RelayResult(NamedTuple):
    """upstream and downstream are bytes received from client and server; `reason` says more where there is more.
    `error` is what a filter raised.
    """

    upstream: int
    downstream: int
    ended: End
    reason: str = ""
    error: BaseException | None = None


Over = Callable[[RelayResult], None]


class Relay:
    """`client` and `server` belong to the relay from the call of start() or run().

    `idle` is in seconds without a byte either way.
    """

    __slots__ = (
        "_began", "_down", "_idle", "_last_call", "_over", "_parting", "_poller", "_up", "client", "finished",
        "moved_at", "server",
    )  # fmt: skip

    def __init__(
        self,
        client: Stream,
        server: Stream,
        *,
        upstream: Filter | None = None,
        downstream: Filter | None = None,
        gate: Gate | None = None,
        parting: Parting | None = None,
        idle: float,
    ) -> None:
        self.client = client
        self.server = server
        self.finished = False
        self._poller = client.poller
        self._up = Flow(self, client, server, upstream, gate)
        self._down = Flow(self, server, client, downstream, None)
        self._parting = parting
        self._idle = idle
        self._began = self.moved_at = self._poller.now  # the latter is set by the flows
        self._last_call: float | None = None
        self._over: Over | None = None

    def start(self, over: Over) -> None:
        """Until one side ends it, nothing has moved for `idle` seconds, or cut() was called: then `over` is told, once,
        with the server closed and the client the caller's again, to be closed.
        """
        self._over = over
        self.client.take_over(self._up.event)
        self.server.take_over(self._down.event)
        self._poller.watch(self)
        self._up.begin(self._down)
        self._down.begin(self._up)

    async def run(self) -> RelayResult:
        """The same for who waits; the client is closed, too. Raises what a filter raised."""
        done: asyncio.Future[RelayResult] = self._poller.loop.create_future()
        try:
            self.start(partial(_settle, done))
            result = await done
        finally:
            self._leave()
            # A cancelled task still says goodbye to the client: aclose is bounded.
            await self.client.aclose()
        if result.error is not None:
            raise result.error
        return result

    def cut(self, last_words: bytes = b"", reason: str = "") -> None:
        """End it now, from outside: a home has moved, an account was disabled, the worker stops.

        `last_words`, such as b"* BYE ...", go to the client behind what it has already been sent.
        """
        if self.finished:
            return
        if last_words:
            with suppress(ConnectionError):
                self.client.push(last_words)
        self._finish(End.CUT, reason)

    def skip_down(self, count: int) -> None:
        """Said from within the downstream filter: it need not see the `count` bytes behind what it is looking at."""
        self._down.unseen = count

    def hold_down(self, held: bool) -> None:
        """While held nothing more is read from the server: what a filter keeps back stays all that waits."""
        self._down.hold(held)

    def hold_up(self, rest: bytes) -> None:
        """Said from within the upstream filter: `rest`, the end of what it is looking at, waits here, and nothing more
        is read from the client until `release_up`, which shows it to the filter first."""
        self._up.kept = rest
        self._up.hold(True)

    def release_up(self) -> None:
        """Said from within the downstream filter: once what it is looking at has gone on."""
        self._poller.loop.call_soon(self._release_up)

    def _release_up(self) -> None:
        if not self.finished:
            self._up.hold(False)

    def send_down(self, data: bytes) -> None:
        """What a filter had kept back, to the client."""
        if not self.finished:
            self._down.send(data)

    def sweep(self, now: float) -> None:
        if self._began and now - self._began >= KEEPALIVE_AFTER:
            self._began = 0.0
            self.server.keep_alive()
        if self._last_call is not None and now >= self._last_call:
            self._finish(End.CLIENT, "the server did not end after the client had")
        elif now - self.moved_at >= self._idle:
            self._finish(End.IDLE)

    # -- told by the flows -------------------------------------------------------------------------------------------

    def ended(self, flow: Flow, reason: str) -> None:
        """Everything `flow` will ever carry has been passed on, or can't be."""
        if flow is self._down:
            # Nobody is left to answer the client.
            if self._parting is not None and not self._up.over and (words := self._parting()):
                with suppress(ConnectionError):
                    self.client.push(words)
            self._finish(End.CLIENT if self._up.over else End.SERVER, self._up.reason or reason)
            return
        self.server.wire.half_close()
        self._last_call = self._poller.loop.time() + LAST_CALL_SECONDS

    def failed(self, error: BaseException) -> None:
        self._finish(End.CUT, error=error)

    def _finish(self, ended: End, reason: str = "", error: BaseException | None = None) -> None:
        if not self.finished:
            self.finished = True
            self._up.stop()
            self._down.stop()
            # Not now: whoever noticed it is in the middle of something with these streams.
            self._poller.call_soon(partial(self._tell, ended, reason, error))

    def _tell(self, ended: End, reason: str, error: BaseException | None) -> None:
        over = self._over
        if over is not None:  # else the task that ran it was cancelled meanwhile
            self._leave()
            over(RelayResult(self._up.count, self._down.count, ended, reason, error))

    def _leave(self) -> None:
        self.finished = True
        self._over = self._parting = None
        self._poller.unwatch(self)
        self.server.close()
        self._up.forget()
        self._down.forget()


def _settle(done: asyncio.Future[RelayResult], result: RelayResult) -> None:
    if not done.done():  # cancelled
        done.set_result(result)


async def relay(
    client: Stream,
    server: Stream,
    *,
    upstream: Filter | None = None,
    downstream: Filter | None = None,
    idle: float,
) -> RelayResult:
    """A Relay that nobody needs to cut."""
    return await Relay(client, server, upstream=upstream, downstream=downstream, idle=idle).run()

