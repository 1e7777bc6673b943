"""An IMAP client's session: greeting, log-in, and a relay to the account's home.

Knows the order of things. Does not know IMAP's grammar (protocol/imap), who may log in (login.py), how the home is
spoken to (backend) or what happens between client and home after that (relayed.py).
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from onedomain.backend.base import Begun, ClientInfo, Session
from onedomain.edge.home import Homes
from onedomain.edge.login import Admission, LogIns
from onedomain.edge.relayed import HELD_SECONDS, Fence, NoFence, hidden_from, relayed
from onedomain.edge.relays import Relays, Seat, TooMany
from onedomain.model.failure import Failed, Failure, Kind
from onedomain.model.ports import Changes, Count, Nonce, Trace
from onedomain.net.pump import RelayResult
from onedomain.net.stream import Stream
from onedomain.protocol.imap.capability import through_relay
from onedomain.protocol.imap.front import Close, Event, Front, FrontOptions, LogIn, StartTls
from onedomain.queue.quiet import NoCount


@dataclass(frozen=True, slots=True)
class MailboxParts:
    """What IMAP and POP3 sessions of a worker share. `tls` is for STARTTLS; None: it isn't offered.

    `held_seconds`: how long the OK of an APPEND may wait for the replica.
    """

    log_ins: LogIns
    homes: Homes
    relays: Relays
    trace: Trace
    changes: Changes
    nonce: Nonce
    tls: ssl.SSLContext | None = None
    fence: Fence = field(default_factory=NoFence)
    count: Count = field(default_factory=NoCount)
    held_seconds: float = HELD_SECONDS


@dataclass(frozen=True, slots=True)
class ImapRules:
    """Seconds: until somebody has logged in, and without a byte after that (RFC 9051 section 5.4: at least 1800).

    `attempts`: refused log-ins until the connection is ended.
    """

    name: str = "OneDomain"
    plaintext_login: bool = False
    log_in: float = 180.0
    idle: float = 1860.0
    attempts: int = 10


@dataclass(frozen=True, slots=True)
class ImapEdge:
    """The handler of an IMAP listener."""

    parts: MailboxParts
    rules: ImapRules = field(default_factory=ImapRules)

    @property
    def options(self) -> FrontOptions:
        return FrontOptions(self.rules.name, self.parts.tls is not None, self.rules.plaintext_login)

    async def __call__(self, stream: Stream) -> None:
        await _ImapSession(stream, self, self._greeting(stream)).run()

    def _greeting(self, stream: Stream) -> Front:
        front = Front(self.options, secure=stream.tls is not None)
        front.greet()
        return front

    async def go_on(self, stream: Stream, front: Front, event: Event | None, begun: Begun | None) -> None:
        """A session that began without a task (imap_visit.py): `event` is the last that `front` told, if nothing has
        been done about it yet but what `begun` is.
        """
        session = _ImapSession(stream, self, front, event, begun)
        del front, event, begun  # not to be kept for the hours of a relay
        await session.run()


class _Entered(NamedTuple):
    """What is left of a log-in phase; the rest of it needn't be kept for the hours of a relay.

    `answer` is the tagged OK, `rest` what the client sent behind its log-in, `program` what it calls itself.
    """

    seat: Seat
    session: Session
    answer: bytes
    rest: bytes
    program: str


class _ImapSession:
    __slots__ = ("_begun", "_event", "_front", "_parts", "_refused", "_rules", "_stream")

    def __init__(
        self, stream: Stream, edge: ImapEdge, front: Front, event: Event | None = None, begun: Begun | None = None
    ) -> None:
        self._stream = stream
        self._parts = edge.parts
        self._rules = edge.rules
        self._front: Front | None = front  # until somebody has logged in
        self._event = event
        self._begun = begun
        self._refused = 0

    async def run(self) -> None:
        try:
            entered = await self._log_in_phase()
        finally:
            self._front = None
            if self._begun is not None:
                self._begun.close()
        if entered is not None:
            try:
                await self._relay(entered)
            finally:
                self._parts.relays.release(entered.seat)

    async def _log_in_phase(self) -> _Entered | None:
        stream, rules, front = self._stream, self._rules, self._front
        assert front is not None
        stream.deadline = asyncio.get_running_loop().time() + rules.log_in
        try:
            return await self._until_logged_in(front)
        except TimeoutError:
            front.end("", "Too long without a log-in.")
            stream.write_nowait(front.take_output())
            return None
        except asyncio.CancelledError:
            front.end("UNAVAILABLE", "The server is shutting down.")
            with suppress(ConnectionError):
                stream.write_nowait(front.take_output())
            raise

    async def _until_logged_in(self, front: Front) -> _Entered | None:
        stream = self._stream
        while True:
            event, self._event = self._event, None
            if event is None:
                event = front.next_event()
            output = front.take_output()
            if output:
                stream.write_nowait(output)
            match event:
                case None:
                    data = await stream.rest()
                    if not data:
                        return None
                    front.receive(data)
                case LogIn():
                    entered = await self._log_in(front, event)
                    if entered is not None:
                        return entered
                    if self._refused >= self._rules.attempts:
                        front.end("", "Too many failed log-ins.")
                        stream.write_nowait(front.take_output())
                        return None
                case StartTls():
                    await start_tls(stream, self._parts.tls)
                    front.tls_started()
                case Close():
                    return None

    async def _log_in(self, front: Front, event: LogIn) -> _Entered | None:
        parts = self._parts
        client = client_info(self._stream, parts.nonce)

        async def enter(admission: Admission) -> tuple[Seat, Session]:
            begun, self._begun = self._begun, None
            return await take_seat(parts, admission, client, begun)

        try:
            _, (seat, session) = await parts.log_ins.log_in(event.credentials, client.address, "imap", enter)
        except TooMany as error:
            front.refuse("LIMIT", error.failure.text)
        except Failed as error:
            front.refuse(_code(error.failure), error.failure.text)
            self._refused += error.failure.kind is Kind.REFUSE
        else:
            hidden = hidden_from(seat.account)
            front.accept(through_relay(session.capabilities, hidden), session.text or "Logged in.")
            program = front.client_id.get("name", "")
            return _Entered(seat, session, front.take_output(), front.take_rest(), program)
        return None

    async def _relay(self, entered: _Entered) -> None:
        parts, client = self._parts, self._stream
        seat, session, answer, rest, program = entered
        joined = relayed(seat, client, session, parts, self._rules.idle)
        client.unread(rest)
        client.write_nowait(answer)
        result = await joined.run()
        note_logout(parts, seat, client, session.server, result, program)


def note_logout(
    parts: MailboxParts, seat: Seat, client: Stream, server: str, result: RelayResult, program: str = ""
) -> None:
    parts.trace.note(
        "logout",
        account=seat.account.address,
        client=client.peer[0],
        service="imap",
        server=server,
        upstream=result.upstream,
        downstream=result.downstream,
        ended=result.ended.value,
        reason=result.reason,
        program=program,
    )


async def take_seat(
    parts: MailboxParts, admission: Admission, client: ClientInfo, begun: Begun | None = None
) -> tuple[Seat, Session]:
    """A place among the account's sessions and a session at its home: both, or Failed. `begun` is used up."""
    try:
        admission = await parts.homes.settled(admission)
        seat = parts.relays.take(admission.account)
    except BaseException:
        if begun is not None:
            begun.close()
        raise
    try:
        return seat, await parts.homes.enter(admission, client, begun)
    except BaseException:
        parts.relays.release(seat)
        raise


async def start_tls(stream: Stream, context: ssl.SSLContext | None) -> None:
    """As asked by the client. Raises ConnectionError also for a handshake that takes too long: after it nothing can be
    said any more."""
    if context is None:
        raise ConnectionAbortedError("STARTTLS without TLS")
    try:
        await stream.start_tls(context, server_side=True)
    except TimeoutError as error:
        raise ConnectionAbortedError("the TLS handshake took too long") from error


def client_info(stream: Stream, nonce: Nonce) -> ClientInfo:
    return ClientInfo(*stream.peer, *stream.local, session=nonce.token(8).hex())


def _code(failure: Failure) -> str:
    """RFC 5530."""
    return "AUTHENTICATIONFAILED" if failure.kind is Kind.REFUSE else "UNAVAILABLE"
