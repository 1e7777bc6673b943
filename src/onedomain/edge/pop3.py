"""A POP3 client's session, served out of the home's IMAP: so it is the same whichever server keeps the mail.

Knows the order of things, and when messages are removed: at QUIT and never else (RFC 1939 section 6). Does not know
POP3's grammar (protocol/pop3), the home's commands (mailbox.py) or who may log in (login.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from onedomain.backend.base import Begun
from onedomain.edge.home import unavailable
from onedomain.edge.imap import MailboxParts, client_info, start_tls, take_seat
from onedomain.edge.login import Admission
from onedomain.edge.mailbox import Mailbox, NoMessage
from onedomain.edge.relays import Seat, TooMany, may_stay
from onedomain.model.account import Account
from onedomain.model.failure import Failed, Failure, Kind
from onedomain.model.validities import validities
from onedomain.net.stream import Stream
from onedomain.protocol.imap.folder import Listed
from onedomain.protocol.pop3.body import BodyWriter
from onedomain.protocol.pop3.events import Answered, Close, Event, LogIn, Quit, Retrieve, StartTls
from onedomain.protocol.pop3.maildrop import Entry, Maildrop
from onedomain.protocol.pop3.server import Pop3Options, Pop3Server
from onedomain.protocol.pop3.uidl import UidlFormatError, uidl_format

TOP_PIECE = 16_384
"""Bytes asked of the home at a time for TOP: nearly always all that is needed."""

FOLDER = "INBOX"
TOO_LONG = "Too long without a command."
STOPPING = "The server is shutting down."


@dataclass(frozen=True, slots=True)
class Pop3Rules:
    """Seconds: until somebody has logged in; without a command after that (RFC 1939 section 3: at least 600); for the
    client to take what it is sent. `attempts`: refused log-ins until the connection is ended.
    """

    name: str = "OneDomain"
    plaintext_login: bool = False
    log_in: float = 180.0
    idle: float = 600.0
    send: float = 300.0
    attempts: int = 10


@dataclass(frozen=True, slots=True)
class Pop3Edge:
    """The handler of a POP3 listener."""

    parts: MailboxParts
    rules: Pop3Rules = field(default_factory=Pop3Rules)

    @property
    def options(self) -> Pop3Options:
        return Pop3Options(self.rules.name, self.parts.tls is not None, self.rules.plaintext_login)

    async def __call__(self, stream: Stream) -> None:
        pop3 = Pop3Server(self.options, secure=stream.tls is not None)
        pop3.greet()
        await _Pop3Session(stream, self, pop3).run()

    def go_on(
        self, stream: Stream, pop3: Pop3Server, event: Event | None, begun: Begun | None, opened: Opened | None
    ) -> Coroutine[Any, Any, None]:
        """A session that began without a task (pop3_visit.py): `event` is the last that `pop3` told, if nothing has
        been done about it yet but what `begun` is. From now on it can be cut.
        """
        return _Pop3Session(stream, self, pop3, event, begun, opened).run()


@dataclass(slots=True)
class Opened:
    """A log-in that succeeded, and the UIDs that were marked as read already."""

    seat: Seat
    mailbox: Mailbox
    seen: frozenset[int]

    @property
    def account(self) -> Account:
        return self.seat.account


class _Pop3Session:
    def __init__(
        self,
        stream: Stream,
        edge: Pop3Edge,
        pop3: Pop3Server,
        event: Event | None = None,
        begun: Begun | None = None,
        opened: Opened | None = None,
    ) -> None:
        self._stream = stream
        self._parts = edge.parts
        self._rules = edge.rules
        self._pop3 = pop3
        self._event = event
        self._begun = begun
        self._clock = asyncio.get_running_loop().time
        self._opened = opened
        self._sending_body = False
        self._refused = 0
        if opened is not None:
            opened.seat.cut = self._cut

    async def run(self) -> None:
        quit_said = False
        try:
            quit_said = await self._talk()
        except TimeoutError:
            # Messages marked as deleted stay: RFC 1939 section 3.
            if not self._sending_body:
                self._pop3.turn_away("SYS/TEMP", TOO_LONG)
                self._stream.write_nowait(self._pop3.take_output())
        except asyncio.CancelledError:
            self._say_goodbye(STOPPING)
            raise
        finally:
            if self._begun is not None:
                self._begun.close()
            if self._opened is not None:
                leave(self._parts, self._opened, self._stream, quit_said=quit_said)

    async def _talk(self) -> bool:
        """Until the end; True where the client has said QUIT after its log-in."""
        pop3 = self._pop3
        self._stream.deadline = self._clock() + self._rules.log_in
        while True:
            event, self._event = self._event, None
            if event is None:
                event = pop3.next_event()
            await self._send()
            match event:
                case None:
                    if self._opened is not None:
                        self._stream.deadline = self._clock() + self._rules.idle
                    data = await (self._stream.read() if self._opened is not None else self._stream.rest())
                    if not data:
                        return False
                    pop3.receive(data)
                case LogIn():
                    await self._log_in(event)
                    if self._refused >= self._rules.attempts:
                        pop3.turn_away("AUTH", "Too many failed log-ins.")
                        await self._send()
                        return False
                case StartTls():
                    await start_tls(self._stream, self._parts.tls)
                    pop3.tls_started()
                case Retrieve():
                    await self._retrieve(event)
                case Quit():
                    pop3.closed(await self._update(event))
                    await self._send()
                    return True
                case Close():
                    return False
                case Answered():
                    await asyncio.sleep(0)  # the others' turn

    async def _send(self) -> None:
        output = self._pop3.take_output()
        if output:
            if self._opened is not None:
                self._stream.deadline = self._clock() + self._rules.send
            await self._stream.write(output)

    # -- log-in

    async def _log_in(self, event: LogIn) -> None:
        parts = self._parts
        client = client_info(self._stream, parts.nonce)

        async def enter(admission: Admission) -> tuple[Opened, Maildrop]:
            begun, self._begun = self._begun, None
            seat, session = await take_seat(parts, admission, client, begun)
            try:
                mailbox = Mailbox(session)
                return opened(parts, seat, session.server, mailbox, await mailbox.open(FOLDER))
            except BaseException:
                parts.relays.release(seat)
                session.stream.close()
                raise

        try:
            _, (self._opened, drop) = await parts.log_ins.log_in(event.credentials, client.address, "pop3", enter)
        except TooMany as error:
            self._pop3.refuse("IN-USE", error.failure.text)
        except Failed as error:
            self._pop3.refuse(_code(error.failure), error.failure.text)
            self._refused += error.failure.kind is Kind.REFUSE
        else:
            self._opened.seat.cut = self._cut
            self._pop3.opened(drop)

    def _cut(self, reason: str) -> None:
        """From outside. Nothing more may be written to the home: it may not be the home any more."""
        if self._opened is not None:
            self._opened.mailbox.abort()
        self._say_goodbye(reason)
        self._stream.close()

    def _say_goodbye(self, reason: str) -> None:
        if not self._stream.closed and not self._sending_body:
            self._pop3.turn_away("SYS/TEMP", reason)
            with suppress(ConnectionError):
                self._stream.write_nowait(self._pop3.take_output())

    # -- reading and removing

    async def _retrieve(self, event: Retrieve) -> None:
        mailbox = self._logged_in.mailbox
        uid = event.entry.uid
        writer = BodyWriter(event.lines)
        pieces = mailbox.body(uid) if event.lines is None else _top(mailbox, uid, writer)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if isinstance(piece, int):
                        self._pop3.message(piece)
                        await self._send()
                        self._sending_body = True
                    else:
                        await self._write(writer.write(piece))
        except NoMessage as error:
            self._pop3.refuse("", error.failure.text)
            return
        except Failed as error:
            if self._sending_body:
                raise  # ends the connection without the final dot: the client must not take this for the whole
            self._note_trouble(error.failure)
            self._pop3.refuse("SYS/TEMP", error.failure.text)
            return
        await self._write(writer.finish())
        self._sending_body = False
        self._pop3.message_sent(event.entry, whole=event.lines is None)

    async def _write(self, data: bytes) -> None:
        self._stream.deadline = self._clock() + self._rules.send
        await self._stream.write(data)

    async def _update(self, event: Quit) -> str:
        """Removes what was deleted, marks as read what was read; what to say if that failed."""
        opened = self._logged_in
        deleted = {entry.uid for entry in event.deleted}
        read = [e.uid for e in event.retrieved if e.uid not in deleted and e.uid not in opened.seen]
        try:
            if deleted:
                with self._changing("EXPUNGE"):
                    if not await opened.mailbox.remove(deleted):
                        self._parts.trace.note(
                            "pop3 marked only", account=opened.account.address, messages=len(deleted)
                        )
            if read:
                with self._changing("STORE"):
                    await opened.mailbox.flag(read, "\\Seen")
        except Failed as error:
            self._note_trouble(error.failure)
            return "Not all messages could be removed." if deleted else ""
        return ""

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        """Raises Failed before anything is written where this edge is not sure of the home. The change is told when it
        has been made, or perhaps made: a pass of the link that began before could see nothing of it.
        """
        account = self._logged_in.account
        if not self._parts.fence.may_forward(account):
            raise Failed(unavailable(f"this edge does not know where {account.address} lives now"))
        try:
            yield
        finally:
            self._parts.changes.changed(account.address, what, FOLDER)

    @property
    def _logged_in(self) -> Opened:
        if self._opened is None:
            raise RuntimeError("nobody has logged in")
        return self._opened

    # -- the trace

    def _note_trouble(self, failure: Failure) -> None:
        self._parts.trace.note("pop3 failed", account=self._logged_in.account.address, reason=failure.reason)


def opened(
    parts: MailboxParts, seat: Seat, server: str, mailbox: Mailbox, listed: list[Listed]
) -> tuple[Opened, Maildrop]:
    """What the client is shown of the messages there. Raises Failed."""
    account, directory = seat.account, parts.homes.directory
    if not mailbox.can_expunge_uids:
        # What is only marked there was deleted here once: see Mailbox.remove.
        listed = [message for message in listed if not message.deleted]
    # From now on the session can be cut; up to now it was passed over.
    now = directory.account(account.address)
    if now is None or not may_stay(account, now):
        raise Failed(unavailable(f"the home of {account.address} changed during the log-in"))
    if not parts.homes.gate.may_write(now):
        raise Failed(unavailable("this edge lost its lease during the log-in"))
    home = directory.server(server)
    if home is None:
        raise Failed(unavailable(f"server {server} is no more"))
    try:
        form = uidl_format(account.home.uidl or home.uidl_format)
    except UidlFormatError as error:
        raise Failed(unavailable(f"server {server}: {error}")) from None
    shown = validities(account.home.shown).shown(mailbox.uidvalidity)
    drop = Maildrop([Entry(message.uid, message.size, form.make(shown, message.uid)) for message in listed])
    return Opened(seat, mailbox, frozenset([message.uid for message in listed if message.seen])), drop


def leave(parts: MailboxParts, opened: Opened, client: Stream, *, quit_said: bool) -> None:
    """The session is over."""
    parts.relays.release(opened.seat)
    opened.seat.cut = None
    if quit_said:
        opened.mailbox.leave()
    else:
        opened.mailbox.abort()
    ended = "quit" if quit_said else "lost"
    parts.trace.note("logout", account=opened.account.address, client=client.peer[0], service="pop3", ended=ended)


async def _top(mailbox: Mailbox, uid: int, writer: BodyWriter) -> AsyncGenerator[int | bytes]:
    """Pieces until `writer` has what it needs; 0 for the size, which nobody knows."""
    offset = 0
    while not writer.done:
        piece = await mailbox.part(uid, offset, TOP_PIECE)
        if not offset:
            yield 0
        yield piece
        offset += len(piece)
        if len(piece) < TOP_PIECE:
            return


def _code(failure: Failure) -> str:
    """RFC 3206."""
    return "AUTH" if failure.kind is Kind.REFUSE else "SYS/TEMP"
