"""Appends side by side to a server that locks a folder, or not, while an APPEND is on its way; it says no at will."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from onedomain.backend.link import writing
from onedomain.backend.link.dovecot import DovecotLinks
from onedomain.backend.mailserver import Tools
from onedomain.decision.link.actions import Copied, Refused
from onedomain.model.failure import Failed
from onedomain.model.server import LoginWay, Server
from onedomain.net.tls import ClientContexts
from tests.backend.contract import Chance, Eyes, account, local
from tests.backend.link.contract import text
from tests.backend.link.test_imap_end import letter

CAPABILITIES = b"IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ MULTIAPPEND UIDPLUS UNSELECT"
LITERAL = re.compile(rb"\{(\d+)(\+?)\}\r\n\Z")
BODIES = [text(number) for number in range(260)]


@dataclass
class Dovecot:
    """`locks`: one APPEND at a time has the folder, and the first session that came is slow to ask for it.
    `refuses` messages with this in them; `breaks`: the session that is told to end such a one is left.
    """

    locks: bool = False
    refuses: bytes = b"\0"
    breaks: bytes = b"\0"
    box: list[bytes] = field(default_factory=list)
    sessions: int = 0
    commands: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        first = self.sessions == 1
        writer.write(b"* OK [CAPABILITY " + CAPABILITIES + b"] ready\r\n")
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                tag, _, rest = line.partition(b" ")
                said = b"OK done"
                if rest.startswith(b"APPEND"):
                    said = await self.append(line, reader, writer, slow=first)
                elif rest.startswith(b"AUTH"):
                    said = b"OK [CAPABILITY " + CAPABILITIES + b"] in"
                elif rest.startswith(b"LIST"):
                    writer.write(b'* LIST () "/" ""\r\n')
                writer.write(tag + b" " + said + b"\r\n")
        writer.close()

    async def append(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool
    ) -> bytes:
        self.commands += 1
        if not self.locks:
            return await self.take(line, reader, writer)
        if slow:
            await asyncio.sleep(0.05)
        async with self.lock:
            return await self.take(line, reader, writer)

    async def take(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        messages = []
        while (literal := LITERAL.search(line)) is not None:
            if not literal[2]:
                writer.write(b"+ go on\r\n")
            messages.append(await reader.readexactly(int(literal[1])))
            line = await reader.readline()
            if not line:
                raise ConnectionError
        if any(self.breaks in each for each in messages):
            raise ConnectionError
        if not all(messages) or any(self.refuses in each for each in messages):
            return b"NO [LIMIT] too large, or nothing"
        first = len(self.box) + 1
        self.box += messages
        return b"OK [APPENDUID 1 %d:%d] done" % (first, len(self.box))

    @asynccontextmanager
    async def links(self) -> AsyncIterator[DovecotLinks]:
        listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        there = local(listener.sockets[0].getsockname()[1])
        server = Server("mail1", "dovecot", there, there, login_way=LoginWay.MASTER, master_user="m",
                        master_password="p")
        links = DovecotLinks(server, Tools(ClientContexts(), Eyes(), Chance(), "edge.example"))
        try:
            async with asyncio.timeout(20):
                yield links
        finally:
            await links.close()
            listener.close()


async def append(links: DovecotLinks, bodies: list[bytes]) -> tuple[Copied | Refused, ...]:
    end = await links.end(account())
    try:
        return await end.append("INBOX", [letter(raw, *(["a&b"] if raw.endswith(b"7\r\n") else [])) for raw in bodies])
    finally:
        await end.close()


async def test_side_by_side_and_in_order() -> None:
    far = Dovecot()
    async with far.links() as links:
        done = await append(links, BODIES)
        assert [each.uid for each in done if isinstance(each, Copied)] == list(range(1, 261))
        assert far.box == BODIES and far.sessions == 4 and far.commands == 11


@pytest.mark.parametrize("at", [0, 30, 99, 259])
async def test_up_to_the_one_that_is_refused(at: int) -> None:
    far = Dovecot(refuses=b"number %d\r\n" % at)
    async with far.links() as links:
        done = await append(links, BODIES)
        assert [type(each) for each in done] == [*[Copied] * at, Refused] and far.box == BODIES[:at]
        await append(links, BODIES[at + 1 :])
        assert far.box == BODIES[:at] + BODIES[at + 1 :]
        assert far.sessions <= 7  # the first was of use to the end


@pytest.mark.parametrize("at", [0, 30, 99, 259])
async def test_a_beginning_where_a_session_breaks(at: int) -> None:
    far = Dovecot(breaks=b"number %d\r\n" % at)
    async with far.links() as links:
        with pytest.raises(Failed):
            await append(links, BODIES)
        assert far.box == BODIES[: len(far.box)] and len(far.box) <= at


async def test_one_after_the_other_where_the_folder_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "STALL", 0.2)
    far = Dovecot(locks=True)
    async with far.links() as links:
        done = await append(links, BODIES)
        assert [each.uid for each in done if isinstance(each, Copied)] == list(range(1, 261)) and far.box == BODIES
        before = far.sessions
        assert before == 4
        await append(links, BODIES)  # and it is known from then on
        assert far.box == BODIES * 2 and far.sessions == before


async def test_also_where_one_is_refused_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "STALL", 0.2)
    far = Dovecot(locks=True, refuses=b"number 3\r\n")
    async with far.links() as links:
        done = await append(links, BODIES)
        assert [type(each) for each in done] == [Copied, Copied, Copied, Refused] and far.box == BODIES[:3]
