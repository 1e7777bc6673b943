"""Appends side by side to a server that locks a folder, or not, while an APPEND is on its way; it says no at will."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from onedomain.backend.link import writing
from onedomain.backend.link.base import Letter
from onedomain.backend.link.dovecot import DovecotLinks
from onedomain.backend.mailserver import Tools
from onedomain.decision.link.actions import Copied, Refused
from onedomain.model.failure import Failed, again
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


async def append(
    links: DovecotLinks, bodies: list[bytes], more: Callable[[], Awaitable[list[bytes]]] | None = None,
    may: Callable[[], bool] = lambda: True,
) -> tuple[Copied | Refused, ...]:
    async def following() -> list[Letter]:
        assert more is not None
        return made(await more())

    end = await links.end(account())
    try:
        return await end.append("INBOX", made(bodies), following if more is not None else None, may)
    finally:
        await end.close()


def made(bodies: list[bytes]) -> list[Letter]:
    return [letter(raw, *(["a&b"] if raw.endswith(b"7\r\n") else [])) for raw in bodies]


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


@pytest.mark.parametrize(("locks", "follows"), [(False, False), (False, True), (True, False)])
async def test_whether_it_may_is_asked_ahead_of_every_part(
    monkeypatch: pytest.MonkeyPatch, locks: bool, follows: bool
) -> None:
    """What was taken from the source, or is on its way, is not final yet; a process may have been frozen since."""
    monkeypatch.setattr(writing, "STALL", 0.2)
    far = Dovecot(locks=locks)
    source = Source(far)
    async with far.links() as links:
        more = source.more if follows else None
        done = await append(links, BODIES[:100] if follows else BODIES, more, lambda: len(far.box) < 50)
        there = len(far.box)
        assert there == (125 if locks else 50) and len(done) == there and far.box == BODIES[:there]
        await append(links, BODIES[there:])
        assert far.box == BODIES and far.sessions <= 7, "what was on its way was taken back: the first is of use still"


async def test_also_where_one_is_refused_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "STALL", 0.2)
    far = Dovecot(locks=True, refuses=b"number 3\r\n")
    async with far.links() as links:
        done = await append(links, BODIES)
        assert [type(each) for each in done] == [Copied, Copied, Copied, Refused] and far.box == BODIES[:3]


@dataclass
class Source:
    """BODIES in groups of 40 after the first 100; the third breaks off where it `breaks`."""

    far: Dovecot
    breaks: bool = False
    handed: int = 100
    most: int = 0

    async def more(self) -> list[bytes]:
        self.most = max(self.most, self.handed - len(self.far.box))
        await asyncio.sleep(0.001)
        if self.breaks and self.handed == 180:
            raise Failed(again(451, "4.4.2", "the source broke"))
        some = BODIES[self.handed : self.handed + 40]
        self.handed += len(some)
        return some


async def test_what_follows_is_asked_for_while_a_group_is_on_its_way() -> None:
    far = Dovecot()
    source = Source(far)
    async with far.links() as links:
        done = await append(links, BODIES[:100], source.more)
        assert [each.uid for each in done if isinstance(each, Copied)] == list(range(1, 261))
        assert far.box == BODIES and far.sessions == 4 and source.most > 25


async def test_no_more_than_so_many_octets_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "HELD", 26 * len(BODIES[200]))
    far = Dovecot()
    source = Source(far)
    async with far.links() as links:
        await append(links, BODIES[:100], source.more)
        assert far.box == BODIES and source.most <= 50


@pytest.mark.parametrize("at", [99, 130, 259])
async def test_what_follows_one_that_is_refused_is_not_there(at: int) -> None:
    far = Dovecot(refuses=b"number %d\r\n" % at)
    source = Source(far)
    async with far.links() as links:
        done = await append(links, BODIES[:100], source.more)
        assert [type(each) for each in done] == [*[Copied] * at, Refused] and far.box == BODIES[:at]


async def test_a_beginning_where_the_source_breaks() -> None:
    far = Dovecot()
    async with far.links() as links:
        with pytest.raises(Failed, match="the source broke"):
            await append(links, BODIES[:100], Source(far, breaks=True).more)
        assert far.box == BODIES[: len(far.box)] and len(far.box) <= 180


async def test_a_slow_source_is_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "STALL", 0.05)
    monkeypatch.setattr(writing, "FAST", 1_000_000_000)
    far = Dovecot()
    source = Source(far)

    async def slow() -> list[bytes]:
        await asyncio.sleep(0.2)
        return await source.more()

    async with far.links() as links:
        done = await append(links, BODIES[:100], slow)
        assert len(done) == 260 and far.box == BODIES
        await append(links, BODIES[:100])
        assert far.sessions > 4, "several are opened again: nobody thinks that it locks"


async def test_where_the_folder_is_locked_what_follows_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "STALL", 0.2)
    far = Dovecot(locks=True)
    source = Source(far)
    async with far.links() as links:
        done = await append(links, BODIES[:100], source.more)
        assert far.box == BODIES[: source.handed] and len(done) == source.handed > 100
