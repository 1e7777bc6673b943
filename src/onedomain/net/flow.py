"""One direction of a relay: what comes from one stream goes to another, past a filter.

Knows two streams, when not to read, and which way costs least. Does not know when the relay is over (pump.py), nor what
the bytes mean.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from onedomain.net.poller import BROKEN, IN, LARGE_SIZE
from onedomain.net.stream import Stream
from onedomain.net.wire import BLOCKED, RECORD, Bytes, Source, broken

Filter = Callable[[bytes], bytes | None]
"""Sees bytes before they are passed. None passes them as they are; bytes go instead of them, b"" keeps them back.
Raising Failed ends the relay; so does any other exception, which run() then raises."""

Gate = Callable[[], bool]
"""Whether bytes of the client may still go to the server; asked before every send. Where it says no it has cut."""

BULK = 16_384
"""A read this large is likely to be followed by many."""

EASY = 8
"""Pieces in a row that the sink took whole, after which they are larger: what it leaves is kept here."""

LITTLE = RECORD
"""Read at once of a peer that sends little: nothing of a TLS record is left behind, of which no event would tell."""


class Joined(Protocol):
    """The relay."""

    moved_at: float

    def ended(self, flow: Flow, reason: str) -> None:
        """Everything it will ever carry has been passed on, or can't be."""
        ...

    def failed(self, error: BaseException) -> None: ...


class Flow:
    """`look` is its filter, `unseen` how many bytes go past it; `held`: nothing is read for now, and `kept` waits.
    `count` is of bytes received; `over`: there will be no more of them."""

    __slots__ = (
        "_back", "_bulk", "_from", "_gate", "_patient", "_poller", "_relay", "_sink_gone", "_stopped", "_taken", "_to",
        "_usual", "count", "held", "kept", "look", "over", "reason", "sink", "source", "unseen",
    )  # fmt: skip

    def __init__(self, relay: Joined, source: Stream, sink: Stream, look: Filter | None, gate: Gate | None) -> None:
        self._relay = relay
        self._poller = source.poller
        self._from: Source = source.source
        self._to = sink.wire.bare
        self._back: Flow | None = None
        self._gate = gate
        self._usual = True  # none of the next four, nor `over`, nor `held`
        self._stopped = False
        self._sink_gone = False
        self._bulk = False
        self._patient = False
        self._taken = 0  # pieces of bulk since the sink last left some of one
        self.look = look
        self.unseen = 0
        self.held = False
        self.kept = b""
        self.source = source
        self.sink = sink
        self.count = 0
        self.over = False
        self.reason = ""

    def begin(self, back: Flow) -> None:
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

    def stop(self) -> None:
        """The relay is over: events say nothing any more."""
        self._stopped = True
        self._usual = False

    def forget(self) -> None:
        """What would keep a circle together, which is garbage that only a search finds. Nothing is asked after this."""
        self.stop()
        self._back = self.look = self._gate = None
        with suppress(AttributeError):  # said twice
            del self._relay

    def event(self, mask: int) -> None:
        """Something happened to the stream that is our source and the sink of the other direction."""
        source = self.source
        if mask == IN and self._usual and source.backlog is None and self.sink.backlog is None:
            self._little()
            return
        if self._stopped:
            return
        if source.backlog is not None and self._back is not None:
            self._back.flush()
        if mask & (source.wire.reads_on | BROKEN):
            self.pump()

    def pump(self) -> None:
        """Read once, what fits the buffer, and pass it on. More waits for the next event: others have their turn."""
        source = self.source
        if self.over or self.held or self.sink.backlog is not None:
            return
        if not self._bulk:
            self._little()
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
            self._passed()
        if end:
            self._end()
        elif count == BLOCKED or self.sink.backlog is not None or self.held:
            self._ask()

    def _little(self) -> None:
        """Some commands, or their answers, as nearly always: by as few calls as can be."""
        try:
            data = self._from.recv(LITTLE)
        except BlockingIOError:
            data = None
        except OSError as error:
            self.reason = str(broken(error))
            self._end()
            return
        if not data:
            if data is None:
                self._ask()
            else:
                self.source.ended()
                self._end()
            return
        self.count += len(data)
        self._relay.moved_at = self._poller.now
        self._pass(data)
        if len(data) >= BULK or not self._usual:
            self._bulk = len(data) >= BULK
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
        self._note_usual()
        kept = b""
        if not held:
            kept, self.kept = self.kept, kept
        if kept:
            self._pass(kept)
        if not self._stopped:
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
                    changed = look(bytes(data[unseen:]) if unseen or type(data) is not bytes else data)
                except Exception as error:  # noqa: BLE001  handed on to whoever waits for the end
                    self._relay.failed(error)
                    self.over = True
                    self._note_usual()
                    return
                if changed is not None:
                    data = bytes(data[:unseen]) + changed if unseen else changed
        sink = self.sink
        if self._gate is not None or self._sink_gone or sink.backlog is not None or not data:
            self.send(data)
            return
        try:
            sent = self._to.send(data)
        except BlockingIOError:
            sent = BLOCKED
        except OSError as error:
            self._lose_sink(sink.failed(error))
            return
        if sent != len(data):
            sink.keep(data, sent)

    def _passed(self) -> None:
        """Where the sink takes all of it, fewer and larger pieces cost less. They are waited for while it is certain
        that so much will come; the kernel tells sooner where its own buffer would not hold as much.
        """
        if self._bulk or self._patient:
            self._taken = 0 if self.sink.backlog is not None else self._taken + 1
            patient = self._taken >= EASY and self.unseen >= 2 * LARGE_SIZE and self.source.tls is None
            if patient is not self._patient:
                self._patient = patient
                with suppress(OSError):  # closed by now; or a unix socket
                    lowest = LARGE_SIZE if patient else 1
                    self.source.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, lowest)
        self._note_usual()

    def _note_usual(self) -> None:
        self._usual = not (
            self._bulk or self._patient or self._sink_gone or self._stopped or self.over or self.held
        )  # fmt: skip

    def _ask(self) -> None:
        """Read on if there is room for it."""
        self.source.ask(reading=not self.over and not self.held and self.sink.backlog is None)

    def _lose_sink(self, error: ConnectionError) -> None:
        """What comes from the source has nowhere to go, but is read on: with a server gone, its last words are still
        on their way to the client, and its end is what ends the relay; with a client gone, the server must not be held
        up in the middle of a command."""
        self._sink_gone = True
        self._note_usual()
        self.reason = self.reason or str(error)
        if self.over:
            self._relay.ended(self, self.reason)
        else:
            self._ask()

    def _end(self) -> None:
        """The source has nothing more."""
        self.over = True
        self._note_usual()
        if self.sink.backlog is None and not self.held:
            self._relay.ended(self, self.reason)
        if not self._stopped:
            self._ask()
