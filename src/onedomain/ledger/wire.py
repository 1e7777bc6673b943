"""A plain SMTP and LMTP client that tells exactly what is known of each message. Knows the wire, keeps no accounts.

RFC 5321, RFC 2033 (one answer per recipient after DATA), RFC 3030 (BDAT), RFC 2920 (PIPELINING).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_REPLY_LINE = 4096
MAX_REPLY_LINES = 200


@dataclass(frozen=True)
class Reply:
    code: int
    text: str

    @property
    def good(self) -> bool:
        return 200 <= self.code < 400

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Lost(Exception):
    """The connection broke, was closed, gave no answer in time, or answered nonsense."""


class Wire:
    """One connection. `timeout` is in seconds, for each answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lmtp: bool, timeout: float) -> None:
        self._reader, self._writer = reader, writer
        self.lmtp, self.timeout = lmtp, timeout
        self.extensions: dict[str, str] = {}

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        lmtp: bool = False,
        timeout: float = 60,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        login: tuple[str, str] | None = None,
    ) -> Wire:
        """Connect, greet, go to TLS if `tls` is given (by STARTTLS unless `implicit`), and log in by AUTH PLAIN."""
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(
                    host,
                    port,
                    limit=1 << 16,
                    ssl=tls if implicit else None,
                    server_hostname=host if tls and implicit else None,
                )
        except (OSError, TimeoutError) as failure:
            raise Lost(f"connect: {failure!r}") from failure
        wire = cls(reader, writer, lmtp, timeout)
        try:
            await wire._greet(host, None if implicit else tls, login)
        except BaseException:
            wire.abort()
            raise
        return wire

    async def _greet(self, host: str, tls: ssl.SSLContext | None, login: tuple[str, str] | None) -> None:
        self._demand(await self.reply(), "greeting")
        await self._hello()
        if tls:
            self._demand(await self.command("STARTTLS"), "STARTTLS")
            try:
                async with asyncio.timeout(self.timeout):
                    await self._writer.start_tls(tls, server_hostname=host)
            except (OSError, TimeoutError) as failure:
                raise Lost(f"STARTTLS: {failure!r}") from failure
            await self._hello()
        if login:
            word = base64.b64encode("\0".join(("", *login)).encode()).decode()
            self._demand(await self.command(f"AUTH PLAIN {word}"), "AUTH")

    async def _hello(self) -> None:
        answer = self._demand(await self.command("LHLO" if self.lmtp else "EHLO", "ledger.example.org"), "EHLO")
        lines = answer.text.split("\n")[1:]
        self.extensions = {word.upper(): rest for word, _, rest in (line.partition(" ") for line in lines)}

    @staticmethod
    def _demand(answer: Reply, what: str) -> Reply:
        if not answer.good:
            raise Lost(f"{what}: {answer}")
        return answer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def flush(self) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                await self._writer.drain()
        except (OSError, TimeoutError) as failure:
            raise Lost(f"send: {failure!r}") from failure

    async def reply(self) -> Reply:
        """One answer, all its lines: RFC 5321, 4.2.1."""
        texts = []
        for _ in range(MAX_REPLY_LINES):
            try:
                async with asyncio.timeout(self.timeout):
                    line = await self._reader.readline()
            except (OSError, TimeoutError, ValueError) as failure:
                raise Lost(f"answer: {failure!r}") from failure
            if not line.endswith(b"\n"):
                raise Lost("answer: closed")
            code, mark, text = line[:3], line[3:4], line[4:].strip().decode("utf-8", "replace")
            if not code.isdigit() or len(line) > MAX_REPLY_LINE:
                raise Lost(f"answer: {line[:80]!r}")
            texts.append(text)
            if mark != b"-":
                return Reply(int(code), "\n".join(texts))
        raise Lost("answer: endless")

    async def command(self, verb: str, argument: str = "") -> Reply:
        self.send(f"{verb} {argument}".strip().encode() + b"\r\n")
        await self.flush()
        return await self.reply()

    async def envelope(self, sender: str, recipients: Sequence[str], size: int) -> list[Reply]:
        """MAIL and RCPT, in one go where PIPELINING is offered; an answer per recipient."""
        parameters = f" SIZE={size}" if "SIZE" in self.extensions else ""
        if "8BITMIME" in self.extensions:
            parameters += " BODY=8BITMIME"
        if "SMTPUTF8" in self.extensions and not (sender + "".join(recipients)).isascii():
            parameters += " SMTPUTF8"
        commands = [f"MAIL FROM:<{sender}>{parameters}", *(f"RCPT TO:<{recipient}>" for recipient in recipients)]
        if "PIPELINING" not in self.extensions:
            answers = [await self.command(line) for line in commands]
        else:
            self.send("".join(line + "\r\n" for line in commands).encode())
            await self.flush()
            answers = [await self.reply() for _ in commands]
        if not answers[0].good:
            return [answers[0]] * len(recipients)
        return answers[1:]

    async def content(self, message: bytes, accepted: int, chunked: bool, at_stake: Callable[[], None]) -> list[Reply]:
        """The message, to `accepted` recipients; one answer for each (over SMTP the same one).

        `at_stake` is called just before the octet after which the server may have the message: a Lost raised earlier
        means that it has not.
        """
        answers = accepted if self.lmtp else 1
        if chunked:
            half = len(message) // 2
            first = await self._chunk(message[:half], last=False)
            if not first.good:
                return [first] * accepted
            at_stake()
            self.send(f"BDAT {len(message) - half} LAST\r\n".encode() + message[half:])
        else:
            ready = await self.command("DATA")
            if ready.code != 354:
                return [ready] * accepted
            self.send(stuffed(message))
            await self.flush()
            at_stake()
            self.send(b".\r\n")
        await self.flush()
        replies = [await self.reply() for _ in range(answers)]
        return replies if self.lmtp else replies * accepted

    async def _chunk(self, data: bytes, last: bool) -> Reply:
        self.send(f"BDAT {len(data)}{' LAST' if last else ''}\r\n".encode() + data)
        await self.flush()
        return await self.reply()

    async def quit(self) -> None:
        try:
            await self.command("QUIT")
        except Lost:
            pass
        self.abort()

    def abort(self) -> None:
        self._writer.transport.abort()


def stuffed(message: bytes) -> bytes:
    """With a dot before each leading dot, ending in CRLF: RFC 5321, 4.5.2."""
    data = message.replace(b"\r\n.", b"\r\n..")
    if data.startswith(b"."):
        data = b"." + data
    return data if data.endswith(b"\r\n") or not data else data + b"\r\n"
