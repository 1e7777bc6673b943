"""A node inside the test's own loop, and clients that speak line by line. Knows nothing of pytest."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from pathlib import Path
from typing import Any

from onedomain.node.server import Node
from onedomain.node.settings import NodeSettings

ANY = "127.0.0.1:0"
LITERAL = re.compile(rb"\{(\d+)\}\r\n$")


class Clock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class Notes:
    """A trace that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))


class PlainPasswords:
    """The stored form is the password: argon2 would take the tests' time."""

    def verify(self, stored: str, given: str) -> bool:
        return bool(stored) and stored == given


async def start_node(data: Path, trace: Notes | None = None, **settings: Any) -> Node:
    given = {
        "data": data, "lmtp": (ANY,), "imap": (ANY,), "proxy_user": "edge", "proxy_password": "sesame",
        "autocreate": True, **settings,
    }  # fmt: skip
    node = NodeSettings.model_validate(given)
    return await Node.start(node, clock=Clock(), trace=trace or Notes(), passwords=PlainPasswords())


class Wire:
    """A connection read by lines, literals included in the line that announces them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Wire:
        reader, writer = await asyncio.open_connection(*address, limit=256 * 1024 * 1024)
        return cls(reader, writer)

    async def line(self) -> bytes:
        line = b""
        async with asyncio.timeout(20):
            while True:
                line += await self.reader.readline()
                found = LITERAL.search(line)
                if found is None:
                    return line
                line += await self.reader.readexactly(int(found[1]))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Imap(Wire):
    """`await imap("SELECT INBOX")` -> the answer's lines, the tagged one last and without its tag."""

    count = 0

    async def __call__(self, command: str | bytes) -> list[bytes]:
        self.count += 1
        tag = b"t%d" % self.count
        await self.send(tag + b" " + (command.encode() if isinstance(command, str) else command) + b"\r\n")
        return await self.until(tag)

    async def until(self, tag: bytes) -> list[bytes]:
        lines: list[bytes] = []
        while True:
            line = await self.line()
            if not line:
                raise ConnectionError(f"closed after {lines}")
            if line.startswith(tag + b" "):
                return [*lines, line[len(tag) + 1:].removesuffix(b"\r\n")]
            lines.append(line.removesuffix(b"\r\n"))


async def imap(node: Node, account: str = "u@example.com", select: str = "") -> Imap:
    """Logged in as `account` through the proxy user."""
    client = await Imap.open(node.addresses["imap"][0])
    assert isinstance(client, Imap)
    assert (await client.line()).startswith(b"* OK [CAPABILITY ")
    if account:
        answer = base64.b64encode(f"{account}\0edge\0sesame".encode()).decode()
        assert (await client(f"AUTHENTICATE PLAIN {answer}"))[-1].startswith(b"OK ")
    if select:
        assert (await client(f"SELECT {select}"))[-1].startswith(b"OK ")
    return client


class Lmtp(Wire):
    async def reply(self) -> bytes:
        """The last line of one reply."""
        while True:
            line = await self.line()
            if not line.endswith(b"\n"):
                raise ConnectionError(f"closed after {line!r}")
            if line[3:4] != b"-":
                return line.rstrip(b"\r\n")

    async def deliver(self, message: bytes, *recipients: str) -> list[bytes]:
        """The replies to RCPT of those refused, or one for each recipient after the dot."""
        commands = b"MAIL FROM:<a@example.org>\r\n" + b"".join(b"RCPT TO:<%b>\r\n" % r.encode() for r in recipients)
        await self.send(commands)
        replies = [await self.reply() for _ in range(1 + len(recipients))]
        accepted = sum(reply.startswith(b"250") for reply in replies[1:])
        if not accepted:
            await self.send(b"RSET\r\n")
            await self.reply()
            return replies[1:]
        await self.send(b"DATA\r\n")
        assert (await self.reply()).startswith(b"354")
        await self.send(re.sub(rb"(?m)^\.", b"..", message) + b".\r\n")
        return [await self.reply() for _ in range(accepted)]


async def lmtp(node: Node) -> Lmtp:
    client = await Lmtp.open(node.addresses["lmtp"][0])
    assert isinstance(client, Lmtp)
    await client.reply()
    await client.send(b"LHLO test\r\n")
    await client.reply()
    return client


def message(n: int, size: int = 100, delivery: str | None = None) -> bytes:
    header = f"From: a@example.org\r\nSubject: number {n}\r\n".encode()
    if delivery:
        header += f"X-OneDomain-Delivery: {delivery}\r\n".encode()
    return header + b"\r\n" + b"".join(b"line %09d of the body\r\n" % i for i in range(size // 28))
