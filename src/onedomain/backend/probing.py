"""Asking a server how it is: one question per face, and now and then a message sent, read back and removed.

Knows what counts as an answer. Does not know how often, nor what the board makes of it. A wrong probe password is the
operator's to mend and no fault of the server's: it answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from onedomain.backend.base import DELIVERY, IMAP, Attempt
from onedomain.backend.finding import found_uids
from onedomain.backend.imap_session import ImapDoor, ImapSession
from onedomain.backend.login import Login, log_in, login_of
from onedomain.backend.names import mailbox_name, recipient_name
from onedomain.backend.smtp_session import Door, SmtpSession
from onedomain.backend.trouble import Trouble
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, again
from onedomain.model.health import Seen, Sighting
from onedomain.model.message import DELIVERY_ID_HEADER, Delivery, Envelope, Outcome, State, Target
from onedomain.model.ports import Nonce
from onedomain.model.server import LoginWay, Server
from onedomain.net.stream import Stream

READ = 65536
QUEUED_SECONDS = 10.0
"""How long a probe message may stay in the queue of a server that has one."""

QUEUED_LOOK_EVERY = 0.5

RAW = b"\x83e\x83X\x83g"
"""A word in Shift_JIS, as raw as many programs in Japan put it into a header."""


class Deliver(Protocol):
    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]: ...


@dataclass(frozen=True, slots=True)
class _Bytes:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    async def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@dataclass(frozen=True, slots=True)
class Manners:
    """What a server does to mail by itself: `suppresses` a second message of the same Message-ID though it says 250,
    `munges` header bytes above 127.
    """

    suppresses: bool
    munges: bool


class Probes:
    """For one server."""

    def __init__(self, server: Server, imap: ImapDoor, delivery: Door, nonce: Nonce) -> None:
        self._server = server
        self._imap = imap
        self._delivery = delivery
        self._nonce = nonce

    async def delivery(self) -> Sighting:
        return await probe_delivery(self._server.name, self._delivery)

    async def imap(self) -> Sighting:
        return await _timed(self._server.name, IMAP, self._ask_imap)

    async def message(self, server: Deliver, account: str) -> Sighting:
        """A message delivered to the probe account `account`, read back over IMAP and removed again."""

        async def whole() -> str:
            return await self._send_and_fetch(server, account)

        return await _timed(self._server.name, DELIVERY, whole)

    async def _ask_imap(self) -> str:
        session = await ImapSession.open(self._imap)
        try:
            if login := self._login():
                try:
                    await log_in(session, login)
                except Failed as error:
                    if isinstance(error, Trouble) and error.seen is not Seen.OK:
                        raise
                    return error.failure.reason
            else:
                await session.ask("NOOP")
            await session.leave()
        finally:
            session.close()
        return ""

    def _login(self, account: str = "") -> Login | None:
        """As the probe account: with its own password, or the way everybody is logged in. None: neither is there."""
        if not self._server.probe_accounts:
            return None
        owner = self._account(account or self._server.probe_accounts[0])
        if self._server.probe_password:
            return Login(mailbox_name(self._server, owner), self._server.probe_password, own=True)
        if self._server.login_way is LoginWay.PASSWORD:
            return None
        return login_of(self._server, owner, None)

    def _account(self, address: str) -> Account:
        return Account(address, "", Home(self._server.name))

    # ---- the probe message

    async def _send_and_fetch(self, server: Deliver, account: str) -> str:
        login = self._login(account)
        if login is None:
            return "no log-in for a probe account is configured: no message was sent"
        # Of this edge alone: another one's probe message may just be on its way.
        family = f"probe-{self._delivery.hello}-"
        delivery_id = family + self._nonce.token(16).hex()
        outcome = (await server.deliver(self._message(account, delivery_id), _no_attempt))[0]
        if outcome.state is not State.DONE:
            assert outcome.failure is not None
            raise Trouble(outcome.failure, Seen.REFUSED)
        session = await ImapSession.open(self._imap)
        try:
            await log_in(session, login)
            await self._read_back(session, delivery_id, family)
            await session.leave()
        finally:
            session.close()
        return ""

    async def manners(self, server: Deliver, account: str) -> Manners | None:
        """Two messages of one Message-ID, with raw Shift_JIS in a header, delivered, looked at and removed again. None
        where nobody can look, or not all could be removed. Raises Failed.
        """
        login = self._login(account)
        if login is None:
            return None
        session = await ImapSession.open(self._imap)
        try:
            await log_in(session, login)
            if "UIDPLUS" not in session.capabilities:
                return None
            # Cyrus makes a mailbox behind its OK to the first log-in, and refuses a delivery at that moment (451).
            await session.ask("NOOP")
            family = f"probe-{self._delivery.hello}-"
            one, two = (family + self._nonce.token(16).hex() for _ in range(2))
            date = formatdate()  # Cyrus compares dates, too, and gives its own second to a message without one
            for each in (one, two):
                outcome = (await server.deliver(self._message(account, each, one, RAW, date), _no_attempt))[0]
                if outcome.state is not State.DONE:
                    assert outcome.failure is not None
                    raise Failed(outcome.failure)
            selected = await session.ask("SELECT", b"INBOX")
            if not selected.ok or not await self._arrived(session, one):
                raise _wrong("the probe message was accepted, and is not in the mailbox")
            (uid,) = found_uids(await session.ask("UID SEARCH", "HEADER", DELIVERY_ID_HEADER, one.encode()))[:1]
            header = await session.ask("UID FETCH", str(uid), ["BODY.PEEK[HEADER.FIELDS (SUBJECT)]"])
            munges = not any(RAW in value for each in header.untagged for value in _texts(each.values))
            suppresses = not found_uids(await session.ask("UID SEARCH", "HEADER", DELIVERY_ID_HEADER, two.encode()))
            await _remove(session, family)
            await session.leave()
            return Manners(suppresses, munges)
        finally:
            session.close()

    def _message(
        self, account: str, delivery_id: str, message_id: str = "", subject: bytes = b"probe", date: str = ""
    ) -> Delivery:
        name = recipient_name(self._server, self._account(account), account)
        envelope = Envelope("", (Target(account, account),), eight_bit=not subject.isascii())
        headers = f"{DELIVERY_ID_HEADER}: {delivery_id}\r\n".encode("ascii")
        text = (
            (f"Date: {date}\r\n".encode() if date else b"")
            + b"Subject: OneDomain " + subject + b"\r\nAuto-Submitted: auto-generated\r\n"
            + f"Message-ID: <{message_id or delivery_id}@{self._delivery.hello}>\r\n\r\nprobe\r\n".encode("ascii")
        )
        return Delivery(delivery_id, envelope, ((0, name),), _Bytes(text), headers)

    async def _read_back(self, session: ImapSession, delivery_id: str, family: str) -> None:
        """Also removes what an earlier probe that was cut off left behind; only UIDs that bear our own ids."""
        selected = await session.ask("SELECT", b"INBOX")
        if not selected.ok:
            raise _wrong(f"SELECT of the probe account: {selected.words}")
        if not await self._arrived(session, delivery_id):
            raise _wrong("the probe message was accepted, and is not in the mailbox")
        if "UIDPLUS" not in session.capabilities:
            return
        await _remove(session, family)

    async def _arrived(self, session: ImapSession, delivery_id: str) -> bool:
        clock = asyncio.get_running_loop().time
        until = clock() + (QUEUED_SECONDS if self._server.queue_time else 0.0)
        while True:
            if found_uids(await session.ask("UID SEARCH", "HEADER", DELIVERY_ID_HEADER, delivery_id.encode())):
                return True
            if clock() >= until:
                return False
            await asyncio.sleep(QUEUED_LOOK_EVERY)
            await session.ask("NOOP")  # what is new may not be told of during a SEARCH (RFC 9051 section 7.5.1)


async def _remove(session: ImapSession, family: str) -> None:
    uids = found_uids(await session.ask("UID SEARCH", "HEADER", DELIVERY_ID_HEADER, family.encode()))
    if uids:
        numbers = ",".join(map(str, uids))
        # Not pipelined: Dovecot then skips messages now and then.
        await session.ask("UID STORE", numbers, "+FLAGS.SILENT", ["\\Deleted"])
        await session.ask("UID EXPUNGE", numbers)


def _texts(values: Iterable[object]) -> Iterator[bytes]:
    for value in values:
        if isinstance(value, bytes):
            yield value
        elif isinstance(value, list | tuple):
            yield from _texts(value)


async def probe_delivery(server: str, door: Door) -> Sighting:
    """Greeting, hello and NOOP over a connection of its own."""

    async def ask() -> str:
        session = await SmtpSession.open(door)
        try:
            reply = await session.ask(session.client.noop())
            if not reply.is_done:
                raise Trouble(again(451, "4.3.2", "the mail server is not available", str(reply)), Seen.REFUSED)
            await session.leave()
        finally:
            session.close()
        return ""

    return await _timed(server, DELIVERY, ask)


async def takes_recipient(door: Door, address: str) -> bool:
    """Whether RCPT TO this address is accepted; nothing is sent. Raises Failed where it could not be asked."""
    session = await SmtpSession.open(door)
    try:
        client = session.client
        if not (await session.ask(client.mail(""))).is_done:
            return False
        reply = await session.ask(client.rcpt(address))
        await session.ask(client.rset())
        await session.leave()
        return reply.is_done
    finally:
        session.close()


async def _timed(server: str, face: str, question: Callable[[], Awaitable[str]]) -> Sighting:
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        reason = await question()
    except Trouble as trouble:
        return Sighting(server, face, trouble.seen, clock() - began, trouble.failure.reason)
    except Failed as error:
        return Sighting(server, face, Seen.REFUSED, clock() - began, error.failure.reason)
    return Sighting(server, face, Seen.OK, clock() - began, reason)


async def watch_delivery(door: Door) -> None:
    """Returns when the server ends an otherwise idle connection."""
    session = await SmtpSession.open(door)
    await _until_ended(session.stream)


async def watch_imap(door: ImapDoor) -> None:
    session = await ImapSession.open(door)
    await _until_ended(session.stream)


async def _until_ended(stream: Stream) -> None:
    stream.deadline = None
    try:
        while await stream.read(READ):
            continue
    except ConnectionError:
        return
    finally:
        stream.close()


async def _no_attempt() -> None:
    return None


def _wrong(reason: str) -> Trouble:
    return Trouble(again(451, "4.3.0", "the mail server does not keep what it accepts", reason), Seen.BROKEN)
