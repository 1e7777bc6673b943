"""One client connection that speaks SMTP or LMTP: opened, greeted, secured, logged in, asked.

Knows time limits and the order of the first commands. Does not know messages: a transaction is transaction.py's.
Everything that goes wrong comes out as Trouble.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from onedomain.backend.trouble import Trouble, closed, troubles
from onedomain.model.failure import again
from onedomain.model.health import Seen
from onedomain.model.server import Endpoint, TlsMode
from onedomain.net.dial import dial, secure
from onedomain.net.stream import Stream
from onedomain.net.tls import ClientContexts
from onedomain.protocol.smtp.client import Answer, Capabilities, SmtpClient, parse_capabilities
from onedomain.protocol.smtp.reply import Reply

READ = 65536


@dataclass(frozen=True, slots=True)
class SmtpTimes:
    """Seconds. RFC 5321 section 4.5.3.2 asks for minutes, which suit the internet (INTERNET). Our own servers are near,
    and a delivery that hangs there for ten minutes helps nobody.
    """

    connect: float = 5.0
    greeting: float = 10.0
    command: float = 30.0
    data: float = 30.0
    block: float = 60.0
    end: float = 120.0


INTERNET = SmtpTimes(connect=30.0, greeting=300.0, command=300.0, data=120.0, block=180.0, end=600.0)


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Door:
    """How a connection is made. `hello` is what we call ourselves. `quick_ack`: see net.stream.Stream."""

    endpoint: Endpoint
    lmtp: bool
    hello: str
    contexts: ClientContexts
    times: SmtpTimes = SmtpTimes()
    credentials: Credentials | None = None
    quick_ack: bool = False


class NoTls(Trouble):
    """The handshake failed, or STARTTLS was refused; the failure of an opportunistic one is no reason to give up."""


class SmtpSession:
    """`good` turns False as soon as the connection can't carry another transaction."""

    def __init__(self, stream: Stream, door: Door) -> None:
        self.stream = stream
        self.door = door
        self.client = SmtpClient(lmtp=door.lmtp)
        self.capabilities = Capabilities()
        self.good = True
        self.uses = 0
        self.clock = asyncio.get_running_loop().time
        self.doing = f"{'LMTP' if door.lmtp else 'SMTP'} to {door.endpoint}"

    @classmethod
    async def open(cls, door: Door) -> SmtpSession:
        """Connected, greeted, secured, logged in. Opportunistic TLS that fails is left out on a second connection."""
        try:
            return await cls._open(door, plain=False)
        except NoTls:
            if door.endpoint.tls is not TlsMode.OPPORTUNISTIC:
                raise
            return await cls._open(door, plain=True)

    @classmethod
    async def _open(cls, door: Door, *, plain: bool) -> SmtpSession:
        with troubles(f"connect to {door.endpoint}"):
            stream = await dial(
                door.endpoint, timeout=door.times.connect, contexts=door.contexts, quick_ack=door.quick_ack,
                greeted=True,
            )  # fmt: skip
        session = cls(stream, door)
        try:
            await session._begin(plain)
        except BaseException:
            session.close()
            raise
        return session

    async def _begin(self, plain: bool) -> None:
        greeting = (await self.answer(self.door.times.greeting)).reply
        if not greeting.is_done:
            seen = Seen.REFUSED if greeting.is_again or greeting.is_refusal else Seen.BROKEN
            failure = greeting.failure(f"greeting of {self.door.endpoint}")
            # A server that turns everybody away (554) says nothing about one message: RFC 5321 section 3.1.
            raise Trouble(again(451, "4.3.2", "the mail server is not available", failure.reason), seen)
        await self._hello()
        tls = self.door.endpoint.tls
        if tls in (TlsMode.STARTTLS, TlsMode.OPPORTUNISTIC) and not plain:
            await self._start_tls(demanded=tls is TlsMode.STARTTLS)
        if self.door.credentials is not None:
            await self._log_in(self.door.credentials)

    async def _hello(self) -> None:
        reply = await self.ask(self.client.hello(self.door.hello))
        if reply.is_refusal and not self.door.lmtp:
            reply = await self.ask(self.client.hello(self.door.hello, extended=False))
            self.capabilities = Capabilities()
        elif reply.is_done:
            self.capabilities = parse_capabilities(reply)
        if not reply.is_done:
            failure = reply.failure(f"hello to {self.door.endpoint}")
            raise Trouble(again(451, "4.3.2", "the mail server is not available", failure.reason), Seen.REFUSED)

    async def _start_tls(self, *, demanded: bool) -> None:
        if "STARTTLS" not in self.capabilities:
            if demanded:
                raise self._insecure("STARTTLS is demanded and was not offered")
            return
        reply = await self.ask(self.client.start_tls())
        if not reply.is_done:
            raise self._insecure(f"STARTTLS was refused: {reply}")
        if self.client.buffered:
            # RFC 3207 section 6, CVE-2011-0411: somebody put words into the server's mouth.
            raise self._insecure("something was said in the clear after STARTTLS")
        try:
            with troubles(f"TLS with {self.door.endpoint}"):
                await secure(self.stream, self.door.endpoint, self.door.contexts)
        except Trouble as error:
            raise NoTls(error.failure, error.seen, error.seconds) from error
        self.capabilities = Capabilities()
        await self._hello()

    def _insecure(self, reason: str) -> NoTls:
        reason = f"{self.door.endpoint}: {reason}"
        return NoTls(again(451, "4.7.4", "no secure connection to the mail server", reason), Seen.BROKEN)

    async def _log_in(self, credentials: Credentials) -> None:
        offered = self.capabilities.auth
        if "PLAIN" in offered:
            reply = await self.ask(self.client.auth_plain(credentials.user, credentials.password))
        elif "LOGIN" in offered:
            reply = await self.ask(self.client.auth_login())
            for secret in (credentials.user, credentials.password):
                if reply.is_go_on:
                    reply = await self.ask(self.client.auth_response(secret.encode()))
        else:
            reply = Reply(504, "5.5.4", ("neither AUTH PLAIN nor LOGIN is offered",))
        if not reply.is_done:
            reason = f"log-in of {credentials.user} at {self.door.endpoint}: {reply}"
            # Wrong credentials are the operator's to mend; the mail waits meanwhile.
            raise Trouble(again(451, "4.7.8", "the next server refused our log-in", reason), Seen.OK)

    # ---- asking

    async def send(self, data: bytes, seconds: float) -> None:
        self._limit(seconds)
        with troubles(self.doing):
            await self.stream.write(data)

    async def answer(self, seconds: float) -> Answer:
        """The next answer. Trouble: SILENT past `seconds`, REFUSED at the end of the connection, BROKEN for garbage."""
        return (await self.answers(1, seconds))[0]

    async def answers(self, count: int, seconds: float) -> list[Answer]:
        """The next answers, `seconds` for each; fewer only if the last is a 421. Trouble as from `answer`."""
        found: list[Answer] = []
        limited = False
        with troubles(self.doing):
            while len(found) < count:
                answer = self.client.next_answer()
                if answer is not None:
                    found.append(answer)
                    limited = False
                    if answer.reply.code == 421:  # RFC 5321 section 3.8: it is about to close
                        self.good = False
                        break
                    continue
                if not limited:
                    limited = True
                    self._limit(seconds)
                data = await self.stream.read(READ)
                if not data:
                    self.good = False
                    raise closed(self.doing)
                self.client.receive(data)
        return found

    async def ask(self, command: bytes) -> Reply:
        await self.send(command, self.door.times.command)
        return (await self.answer(self.door.times.command)).reply

    def quiet(self) -> bool:
        """Whether the server has said nothing unasked, and is there. An answer too many would pass for the next one."""
        try:
            data = self.stream.receive(READ)
        except OSError:
            return False
        if data:
            self.client.receive(data)
        return data is None and not self.client.buffered

    def _limit(self, seconds: float) -> None:
        self.stream.deadline = self.clock() + seconds

    # ---- the end

    def close(self) -> None:
        self.good = False
        self.stream.close()

    async def leave(self) -> None:
        """QUIT, whose answer nobody waits for."""
        self.good = False
        with suppress(ConnectionError):
            self.stream.write_nowait(self.client.quit())
        await self.stream.aclose()
