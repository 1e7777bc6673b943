"""A POP3 session without a task, from the greeting to the last line of the log, for as long as all is as usual
(entering.py) and the client does no more than look whether there is something new. In every other case, and to read or
remove messages, it goes on as a task (pop3.py), from where it is.

Knows the order of things. Does not know POP3's grammar, nor who may log in.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

from onedomain.backend.base import Begun, Session
from onedomain.edge.entering import READ, Entering
from onedomain.edge.mailbox import ANSWER_SECONDS, Mailbox
from onedomain.edge.pop3 import FOLDER, STOPPING, TOO_LONG, Opened, Pop3Edge, leave, opened
from onedomain.model.failure import Failed
from onedomain.net.handshake import Handshake
from onedomain.net.visit import Host
from onedomain.protocol.pop3.events import Answered, Close, Event, LogIn, Quit, StartTls
from onedomain.protocol.pop3.server import Pop3Options, Pop3Server


class Pop3Visit(Entering):
    __slots__ = ("_again", "_deadline", "_edge", "_event", "_greeted", "_mailbox", "_opened", "_pop3", "_server")

    service = "pop3"

    def __init__(self, edge: Pop3Edge, options: Pop3Options, host: Host, place: str) -> None:
        super().__init__(edge.parts, host, place)
        self._edge = edge
        self._pop3 = Pop3Server(options, secure=False)
        self._greeted = False
        self._event: Event | None = None       # the last that was told, while something is done about it
        self._mailbox: Mailbox | None = None   # from the log-in at the home on
        self._deadline = 0.0                   # of the home's answer, then of the client's next command
        self._opened: Opened | None = None
        self._again: asyncio.Handle | None = None  # of `_go`, where it left the others their turn

    def begin(self) -> None:
        """And again behind STLS."""
        stream = self.stream
        if stream.tls is not None:
            self._pop3.tls_started()
        if not self._greeted:
            self._greeted = True
            self._pop3.greet()
        stream.poller.watch(self)
        if stream.leaving:
            self.as_task()
            return
        if self._go() and stream.tls is not None and stream.wire.buffered():
            self.heard(0)

    def heard(self, mask: int) -> None:
        stream = self.stream
        if self._event is not None:
            # What comes behind the log-in waits in the kernel until that has its answer; so does what comes behind many
            # commands at once.
            stream.ask(reading=False)
            return
        try:
            data = stream.receive(READ)
            if data:
                self._pop3.receive(data)
        except Exception as error:  # noqa: BLE001  see give_up
            self.give_up(error)
            return
        if data:
            self._deadline = stream.poller.now + self._edge.rules.idle
            self._go()
        elif data is not None:
            self._over()
        else:
            stream.ask(reading=True)

    def sweep(self, now: float) -> None:
        if self._mailbox is None:
            super().sweep(now)
        elif now >= self._deadline:
            if self._opened is None:
                self.as_task()
            else:
                self._end(TOO_LONG)

    def leave(self) -> None:
        if self._opened is None:
            self.as_task()

    def abort(self) -> None:
        if self._opened is not None:
            self._end(STOPPING)
        else:
            self._over()

    def _go(self) -> bool:
        """As far as it goes without a task, the client, or the others' turn; whether it still waits for the client."""
        self._again = None
        pop3, stream = self._pop3, self.stream
        try:
            event = self._event = pop3.next_event()
            leaves = isinstance(event, Quit) and not (event.deleted or event.retrieved)
            if leaves:
                pop3.closed()
            if output := pop3.take_output():
                stream.push(output)
            if leaves or isinstance(event, Close):
                self._over(quit_said=leaves)
            elif stream.backlog:
                self.as_task()
            elif event is None:
                stream.ask(reading=True)
                return True
            elif isinstance(event, LogIn):
                self.enter(event.credentials)
            elif isinstance(event, StartTls) and self._parts.tls is not None:
                self._start_tls(self._parts.tls)
            elif isinstance(event, Answered):
                # As the loop's: what the poller calls soon comes before the others have their turn.
                self._again = stream.poller.loop.call_soon(self._go)
            else:
                self.as_task()
        except Exception as error:  # noqa: BLE001  see give_up
            self.give_up(error)
        return False

    def _start_tls(self, context: ssl.SSLContext) -> None:
        self.stream.poller.unwatch(self)
        self._event = None
        self._sweeps = 0
        self._host.visit_becomes(self, Handshake(self._host, self.place, context, self))

    def inside(self, session: Session) -> None:
        """The home has let us in; what is there is part of the log-in."""
        mailbox = self._mailbox = Mailbox(session)
        self._server = session.server
        self._deadline = self.stream.poller.now + ANSWER_SECONDS
        try:
            mailbox.begin_open(FOLDER, self._home_heard)
        except Failed:
            self.as_task()

    def _home_heard(self, mask: int) -> None:
        mailbox, seat = self._mailbox, self._seat
        assert mailbox is not None and seat is not None
        if self._opened is not None:
            mailbox.ignore()
            return
        self._deadline = self.stream.poller.now + ANSWER_SECONDS
        try:
            listed = mailbox.listen()
            if listed is None:
                return
            self._opened, drop = opened(self._parts, seat, self._server, mailbox, listed)
            self.let_in()
            seat.cut = self._end
            self._deadline = self.stream.poller.now + self._edge.rules.idle
            self._pop3.opened(drop)
        except Failed:
            self.as_task()  # which logs in anew, and says what is the matter
            return
        except Exception as error:  # noqa: BLE001  see give_up
            self.give_up(error)
            return
        self._go()

    def _end(self, reason: str) -> None:
        """Nothing more may be written to the home: it may not be the home any more."""
        self._pop3.turn_away("SYS/TEMP", reason)
        try:
            self.stream.push(self._pop3.take_output())
        except ConnectionError as error:
            self._over(error)
        else:
            self._over()

    def give_up(self, error: BaseException) -> None:
        self._over(error)

    def _over(self, error: BaseException | None = None, *, quit_said: bool = False) -> None:
        mailbox, in_there = self._mailbox, self._opened
        self._opened = None
        if in_there is not None:
            leave(self._parts, in_there, self.stream, quit_said=quit_said)
        elif mailbox is not None:
            mailbox.abort()
        if (begun := self.let_go()) is not None:
            begun.close()
        self.end(error, done=quit_said)

    def let_go(self) -> Begun | None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        return super().let_go()

    def as_task(self) -> None:
        opened = self._opened
        if opened is not None:
            self._seat = None  # the task's
            opened.mailbox.give_back()
        elif self._mailbox is not None:
            self._mailbox.abort()
        begun = self.let_go()
        begun = begun.stop() if begun is not None else None
        self.go_on(self._edge.go_on(self.stream, self._pop3, self._event, begun, opened))


def pop3_visits(edge: Pop3Edge) -> partial[Pop3Visit]:
    """For a Listener."""
    return partial(Pop3Visit, edge, edge.options)
