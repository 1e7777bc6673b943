"""A mail server that misbehaves on demand: speaks LMTP or SMTP by a script, keeps what it was given.

Knows what a client may say, and where it was told to hang, to break off or to babble.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from onedomain.model.server import Endpoint, TlsMode

HANG = "hang"
CUT = "cut"

Reply = str | None
"""A line (or lines) without CRLF; HANG answers never, CUT closes at once; None is the usual answer."""


@dataclass
class FakeSmtp:
    """`replies` maps a verb ("greeting", "RCPT", "body", …) to a function of the command line, or to one fixed reply.

    `body_replies` answers the end of data, one for each accepted recipient (LMTP). `early`: CUT or HANG after so many
    octets of a body. `keep` False forgets bodies. `mails` holds (sender, accepted recipients, body as
    sent, dot-stuffed). `delay`: seconds before each reply.
    """

    lmtp: bool = True
    capabilities: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 0")
    replies: dict[str, Reply | Callable[[str], Reply]] = field(default_factory=dict)
    body_early: tuple[int, str] | None = None
    delay: float = 0.0
    secure: ssl.SSLContext | None = None
    keep: bool = True
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    most_open: int = 0
    endpoint: Endpoint = field(default_factory=lambda: Endpoint("127.0.0.1", 0))
    seen_dot: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def running(self, tls: TlsMode = TlsMode.NONE) -> AsyncIterator[FakeSmtp]:
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            self.connections += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            try:
                await self._serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                self.open -= 1
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
        self.endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1], tls)
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _say(self, writer: asyncio.StreamWriter, name: str, line: str, usual: str) -> str:
        """Returns what was said."""
        scripted = self.replies.get(name)
        reply = scripted(line) if callable(scripted) else scripted
        if reply is None:
            reply = usual
        if self.delay:
            await asyncio.sleep(self.delay)
        if reply == HANG:
            await asyncio.Event().wait()
        if reply == CUT:
            raise ConnectionError("as told")
        writer.write(reply.encode() + b"\r\n")
        return reply

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._say(writer, "greeting", "", "220 fake.example ready")
        sender, recipients, begun = "", list[str](), False
        while line := (await reader.readline()).decode("utf-8", "replace").rstrip("\r\n"):
            self.lines.append(line)
            verb = line.split(" ", 1)[0].split(":")[0].upper()
            match verb:
                case "EHLO" | "LHLO":
                    names = ("fake.example", *self.capabilities)
                    lines = [f"250{'-' if name is not names[-1] else ' '}{name}" for name in names]
                    await self._say(writer, verb, line, "\r\n".join(lines))
                case "MAIL" if begun:
                    writer.write(b"503 5.5.1 nested MAIL\r\n")
                case "RSET":
                    begun = False
                    await self._say(writer, verb, line, "250 2.0.0 ok")
                case "MAIL":
                    recipients = []
                    sender = line.split("<", 1)[1].split(">")[0]
                    begun = (await self._say(writer, verb, line, "250 2.1.0 ok")).startswith("2")
                case "RCPT" if not begun:
                    writer.write(b"503 5.5.1 MAIL first\r\n")
                case "RCPT":
                    name = line.split("<", 1)[1].rpartition(">")[0]
                    if (await self._say(writer, verb, line, "250 2.1.5 ok")).startswith("2"):
                        recipients.append(name)
                case "DATA":
                    usual = "354 go on" if recipients else "503 5.5.1 no recipients"
                    if (await self._say(writer, verb, line, usual)).startswith("3"):
                        await self._body(reader, writer, sender, recipients)
                        begun = False
                case "STARTTLS" if self.secure:
                    await self._say(writer, verb, line, "220 2.0.0 go on")
                    await writer.start_tls(self.secure)
                case "AUTH":
                    await self._say(writer, verb, line, "235 2.7.0 in")
                case "QUIT":
                    await self._say(writer, verb, line, "221 2.0.0 bye")
                    return
                case _:
                    await self._say(writer, verb, line, "250 2.0.0 ok")

    async def _body(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sender: str, recipients: list[str]
    ) -> None:
        body = bytearray()
        while not (body.endswith(b"\r\n.\r\n") or body == b".\r\n"):
            data = await reader.read(65536)
            if not data:
                raise ConnectionError("client left")
            body = bytearray(body[-4:]) if not self.keep else body
            body += data
            if self.body_early and len(body) >= self.body_early[0]:
                if self.body_early[1] == CUT:
                    raise ConnectionError("as told")
                await asyncio.Event().wait()
        self.mails.append((sender, recipients, bytes(body)))
        self.seen_dot.set()
        for name in recipients if self.lmtp else ["all"]:
            await self._say(writer, "body", name, f"250 2.0.0 <{name}> kept")


@dataclass
class Bytes:
    """A Body in memory; `reads` counts."""

    data: bytes
    reads: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    async def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return self.data[offset : offset + length]


@dataclass
class Attempts:
    """An attempt that notes when it was made; `before` runs first."""

    count: int = 0
    before: Callable[[], Awaitable[None]] | None = None

    async def __call__(self) -> None:
        if self.before:
            await self.before()
        self.count += 1
