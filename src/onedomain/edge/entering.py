"""Logging in to a home without a task, for IMAP and POP3 alike, as long as all is as usual.

As usual is: the client logs in soon; it has done so with the same words from the same address within minutes; nobody
has to wait; and the home, which is up, answers at once and as it always does. Then nothing has to be decided that has
not been decided before. In every other case the session goes on as a task, from where it is.

Knows the order of things. Does not know what the client speaks, nor who may log in (login.py).
"""

from __future__ import annotations

from typing import ClassVar

from onedomain.backend.base import Begun, ClientInfo, Session
from onedomain.edge.imap import MailboxParts, client_info
from onedomain.edge.login import Admission
from onedomain.edge.relays import Seat
from onedomain.net.visit import Host, Visit
from onedomain.protocol.sasl import Credentials

READ = 16_384
SWEEPS = 2
"""Looks at the clock, a second apart, that a client may take for its log-in: who takes longer costs a task."""


class Entering(Visit):
    """`enter` leads to `inside`, with the session at the home, or to `as_task`. Then `let_in` is to be said."""

    __slots__ = ("_admission", "_began", "_begun", "_parts", "_seat", "_sweeps")

    service: ClassVar[str]

    def __init__(self, parts: MailboxParts, host: Host, place: str) -> None:
        super().__init__(host, place)
        self._parts = parts
        self._sweeps = 0
        self._admission: Admission | None = None
        self._seat: Seat | None = None     # from the client's log-in on
        self._begun: Begun | None = None   # while the home is logged in to

    def inside(self, session: Session) -> None:
        raise NotImplementedError

    def as_task(self) -> None:
        """From where it is: what the client has said is read again, what the home has said as well."""
        raise NotImplementedError

    def give_up(self, error: BaseException) -> None:
        """A bug, or a lost connection, as in a listener's task: told there, and hurts no other."""
        raise NotImplementedError

    def sweep(self, now: float) -> None:
        """About once a second."""
        self._sweeps += 1
        if self._begun is not None or self._sweeps >= SWEEPS:
            self.as_task()

    def board_changed(self) -> None:
        """Something is new about some server. What is under way is given up only where that is the home, and down."""
        assert self._admission is not None
        if self._parts.homes.down(self._admission.account.home.primary):
            self.as_task()

    def enter(self, credentials: Credentials) -> None:
        parts, stream = self._parts, self.stream
        admission = parts.log_ins.at_once(credentials, stream.peer[0])
        home = parts.homes.at_once(admission.account) if admission is not None else None
        if admission is None or home is None:
            self.as_task()
            return
        self._seat = parts.relays.take_if_free(admission.account)
        if self._seat is not None:
            self._admission, self._began = admission, stream.poller.now
            self._begun = home.begin(
                admission.account, admission.password_for(home.server), self._client, stream.poller, self._entered
            )
        if self._begun is None:
            self.as_task()
        else:
            parts.homes.waiting.add(self)

    def let_in(self) -> None:
        admission, stream = self._admission, self.stream
        assert admission is not None
        self._admission = None
        self._parts.homes.waiting.discard(self)
        self._parts.log_ins.let_in(admission, stream.peer[0], self.service, stream.poller.now - self._began)

    def let_go(self) -> Begun | None:
        """Of all that it has but the stream; -> the log-in at the home."""
        self.stream.poller.unwatch(self)
        self._parts.homes.waiting.discard(self)
        if self._seat is not None:
            self._parts.relays.release(self._seat)
        begun, self._begun = self._begun, None
        return begun

    def _client(self) -> ClientInfo:
        return client_info(self.stream, self._parts.nonce)

    def _entered(self, session: Session | None) -> None:
        if session is None:
            self.as_task()
            return
        self._begun = None
        assert self._admission is not None
        if not self._parts.homes.still(self._admission.account):
            session.stream.close()
            self.as_task()
            return
        try:
            self.inside(session)
        except Exception as error:  # noqa: BLE001  see give_up
            session.stream.close()
            self.give_up(error)
