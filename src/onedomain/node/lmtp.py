"""A session of LMTP (RFC 2033): each message goes into the store once, and each recipient has its own answer.

Knows what to ask the store and what to answer. Does not know the protocol's bytes, nor how anything is kept. A
message is stored as it came, with a Return-Path on top (RFC 5321 section 4.4) and nothing else changed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from onedomain.model.address import Address
from onedomain.model.failure import Failed, Failure, again, refuse
from onedomain.net.stream import Stream
from onedomain.node.services import Services, account_name
from onedomain.node.store.staging import Staging
from onedomain.node.store.values import Account, Taken
from onedomain.protocol.smtp.body import BodyPolicy, Manners
from onedomain.protocol.smtp.event import (
    BodyChunk,
    BodyEnd,
    BodyStart,
    End,
    Hello,
    Mail,
    Rcpt,
    Reset,
    StartTls,
    Xclient,
)
from onedomain.protocol.smtp.offer import Limits, Offer, refusal
from onedomain.protocol.smtp.server import SmtpServer

UNKNOWN = refuse(550, "5.1.1", "no such account here")
GONE = refuse(550, "5.1.1", "account was removed meanwhile")
SHUTTING_DOWN = again(421, "4.3.2", "shutting down")
TIMED_OUT = again(421, "4.4.2", "timeout, closing")

# A connection of an edge lives long and asks for many who are not there: what would tire an SMTP server is normal
_LIMITS = {"errors": 100_000, "idle": 1_000_000}

# The answer to each recipient, whatever was said before
_TEXTS = {Taken.STORED: "stored", Taken.ALREADY: "stored already"}


def offer(settings_name: str, max_message: int, max_recipients: int, starttls: bool) -> Offer:
    policy = BodyPolicy(bare=Manners.PASS, nul=True, onward=False, max_size=max_message, overrun=max_message)
    limits = Limits(recipients=max_recipients, **_LIMITS)
    return Offer(settings_name, lmtp=True, starttls=starttls, dsn=False, xclient=False, policy=policy, limits=limits)


class LmtpSession:
    def __init__(self, services: Services, stream: Stream) -> None:
        settings = services.settings
        self._services = services
        self._stream = stream
        self._server = SmtpServer(
            offer(settings.name, settings.max_message, settings.max_recipients, services.tls is not None),
            secure=stream.tls is not None,
        )
        self._sender: Address | None = None
        self._recipients: list[Account] = []
        self._body: Staging | None = None
        self._waiting = False  # for a command, with no message under way

    def shut_down(self) -> None:
        """Say goodbye, unless a message is under way."""
        if self._waiting and not self._recipients and not self._stream.closed:
            with suppress(ConnectionError):
                self._stream.write_nowait(refusal(SHUTTING_DOWN))
            self._stream.close()

    async def run(self) -> None:
        """Until the client leaves. Raises ConnectionError."""
        server, stream = self._server, self._stream
        loop = asyncio.get_running_loop()
        server.greet()
        try:
            while True:
                await self._flush()
                stream.deadline = loop.time() + self._services.settings.idle_timeout
                self._waiting = True
                try:
                    data = await stream.read()
                except TimeoutError:
                    server.end(TIMED_OUT)
                    await self._flush()
                    return
                self._waiting = False
                if not data:
                    return
                server.receive(data)
                while (event := server.next_event()) is not None:
                    if isinstance(event, End):
                        await self._flush()
                        return
                    await self._handle(event)
        finally:
            await self._drop_body()

    async def _handle(self, event: object) -> None:
        server = self._server
        match event:
            case BodyChunk(data=data):
                await self._keep(data)
            case BodyEnd(failure=None):
                await self._deliver()
            case BodyEnd() | Hello() | Reset():
                await self._drop_body()
            case Mail(sender=sender):
                self._sender, self._recipients = sender, []
                server.accept()
            case Rcpt(address=address):
                await self._recipient(address)
            case BodyStart():
                await self._begin_body()
            case StartTls():
                await self._start_tls()
            case Xclient():
                server.refuse(refuse(550, "5.7.1", "XCLIENT is not taken here"))

    async def _recipient(self, address: Address) -> None:
        try:
            account = await self._account(address)
        except Failed as failed:
            self._server.refuse(failed.failure)
            return
        if account is None:
            self._server.refuse(UNKNOWN)
        else:
            self._recipients.append(account)
            self._server.accept()

    async def _account(self, address: Address) -> Account | None:
        """The account under its full name, else without the tag."""
        store = self._services.store
        for spelled in dict.fromkeys((address, address.without_tag())):
            name = str(spelled) if spelled.domain else spelled.local
            found = await store.account(account_name(name))
            if found is not None:
                return found
        if not address.domain:
            return None
        return await self._services.recipient(account_name(str(address.without_tag())))

    async def _begin_body(self) -> None:
        lack = self._services.store.room()
        if lack is not None:
            self._server.refuse(lack)
            return
        self._body = self._services.store.stage()
        self._server.accept()
        await self._keep(b"Return-Path: <%s>\r\n" % (str(self._sender).encode() if self._sender else b""))

    async def _keep(self, data: bytes) -> None:
        if self._body is None:
            return
        try:
            await self._body.write(data)
        except Failed as failed:
            self._server.fail_body(failed.failure)
            await self._drop_body()

    async def _deliver(self) -> None:
        staged, self._body = self._body, None
        assert staged is not None
        try:
            body = await staged.finish()
        except Failed as failed:
            await staged.abort()
            self._server.refuse(failed.failure)
            return
        try:
            outcomes = await self._services.store.deliver(
                body, staged.delivery, self._recipients
            )
        except Failed as failed:
            self._services.trace.note("delivery failed", reason=failed.failure.reason, delivery=staged.delivery)
            self._server.refuse(failed.failure)
            return
        answers: list[Failure | str] = []
        for account, outcome in zip(self._recipients, outcomes, strict=True):
            answers.append(_TEXTS.get(outcome, GONE))
            self._services.trace.note(
                "stored", account=account.name, outcome=outcome.value, delivery=staged.delivery, size=staged.size
            )
        self._recipients = []
        self._server.answer_each(answers)

    async def _drop_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            await body.abort()

    async def _start_tls(self) -> None:
        assert self._services.tls is not None
        self._server.accept()
        await self._flush()
        await self._stream.start_tls(self._services.tls, server_side=True)
        self._server.tls_started()

    async def _flush(self) -> None:
        output = self._server.take_output()
        if output:
            await self._stream.write(output)
