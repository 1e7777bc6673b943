"""An IMAP session without a task, from the greeting to the last line of the log, for as long as all is as usual
(entering.py). In every other case it goes on as a task (imap.py), from where it is.

Knows the order of things. Does not know IMAP's grammar, nor who may log in.
"""

from __future__ import annotations

import ssl
from functools import partial

from onedomain.backend.base import Session
from onedomain.edge.entering import READ, Entering
from onedomain.edge.imap import ImapEdge, note_logout
from onedomain.edge.relayed import Relayed, hidden_from, relayed
from onedomain.net.handshake import Handshake
from onedomain.net.pump import RelayResult
from onedomain.net.visit import Host
from onedomain.protocol.imap import oneline
from onedomain.protocol.imap.capability import through_relay
from onedomain.protocol.imap.front import Event, Front, FrontOptions, LogIn, StartTls, accepted, greeting


class ImapVisit(Entering):
    __slots__ = (
        "_edge", "_event", "_front", "_greeted", "_greeting", "_joined", "_options", "_program", "_said", "_server",
        "_tag",
    )  # fmt: skip

    service = "imap"

    def __init__(
        self, edge: ImapEdge, options: FrontOptions, greeting: tuple[bytes, bytes], host: Host, place: str
    ) -> None:
        super().__init__(edge.parts, host, place)
        self._edge = edge
        self._options = options
        self._greeting = greeting          # in the clear, and over TLS
        self._greeted = False
        self._said = b""                   # by the client, where no Front has heard it
        self._front: Front | None = None   # made for the first thing that is not a log-in in one line
        self._event: Event | None = None   # the last that it told
        self._joined: Relayed | None = None

    def begin(self) -> None:
        """And again behind STARTTLS."""
        stream = self.stream
        try:
            if not self._greeted:
                self._greeted = True
                stream.push(self._greeting[stream.tls is not None])
        except ConnectionError as error:
            self.end(error)
            return
        stream.poller.watch(self)
        if stream.leaving:
            self.as_task()
            return
        stream.ask(reading=True)
        if stream.tls is not None and stream.wire.buffered():
            self.heard(0)

    def heard(self, mask: int) -> None:
        stream = self.stream
        if self._begun is not None:
            # What comes behind the log-in is the home's, and it waits in the kernel until there is one.
            stream.ask(reading=False)
            return
        try:
            data = stream.receive(READ)
            if data:
                self._read(data)
            elif data is not None:
                self.give_up()
            elif stream.backlog is None:
                stream.ask(reading=True)
            else:
                self.as_task()  # a client that takes nothing, at the greeting
        except Exception as error:  # noqa: BLE001  see give_up
            self.give_up(error)

    def leave(self) -> None:
        if self._joined is None:
            self.as_task()

    def abort(self) -> None:
        if self._joined is not None:
            self._joined.cut("The server is shutting down.")
            return
        self.give_up()

    def give_up(self, error: BaseException | None = None) -> None:
        if (begun := self.let_go()) is not None:
            begun.close()
        self.end(error)

    def _read(self, data: bytes) -> None:
        front, secure = self._front, self.stream.tls is not None
        if front is None:
            line = oneline.log_in(data) if self._options.allows_log_in(secure=secure) else None
            if line is not None:
                self._said, self._tag = data, line.tag
                self.enter(line.credentials)
                return
            front = self._front = Front(self._options, secure=secure)
        front.receive(data)
        event = self._event = front.next_event()
        self.stream.push(front.take_output())
        if isinstance(event, LogIn):
            self.enter(event.credentials)
        elif isinstance(event, StartTls) and self._parts.tls is not None and self.stream.backlog is None:
            self._start_tls(self._parts.tls)
        elif event is not None or self.stream.backlog is not None:
            self.as_task()

    def _start_tls(self, context: ssl.SSLContext) -> None:
        """What came before is forgotten, and so is what came behind it in the clear (RFC 9051 section 11.1)."""
        self._leave_poller()
        self._front = self._event = None
        self._sweeps = 0
        self._host.visit_becomes(self, Handshake(self._host, self.place, context, self))

    def inside(self, session: Session) -> None:
        stream, seat = self.stream, self._seat
        assert seat is not None
        self._leave_poller()
        self._server = session.server
        self.let_in()
        joined = relayed(seat, stream, session, self._parts, self._edge.rules.idle)
        joined.welcome(self._answer(through_relay(session.capabilities, hidden_from(seat.account)), session.text))
        self._joined = joined
        joined.start(self._over)

    def _answer(self, capabilities: tuple[str, ...], text: str) -> bytes:
        """To the log-in; what is left of that is forgotten, as a relay may last for hours."""
        front, text = self._front, text or "Logged in."
        self._front = self._event = None
        self._said, self._program = b"", ""
        if front is None:
            return self._tag + accepted(capabilities, text)
        self._program = front.client_id.get("name", "")
        front.accept(capabilities, text)
        self.stream.unread(front.take_rest())
        return front.take_output()

    def _over(self, result: RelayResult) -> None:
        parts, seat, joined = self._parts, self._seat, self._joined
        assert seat is not None and joined is not None
        parts.relays.release(seat)
        note_logout(parts, seat, self.stream, self._server, result, self._program)
        self.end(result.error, done=joined.done)

    def as_task(self) -> None:
        begun = self.let_go()
        front = self._front
        if front is None:
            front = Front(self._options, secure=self.stream.tls is not None)
            front.receive(self._said)
        begun = begun.stop() if begun is not None else None
        self.go_on(self._edge.go_on(self.stream, front, self._event, begun))

    def _leave_poller(self) -> None:
        self.stream.poller.unwatch(self)


def imap_visits(edge: ImapEdge) -> partial[ImapVisit]:
    """For a Listener."""
    options = edge.options
    return partial(ImapVisit, edge, options, (greeting(options, secure=False), greeting(options, secure=True)))
