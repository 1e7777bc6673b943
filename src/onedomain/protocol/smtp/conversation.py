"""The ground that server.py stands on: what came, what is to be sent, which event waits, when patience ends.

Knows lines, queues and counts. Does not know a single command.
"""

from __future__ import annotations

from collections import deque

from onedomain.model.failure import Failure, again, refuse
from onedomain.protocol.smtp.body import Manners
from onedomain.protocol.smtp.event import ASKING, BodyEnd, End, Event, Malformed
from onedomain.protocol.smtp.lines import BadLine, Fault, Input
from onedomain.protocol.smtp.offer import Offer, refusal
from onedomain.protocol.smtp.table import State


class Conversation:
    """The shell's three verbs: receive bytes, take events, take bytes to send."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.state = State.NEW
        self._input = Input()
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()
        self._pending: Event | None = None
        self._errors = 0
        self._idle = 0

    def receive(self, data: bytes) -> None:
        """Bytes from the peer; call only when next_event() gave None. Lost after the end and while TLS is due."""
        if self.state is not State.ENDED and self.state is not State.TLS:
            self._input.receive(data)

    def next_event(self) -> Event | None:
        """The next event, or None when more bytes are needed. The last event that asked for an answer must have it."""
        if self._pending is not None:
            raise RuntimeError(f"{type(self._pending).__name__} has not been answered")
        while not self._events:
            if not self._step():
                return None
        event = self._events.popleft()
        if type(event) in ASKING and not (type(event) is BodyEnd and event.failure is not None):
            self._pending = event
        return event

    @property
    def waits(self) -> bool:
        """Whether the last event taken still needs its answer."""
        return self._pending is not None

    def take_output(self) -> bytes:
        output = b"".join(self._out)
        self._out.clear()
        return output

    def _step(self) -> bool:
        """Makes something of the input: events, replies or both. False when more bytes are needed."""
        raise NotImplementedError

    def end(self, failure: Failure) -> None:
        """Last words of the session: 421 when time or patience is over. What has not been read stays unread."""
        self._out.append(refusal(failure))
        self._pending = None
        self._finish(failure)

    # ---- lines

    def _mended(self, line: BadLine, limit: int) -> bytes | None:
        """The line as it is taken all the same; None when it is not, and has been answered."""
        if line.fault is Fault.TOO_LONG:
            self._refuse_line(refuse(500, "5.5.6", f"line longer than {limit} octets"), line.text)
            return None
        if self.offer.policy.bare is Manners.REFUSE:
            # Postfix ends as well: what follows may be meant for somebody else's session
            self._refuse_and_end(refuse(521, "5.5.2", "bare LF received, lines must end in CRLF"), line.text)
            return None
        return line.text

    def _refuse_line(self, failure: Failure, line: bytes) -> None:
        self._out.append(refusal(failure))
        self._events.append(Malformed(failure, self._shown(line)))
        self._count_error(failure)

    def _refuse_and_end(self, failure: Failure, line: bytes) -> None:
        self._out.append(refusal(failure))
        self._events.append(Malformed(failure, self._shown(line)))
        self._finish(failure)

    def _shown(self, line: bytes) -> bytes:
        secret = self.state is State.AUTH or line[:4].upper() == b"AUTH"
        return b"AUTH ..." if secret else line[:80]

    # ---- counting, ending

    def _idly(self, answer: bytes) -> None:
        self._out.append(answer)
        self._count_idle()

    def _count_idle(self) -> None:
        self._idle += 1
        if self._idle > self.offer.limits.idle:
            self._too_many("too many commands without a message")

    def _count_error(self, failure: Failure) -> None:
        if failure.code < 500 or self.state is State.ENDED:
            return
        self._errors += 1
        if self._errors >= self.offer.limits.errors:
            self._too_many("too many errors")

    def _too_many(self, text: str) -> None:
        failure = again(421, "4.7.0", f"{self.offer.name} {text}")
        self._out.append(refusal(failure))
        self._finish(failure)

    def _finish(self, failure: Failure | None) -> None:
        self.state = State.ENDED
        self._input.clear()
        self._events.append(End(failure))
