"""A relay: two streams joined, bytes passed both ways by callbacks, no task of its own.

Knows streams, when to stop reading and when all is over. Does not know what the bytes mean: a filter may look at them,
or change them, for as long as it is set. Nothing is kept for an idle session but the two sockets.

Plain bulk that no filter wants to see goes from socket to socket inside the kernel (splice(2)).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import NamedTuple

from onedomain.net.poller import BROKEN, LARGE_SIZE, RECEIVE_SIZE
from onedomain.net.stream import Stream
from onedomain.net.wire import BLOCKED, RECORD, Bytes

Filter = Callable[[bytes], bytes | None]
"""Sees bytes before they are passed. None passes them as they are; bytes go instead of them, b"" keeps them back.
Raising Failed ends the relay; so does any other exception, which run() then raises."""

Parting = Callable[[], bytes]
"""What the client is told when the server has ended and it has not; b"" is nothing."""

Gate = Callable[[], bool]
"""Whether bytes of the client may still go to the server; asked before every send. Where it says no it has cut."""

BULK = 16_384
"""A read this large is likely to be followed by many."""

EASY = 32
"""Pieces in a row that the sink took whole, after which they are larger: what it leaves is copied, and kept here."""

KEEPALIVE_AFTER = 60.0
"""Seconds after which the connection to the server is told to notice a peer that vanished: most are closed by then."""

LITTLE = RECORD
"""Read at once of a peer that sends little: nothing of a TLS record is left behind, of which no event would tell."""

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
        self._up = _Flow(self, client, server, upstream, gate)
        self._down = _Flow(self, server, client, downstream, None)
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

    def ended(self, flow: _Flow, reason: str) -> None:
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
            # Not now: whoever noticed it is in the middle of something with these streams.
            self._poller.call_soon(partial(self._tell, ended, reason, error))

    def _tell(self, ended: End, reason: str, error: BaseException | None) -> None:
        over = self._over
        if over is not None:  # else the task that ran it was cancelled meanwhile
            self._leave()
            over(RelayResult(self._up.count, self._down.count, ended, reason, error))

    def _leave(self) -> None:
        self.finished = True
        self._over = None
        self._poller.unwatch(self)
        self.server.close()
        self._up.forget()
        self._down.forget()


class _Flow:
    """One direction. `look` is its filter, `unseen` how many bytes go past it; `held`: nothing is read for now, and
    `kept` waits."""

    __slots__ = (
        "_back", "_bulk", "_gate", "_patient", "_poller", "_relay", "_sink_gone", "_taken", "count", "held",
        "kept", "look", "over", "reason", "sink", "source", "unseen",
    )  # fmt: skip

    def __init__(self, relay: Relay, source: Stream, sink: Stream, look: Filter | None, gate: Gate | None) -> None:
        self._relay = relay
        self._poller = source.poller
        self._back: _Flow | None = None
        self._gate = gate
        self._sink_gone = False
        self._bulk = False
        self.look = look
        self.unseen = 0
        self._taken = 0  # pieces of bulk since the sink last left some of one
        self._patient = False
        self.held = False
        self.kept = b""
        self.source = source
        self.sink = sink
        self.count = 0
        self.over = False
        self.reason = ""

    def begin(self, back: _Flow) -> None:
        """Pass on what the log-in phase read too much of, then whatever comes. `back` is the other direction."""
        self._back = back
        early = self.source.take_unread()
        if early:
            self.count += len(early)
            self._pass(early)
        if self.source.wire.buffered():
            self.pump()
        else:
            self._ask()

    def forget(self) -> None:
        """It is over: what would keep a circle of garbage together."""
        self._back = self.look = self._gate = None

    def event(self, mask: int) -> None:
        """Something happened to the stream that is our source and the sink of the other direction."""
        if self._relay.finished:
            return
        source = self.source
        if source.backlog is not None and self._back is not None:
            self._back.flush()
        if mask & (source.wire.reads_on | BROKEN):
            if self._bulk or self.over or self.held or self.sink.backlog is not None:
                self.pump()
            else:
                self._little()

    def pump(self) -> None:
        """Read once, what fits the buffer, and pass it on. More waits for the next event: others have their turn."""
        source = self.source
        if self.over or self.held or self.sink.backlog is not None:
            return
        if not self._bulk:
            self._little()
            return
        if self._may_splice():
            self._splice()
            return
        buffer = self._poller.buffer if self._taken < EASY else self._poller.large_buffer
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
                if source.tls is None or count < RECORD or filled > len(buffer) - RECORD:
                    break
        except ConnectionError as error:
            end = True
            self.reason = str(error)
        if filled:
            self.count += filled
            self._relay.moved_at = self._poller.now
            self._bulk = filled >= BULK
            self._pass(buffer[:filled])
            if self._bulk or self._patient:
                self._passed()
        if end:
            self._end()
        elif count == BLOCKED or self.sink.backlog is not None or self.held:
            self._ask()

    def _little(self) -> None:
        """Some commands, or their answers, as nearly always: by as few calls as can be."""
        try:
            data = self.source.receive(LITTLE)
        except ConnectionError as error:
            self.reason = str(error)
            self._end()
            return
        if not data:
            if data is None:
                self._ask()
            else:
                self._end()
            return
        self.count += len(data)
        self._relay.moved_at = self._poller.now
        self._bulk = len(data) >= BULK
        self._pass(data)
        if self._patient:
            self._passed()
        if self.sink.backlog is not None or self.held:
            self._ask()

    def flush(self) -> None:
        """The sink may have room again."""
        if self._gate is not None and not self._gate():
            return
        try:
            if self.sink.flush():
                self._ask()
                if self.over and not self.held:
                    self._relay.ended(self, self.reason)
        except ConnectionError as error:
            self._lose_sink(error)
        self._relay.moved_at = self._poller.now

    def hold(self, held: bool) -> None:
        if held == self.held:
            return
        self.held = held
        kept = b""
        if not held:
            kept, self.kept = self.kept, kept
        if kept:
            self._pass(kept)
        if not self._relay.finished:
            self._ask()
            if self.over and not self.held and self.sink.backlog is None:
                self._relay.ended(self, self.reason)

    def send(self, data: Bytes) -> None:
        if self._sink_gone or not data or (self._gate is not None and not self._gate()):
            return
        try:
            self.sink.push(data)
        except ConnectionError as error:
            self._lose_sink(error)

    def _pass(self, data: Bytes) -> None:
        look = self.look
        if look is not None:
            unseen = self.unseen
            if unseen >= len(data):
                self.unseen -= len(data)
            else:
                self.unseen = 0
                try:
                    changed = look(bytes(data[unseen:]))
                except Exception as error:  # noqa: BLE001  handed on to whoever waits for the end
                    self._relay.failed(error)
                    self.over = True
                    return
                if changed is not None:
                    data = bytes(data[:unseen]) + changed if unseen else changed
        self.send(data)

    def _may_splice(self) -> bool:
        return (
            (self.look is None or self.unseen >= BULK)
            and self._gate is None
            and not self._sink_gone
            and self.source.tls is None
            and self.sink.tls is None
        )

    def _splice(self) -> None:
        """Once through the kernel, without a copy. What the sink does not take comes out of the pipe again."""
        limit = RECEIVE_SIZE if self._taken < EASY else LARGE_SIZE
        if self.look is not None:
            limit = min(self.unseen, limit)
        try:
            count, left = self._poller.splice(self.source.fd, self.sink.fd, limit)
        except OSError:
            # Which side it was, and what it means, an ordinary read and write tell.
            count, left = 0, b""
        if not count:
            self._bulk = False
            self.pump()
            return
        self.count += count
        self._relay.moved_at = self._poller.now
        if self.look is not None:
            self.unseen -= count
        self._bulk = count >= BULK
        self.source.received()
        if left:
            self.send(left)
            self._ask()
        self._passed()

    def _passed(self) -> None:
        """Where the sink takes all of it, fewer and larger pieces cost less. They are waited for while it is certain
        that so much will come; the kernel tells sooner where its own buffer would not hold as much.
        """
        self._taken = 0 if self.sink.backlog is not None else self._taken + 1
        patient = self._taken >= EASY and self.unseen >= 2 * LARGE_SIZE and self.source.tls is None
        if patient is not self._patient:
            self._patient = patient
            with suppress(OSError):  # closed by now; or a unix socket
                self.source.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, LARGE_SIZE if patient else 1)

    def _ask(self) -> None:
        """Read on if there is room for it."""
        self.source.ask(reading=not self.over and not self.held and self.sink.backlog is None)

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
        if self.sink.backlog is None and not self.held:
            self._relay.ended(self, self.reason)
        if not self._relay.finished:
            self._ask()


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

