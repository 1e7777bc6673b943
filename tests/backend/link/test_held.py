"""Nobody holds a message that is at the target while the next one is awaited: each may be of 160 MiB."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from onedomain.backend.imap_session import ImapSession
from onedomain.backend.link.base import Letter, LinkEnd, May, More
from onedomain.backend.link.connection import Connection
from onedomain.backend.link.cyrus import CyrusEnd
from onedomain.backend.link.filling import AT_ONCE
from onedomain.backend.link.imap_end import ImapEnd
from onedomain.backend.link.reading import Reading
from onedomain.decision.link.actions import Append, Copied, Copy, Refused
from onedomain.decision.link.identity import identity_of
from onedomain.model.account import Account
from onedomain.model.replica import Numbering, Powers
from onedomain.protocol.imap.client import Command
from onedomain.protocol.imap.response import Response, Tagged, Untagged
from onedomain.protocol.imap.rows import RowParser
from onedomain.replica.performer import Groups, Keeping, Performer
from tests.health.virtual import run
from tests.replica.test_performer import Kept

from .test_filling import Cyrus
from .test_writing import Folder

NONE: frozenset[str] = frozenset()
DATE = b"01-Jan-2026 00:00:00 +0000"


class Body(bytes):
    """Told of when nobody holds it any more."""

    held = 0

    def __new__(cls, raw: bytes = b"Subject: x\r\n\r\n") -> Body:
        cls.held += 1
        return super().__new__(cls, raw)

    def __del__(self) -> None:
        Body.held -= 1


@pytest.fixture(autouse=True)
def nothing_before() -> None:
    Body.held = 0


def letters(count: int) -> list[Letter]:
    return [Letter(0, NONE, 0, Body()) for _ in range(count)]


class Following:
    """One more at a time, when all before it are at the target; how many are held then."""

    def __init__(self, there: Sequence[Any], first: int, groups: int = 3) -> None:
        self._there, self._handed, self._left = there, first, groups
        self.held: list[int] = []

    async def more(self) -> Sequence[Letter]:
        while len(self._there) < self._handed:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        self.held.append(Body.held)
        if not self._left:
            return ()
        self._left -= 1
        self._handed += 1
        return letters(1)


def test_appended_side_by_side() -> None:
    folder = Folder()

    async def work() -> None:
        writing = folder.writing()
        end = ImapEnd.__new__(ImapEnd)
        end._writing = writing
        assert len(await end.append("INBOX", letters(100), following.more)) == 103

    following = Following(folder.octets, 100)
    run(work())
    assert following.held == [0, 0, 0, 0]


def test_put_into_a_folder_of_cyrus(monkeypatch: pytest.MonkeyPatch) -> None:
    cyrus = Cyrus()

    async def work() -> None:
        end = CyrusEnd.__new__(CyrusEnd)
        end._connection = cast(Connection, SimpleNamespace(let_go=nothing))
        end._links = cast(Any, SimpleNamespace(administrators=cyrus.pool))
        assert len(await end.append("INBOX", letters(2 * AT_ONCE), following.more)) == 2 * AT_ONCE + 3
        await cyrus.pool.close()

    async def nothing() -> None: ...

    async def named(end: CyrusEnd, folder: str) -> str:
        return folder

    monkeypatch.setattr(CyrusEnd, "_id", named)
    following = Following(cyrus.uids, 2 * AT_ONCE)
    run(work())
    assert following.held == [0, 0, 0, 0]


class End:
    """A source whose messages take a second each, and a target that holds none."""

    powers = Powers(Numbering.GIVEN, changes=True)

    def __init__(self, *, streams: bool) -> None:
        self.streams = streams
        self.held: list[int] = []

    async def letters(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> AsyncIterator[Letter]:
        for uid in uids:
            await asyncio.sleep(1)
            self.held.append(Body.held)
            yield Letter(uid, NONE, 0, Body())

    async def append(
        self, folder: str, letters: Sequence[Letter], more: More, may: May
    ) -> tuple[Copied | Refused, ...]:
        answers: list[Copied | Refused] = []
        while letters:
            answers += [Copied(each.uid, identity_of(each.raw)) for each in letters]
            letters = ()
            if self.streams:
                letters = await more()
        return tuple(answers)


@pytest.mark.parametrize("streams", [False, True])
def test_carried_by_a_performer(streams: bool) -> None:
    end = End(streams=streams)
    performer = Performer(cast(LinkEnd, end), cast(LinkEnd, end), cast(Keeping, Kept()), Groups(octets=1))
    action = Append("INBOX", "INBOX", tuple(Copy(uid, NONE, 0, uid) for uid in range(1, 6)))
    assert len(run(performer.perform(action))) == 5
    assert end.held == [0] * 5


class Told(ImapSession):
    """A server's answer to a FETCH of messages that are there as they are asked for; how many are held then."""

    def __init__(self, messages: int) -> None:
        self.doing = "link"
        self.door = cast(Any, SimpleNamespace(times=SimpleNamespace(command=60.0)))
        self.stream = cast(Any, SimpleNamespace(write=self._write))
        self._uids = iter(range(1, messages + 1))
        self.held: list[int] = []

    async def _write(self, data: bytes) -> None: ...

    def make(self, name: str, *arguments: Any) -> Command:
        return Command("a1", (b"a1 FETCH\r\n",))

    def _limit(self, seconds: float) -> None: ...

    async def _next(self) -> Response:
        self.held.append(Body.held)
        if (uid := next(self._uids, 0)) == 0:
            return Tagged("a1", "OK", None, "done")
        items = ["UID", uid, "FLAGS", [], "INTERNALDATE", DATE, "BODY[]", Body()]
        return Untagged("FETCH", uid, [items], None, "")


class Opened(Connection):
    async def open_folder(self, folder: str, *, write: bool = False) -> Any:
        return SimpleNamespace(mark=SimpleNamespace(uidvalidity=1))


async def _read(reading: Reading, uids: Collection[int]) -> int:
    count = 0
    found: AsyncGenerator[Letter, None] = reading.letters("INBOX", list(uids), 1)
    async for letter in found:
        count += bool(letter.raw)
        del letter
    return count


def test_read_from_a_server() -> None:
    session = Told(4)
    connection = Opened(session, cast(Account, None), cast(RowParser, None))
    assert run(_read(Reading(connection), range(1, 5))) == 4
    assert session.held == [0] * 5
