"""A relay: two streams joined, bytes passed both ways by callbacks, no task of its own.

Knows streams, when to stop reading and when all is over. Does not know what the bytes mean: a filter may look at them,
or change them. Nothing is kept for an idle session but the two sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from onedomain.net.poller import BROKEN, RECEIVE_SIZE, Poller
from onedomain.net.stream import Stream
from onedomain.net.wire import BLOCKED, RECORD, Bytes

Filter = Callable[[bytes], bytes | None]
"""Sees bytes before they are passed. None passes them as they are; bytes go instead of them, b"" keeps them back.
Raising Failed ends the relay; so does any other exception, which run() then raises."""

LAST_CALL_SECONDS = 30.0
"""How long the server may go on after the client has ended: its commands are still being carried out."""


class End(Enum):
    """Who ended a relay."""

    CLIENT = "client"
    SERVER = "server"
    IDLE = "idle"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class RelayResult:
    """upstream and downstream are bytes received from client and server; `reason` says more where there is more."""

    upstream: int
    downstream: int
    ended: End
    reason: str = ""


class Relay:
    """`client` and `server` belong to the relay from the call of run(), and are closed when it returns.

    `idle` is in seconds without a byte either way.
    """

    __slots__ = ("_done", "_down", "_idle", "_last", "_last_call", "_poller", "_up", "client", "server")

    def __init__(
        self,
        client: Stream,
        server: Stream,
        *,
        upstream: Filter | None = None,
        downstream: Filter | None = None,
        idle: float,
    ) -> None:
        self.client = client
        self.server = server
        self._poller = Poller.running()
        self._up = _Flow(self, client, server, upstream, self._poller.buffer)
        self._down = _Flow(self, server, client, downstream, self._poller.buffer)
        self._idle = idle
        self._last = self._poller.loop.time()
        self._last_call: float | None = None
        self._done: asyncio.Future[tuple[End, str]] = self._poller.loop.create_future()

    async def run(self) -> RelayResult:
        """Until one side ends it, nothing has moved for `idle` seconds, or cut() was called.

        Raises what a filter raised.
        """
        try:
            self.client.take_over(self._client_event)
            self.server.take_over(self._server_event)
            self._poller.watch(self)
            for flow in (self._up, self._down):
                flow.begin()
            ended, reason = await self._done
        finally:
            self._poller.unwatch(self)
            self.server.close()
            # A cancelled task still says goodbye to the client: aclose is bounded.
            await self.client.aclose()
        return RelayResult(self._up.count, self._down.count, ended, reason)

    def cut(self, last_words: bytes = b"", reason: str = "") -> None:
        """End it now, from outside: a home has moved, an account was disabled, the worker stops.

        `last_words`, such as b"* BYE ...", go to the client behind what it has already been sent.
        """
        if self._done.done():
            return
        if last_words:
            with suppress(ConnectionError):
                self.client.push(last_words)
        self._finish(End.CUT, reason)

    def sweep(self, now: float) -> None:
        if self._last_call is not None and now >= self._last_call:
            self._finish(End.CLIENT, "the server did not end after the client had")
        elif now - self._last >= self._idle:
            self._finish(End.IDLE)

    # -- told by the flows -------------------------------------------------------------------------------------------

    def moved(self) -> None:
        self._last = self._poller.now

    def ended(self, flow: _Flow, reason: str) -> None:
        """Everything `flow` will ever carry has been passed on, or can't be."""
        if flow is self._down:
            # Nobody is left to answer the client.
            self._finish(End.CLIENT if self._up.over else End.SERVER, self._up.reason or reason)
            return
        self.server.wire.half_close()
        self._last_call = self._poller.loop.time() + LAST_CALL_SECONDS

    def failed(self, error: BaseException) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    def _finish(self, ended: End, reason: str = "") -> None:
        if not self._done.done():
            self._done.set_result((ended, reason))

    # -- events ------------------------------------------------------------------------------------------------------

    def _client_event(self, mask: int) -> None:
        self._event(mask, self._up, self._down)

    def _server_event(self, mask: int) -> None:
        self._event(mask, self._down, self._up)

    def _event(self, mask: int, away: _Flow, towards: _Flow) -> None:
        """Something happened to the stream that is the source of `away` and the sink of `towards`."""
        if self._done.done():
            return
        if towards.sink.pending:
            towards.flush()
        if mask & (away.source.wire.reads_on | BROKEN):
            away.pump()


class _Flow:
    """One direction."""

    __slots__ = ("_buffer", "_filter", "_relay", "_sink_gone", "count", "over", "reason", "sink", "source")

    def __init__(self, relay: Relay, source: Stream, sink: Stream, look: Filter | None, buffer: memoryview) -> None:
        self._relay = relay
        self._buffer = buffer  # one for the whole process
        self._filter = look
        self._sink_gone = False
        self.source = source
        self.sink = sink
        self.count = 0
        self.over = False
        self.reason = ""

    def begin(self) -> None:
        """Pass on what the log-in phase read too much of, then whatever comes."""
        early = self.source.take_unread()
        if early:
            self.count += len(early)
            self._pass(early)
        if self.source.wire.buffered():
            self.pump()
        else:
            self._ask()

    def pump(self) -> None:
        """Read once, what fits the buffer, and pass it on. More waits for the next event: others have their turn."""
        source = self.source
        if self.over or self.sink.pending:
            return
        buffer = self._buffer
        filled = count = 0
        end = False
        try:
            while True:
                count = source.receive_into(buffer[filled:] if filled else buffer)
                if count <= 0:
                    end = count == 0
                    break
                filled += count
                # A full record is likely to have another behind it; 64 kB then go out in one call.
                if source.tls is None or count < RECORD or filled > RECEIVE_SIZE - RECORD:
                    break
        except ConnectionError as error:
            end = True
            self.reason = str(error)
        if filled:
            self.count += filled
            self._relay.moved()
            self._pass(buffer[:filled])
        if end:
            self._end()
        elif self.sink.pending or count == BLOCKED:
            self._ask()

    def flush(self) -> None:
        """The sink may have room again."""
        try:
            if self.sink.flush():
                self._ask()
                if self.over:
                    self._relay.ended(self, self.reason)
        except ConnectionError as error:
            self._lose_sink(error)
        self._relay.moved()

    def _pass(self, data: Bytes) -> None:
        if self._filter is not None:
            try:
                changed = self._filter(bytes(data))
            except Exception as error:  # noqa: BLE001  raised again by run()
                self._relay.failed(error)
                self.over = True
                return
            if changed is not None:
                data = changed
        if self._sink_gone or not data:
            return
        try:
            self.sink.push(data)
        except ConnectionError as error:
            self._lose_sink(error)

    def _ask(self) -> None:
        """Read on if there is room for it."""
        self.source.ask(reading=not self.over and not self.sink.pending)

    def _lose_sink(self, error: ConnectionError) -> None:
        """What comes from the source has nowhere to go, but is read on: with a server gone, its last words are still
        on their way to the client, and its end is what ends the relay; with a client gone, the server must not be held
        up in the middle of a command."""
        self._sink_gone = True
        self.reason = self.reason or str(error)
        if self.over:
            self._relay.ended(self, self.reason)
        else:
            self._ask()

    def _end(self) -> None:
        """The source has nothing more."""
        self.over = True
        self._ask()
        if not self.sink.pending:
            self._relay.ended(self, self.reason)


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

