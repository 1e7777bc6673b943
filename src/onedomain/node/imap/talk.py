"""One client's session as the commands see it: who it is, what it has open, how it is answered.

Knows the session's state and its output. Does not know any command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from onedomain.net.stream import Stream
from onedomain.node.imap.reader import CommandReader
from onedomain.node.imap.view import Enabled, View
from onedomain.node.services import Services
from onedomain.node.store.store import Store
from onedomain.node.store.values import Account, Rejected

FLUSH_AT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Done:
    """The tagged answer: OK, NO or BAD, a response code or "", the text.

    `expunges`: EXPUNGE may be told before it. `modseq`: a client that wants mod-sequences gets HIGHESTMODSEQ with it.
    """

    text: str
    status: str = "OK"
    code: str = ""
    expunges: bool = True
    modseq: bool = False

    def line(self, tag: str) -> bytes:
        code = f"[{self.code}] " if self.code else ""
        return f"{tag} {self.status} {code}{self.text}\r\n".encode("utf-8", "replace")


class Talk:
    """The session. `account` is None before log-in, `view` unless a mailbox is selected.

    The replication log-in has no account: `replicates` is True, and every one of its commands names its own.
    """

    def __init__(self, services: Services, stream: Stream) -> None:
        self.services = services
        self.stream = stream
        self.reader = CommandReader(stream)
        self.client = stream.peer[0]
        self.account: Account | None = None
        self.replicates = False
        self.view: View | None = None
        self.enabled = Enabled()
        self.failures = 0
        self.over = False
        self._out: list[bytes] = []
        self._size = 0

    @property
    def store(self) -> Store:
        return self.services.store

    @property
    def logged_in(self) -> bool:
        return self.replicates or self.account is not None

    @property
    def owner(self) -> Account:
        """For commands that the session allows only after log-in."""
        assert self.account is not None
        return self.account

    @property
    def selected(self) -> View:
        """For commands that the session allows only with a mailbox selected."""
        assert self.view is not None
        return self.view

    def writable(self) -> View:
        """The view, unless it was opened by EXAMINE."""
        view = self.selected
        if view.read_only:
            raise Rejected("READ-ONLY", "Mailbox was opened read-only")
        return view

    def say(self, *lines: bytes) -> None:
        self._out.extend(lines)
        self._size += sum(map(len, lines))

    async def say_all(self, lines: Iterable[bytes]) -> None:
        """Many lines, sent as they come."""
        for line in lines:
            self._out.append(line)
            self._size += len(line)
            if self._size >= FLUSH_AT:
                await self.flush()

    async def flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._size = 0
            await self.stream.write(data)

    def tell(self, expunges: bool) -> None:
        if self.view is not None:
            self.say(*self.view.tell(expunges))

    def enable_condstore(self) -> None:
        """By ENABLE, or by any command that shows that the client knows mod-sequences (RFC 7162 section 3.1)."""
        if not self.enabled.condstore:
            self.enabled.condstore = True
            if self.view is not None:
                self.say(*self.view.tell(expunges=False))
                self.say(b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % self.view.modseq)

    def leave(self) -> None:
        """Nothing is selected any more."""
        if self.view is not None:
            self.store.indexes.leave(self.view.index, self.view)
            self.view = None

    def patience(self, seconds: float) -> None:
        self.stream.deadline = asyncio.get_running_loop().time() + seconds
