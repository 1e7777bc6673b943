"""An SMTP session without a task, from the greeting to QUIT, for as long as there is nothing to wait for but the client
and the sync of what it sent.

Knows the order of things. Does not know what follows from what was said (smtp_talk.py). Where there is more to wait for
(TLS, a log-in, a disk in the middle of a large message, a level beyond the spool, a client that does not read), or its
time has run out, the session goes on as a task (smtp.py) from where it is.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any

from onedomain.edge.smtp import READ, READ_COMMANDS, SmtpEdge
from onedomain.edge.smtp_talk import SmtpTalk
from onedomain.net.visit import Host, Visit


class SmtpVisit(Visit):
    __slots__ = ("_committing", "_edge", "_talk")

    def __init__(self, edge: SmtpEdge, host: Host, place: str) -> None:
        super().__init__(host, place)
        self._edge = edge
        self._talk: SmtpTalk
        self._committing = False

    def begin(self) -> None:
        stream, edge = self.stream, self._edge
        talk = self._talk = SmtpTalk(stream, edge.parts, edge.rules)
        talk.resume = self._committed
        stream.poller.watch(self)
        talk.greet()
        if stream.leaving:
            self._as_task()
            return
        self._go()
        if stream.tls is not None and stream.wire.buffered():
            self.heard(0)

    def heard(self, mask: int) -> None:
        stream, talk = self.stream, self._talk
        if self._committing:
            stream.ask(reading=False)  # what comes behind a message waits in the kernel until that has its answer
            return
        try:
            # Of a TLS record nothing may be left behind: no event would tell of it.
            data = stream.receive(READ if talk.message is not None or stream.tls is not None else READ_COMMANDS)
        except ConnectionError as error:
            self._over(error)
            return
        if data:
            talk.server.receive(data)
            self._go()
        elif data is not None:
            self._over()
        else:
            stream.ask(reading=True)

    def sweep(self, now: float) -> None:
        """About once a second."""
        if not self._committing and now >= self._talk.deadline():
            self._as_task()

    def leave(self) -> None:
        if self._committing:
            self.stream.leaving = True  # as soon as that has its answer
        else:
            self._as_task()

    def abort(self) -> None:
        self._over()

    def _committed(self, error: BaseException | None) -> None:
        self._committing = False
        if error is not None:
            self._over(error)
        elif self.stream.leaving:
            self._as_task()
        else:
            self._go()

    def _go(self) -> None:
        """As far as it goes without the client."""
        talk, stream = self._talk, self.stream
        server = talk.server
        try:
            while not talk.over and (event := server.next_event()) is not None:
                if (work := talk.take(event)) is not None:
                    self._as_task(work)
                    return
                if server.waits:
                    self._committing = True
                    return
            if output := server.take_output():
                talk.answered = stream.poller.now
                stream.push(output)
            if talk.acknowledged:
                talk.told()
        except Exception as error:  # noqa: BLE001  as in a listener's task: told there, and hurts no other
            self._over(error)
            return
        if talk.over:
            # Whoever has said QUIT says nothing more.
            self._over(done=talk.failure is None)
        elif stream.backlog:
            self._as_task()
        else:
            stream.ask(reading=True)

    def _over(self, error: BaseException | None = None, *, done: bool = False) -> None:
        self._let_go()
        self._talk.forget_message()
        self.end(error, done=done)

    def _as_task(self, work: Coroutine[Any, Any, None] | None = None) -> None:
        self._let_go()
        self.go_on(self._edge.go_on(self.stream, self._talk, work))

    def _let_go(self) -> None:
        self.stream.poller.unwatch(self)
        self._talk.resume = None


def smtp_visits(edge: SmtpEdge) -> partial[SmtpVisit]:
    """For a Listener."""
    return partial(SmtpVisit, edge)
