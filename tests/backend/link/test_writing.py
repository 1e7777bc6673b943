"""Appends side by side in virtual time: how long what takes part in them may take, and what is held meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from onedomain.backend.imap_session import Answer
from onedomain.backend.link.base import Letter
from onedomain.backend.link.connection import Connection
from onedomain.backend.link.helpers import Helpers
from onedomain.backend.link.writing import Writing
from onedomain.decision.link.actions import Copied
from onedomain.protocol.imap.client import Command
from onedomain.protocol.imap.response import Code, Tagged
from tests.health.virtual import run

NONE: frozenset[str] = frozenset()
FIRST = [b"Subject: %d\r\n\r\n" % number for number in range(100)]
MIB = 1 << 20


class Folder:
    """What several sessions append to. A server takes `speed` octets per second of each."""

    def __init__(self, speed: float = 1e9) -> None:
        self.speed = speed
        self.octets: list[int] = []  # of each message, by UID
        self.taken_back = 0
        self.useless = 0

    def writing(self) -> Writing:
        return Writing(cast(Connection, Session(self)), unasked=True, helpers=Helpers(
            self.another, lambda connection: None, lambda: False, self.is_useless
        ))

    async def another(self) -> Connection:
        return cast(Connection, Session(self))

    def is_useless(self) -> None:
        self.useless += 1


class Session:
    """As much of a Connection as an APPEND needs; each message begins with its own line."""

    good = True

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._octets: list[int] = []
        self.session = SimpleNamespace(
            make=lambda *words: Command("a1", (b"a1 APPEND INBOX\r\n",)), give=self.give,
            door=SimpleNamespace(times=SimpleNamespace(command=60.0)),
        )

    def can(self, word: str) -> bool:
        return True

    def limit(self, word: str) -> None:
        return None

    async def begin(self) -> None:
        self._octets = []

    async def offer(self, tag: str, piece: bytes, *, seconds: float) -> None:
        await self.give(piece, seconds=seconds)

    async def give(self, piece: bytes, *, seconds: float) -> None:
        self._octets += [len(piece)] * piece.count(b"Subject: ")
        await asyncio.sleep(len(piece) / self._folder.speed)

    async def conclude(self, tag: str, piece: bytes, *, seconds: float) -> Answer:
        if piece.startswith(b" {0+}"):
            self._folder.taken_back += 1
            return Answer(Tagged("a1", "NO", None, "nothing"))
        return self._final()

    async def run(self, command: Command, *, seconds: float) -> Answer:
        await self.begin()
        for piece in command.pieces:
            await self.give(piece, seconds=seconds)
        return self._final()

    def _final(self) -> Answer:
        first = len(self._folder.octets) + 1
        self._folder.octets += self._octets
        uids: Any = f"{first}:{len(self._folder.octets)}"
        return Answer(Tagged("a1", "OK", Code("APPENDUID", [1, uids]), "done"))


def letters(bodies: Sequence[bytes]) -> list[Letter]:
    return [Letter(0, NONE, 0, raw) for raw in bodies]


def test_a_large_message_that_follows_has_its_time() -> None:
    """40 MiB at 50 Mbit/s, behind 100 small ones: it was believed to be locked out after four seconds."""
    folder = Folder(speed=50_000_000 / 8)
    left = [letters([b"Subject: x\r\n\r\n" + bytes(40 * MIB)])]

    async def more() -> Sequence[Letter]:
        await asyncio.sleep(3.5)
        return left.pop() if left else ()

    done = run(folder.writing().append("INBOX", letters(FIRST), more))
    assert [each.uid for each in done if isinstance(each, Copied)] == list(range(1, 102)) and len(folder.octets) == 101
    assert not folder.taken_back and not folder.useless
