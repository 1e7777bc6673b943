"""A home's IMAP as POP3 needs it: one folder, its messages, their bodies in pieces, and removal of named UIDs only.

Knows commands and the traps of servers. Does not know POP3, nor how the log-in came about. Everything that goes wrong
comes out as Failed of kind AGAIN; after that only `close` is left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from typing import Any

from onedomain.backend.base import Session
from onedomain.model.failure import Failed, again
from onedomain.net.poller import Callback
from onedomain.net.stream import Stream
from onedomain.protocol.imap.client import Argument, Commands
from onedomain.protocol.imap.folder import FolderParser, Listed
from onedomain.protocol.imap.lines import Chunk
from onedomain.protocol.imap.response import (
    Big,
    Event,
    ResponseError,
    ResponseLimits,
    Tagged,
    Untagged,
    fetched,
)

LIMITS = ResponseLimits(stream_above=32_768)
ANSWER_SECONDS = 60.0
"""Without a byte from the home while it owes us an answer."""

OPEN_SECONDS = 300.0
"""For the whole of SELECT, however much the home has to say."""

READ = 65536
LOGOUT = b"z LOGOUT\r\n"

SET_LENGTH = 4000
"""Characters of a UID set in one command: RFC 2683 section 3.2.1.5 lets servers stop at 8000 for the whole line."""


class NoMessage(Failed):
    """It was there at the log-in and is gone: somebody else removed it. The mailbox can be used on."""


class Mailbox:
    """One command at a time."""

    __slots__ = ("_clock", "_commands", "_open_until", "_parser", "_server", "_stream", "can_expunge_uids")

    def __init__(self, session: Session) -> None:
        self._stream: Stream = session.stream
        self._server = session.server
        self._commands = Commands(session.capabilities)
        self._parser = FolderParser(LIMITS)
        self._clock = session.stream.poller.loop.time
        self._open_until = self._clock() + OPEN_SECONDS
        self.can_expunge_uids = "UIDPLUS" in session.capabilities

    @property
    def uidvalidity(self) -> int:
        return self._parser.uidvalidity

    async def open(self, folder: str) -> list[Listed]:
        """SELECT; what is in it, by rising UID. Sets `uidvalidity`."""
        try:
            self._stream.deadline = self._clock() + ANSWER_SECONDS
            await self._stream.write(self._parser.open(folder))
            while (listed := self.heard(await self._stream.read())) is None:
                self._stream.deadline = self._clock() + ANSWER_SECONDS
            return listed
        except OSError as error:
            raise self._broken(f"SELECT: {error or type(error).__name__}") from error

    def begin_open(self, folder: str, callback: Callback) -> None:
        """The same without a task: `callback` is told of events, to `listen`, until `give_back`."""
        self._stream.take_over(callback)
        self._parser.receive(self._stream.take_unread())
        try:
            self._stream.push(self._parser.open(folder))
        except ConnectionError as error:
            raise self._broken(str(error)) from error

    def listen(self) -> list[Listed] | None:
        """What has come, which may be all of it: what `open` gives. Raises Failed."""
        try:
            data = self._stream.receive(READ)
        except ConnectionError as error:
            raise self._broken(str(error)) from error
        return self.heard(data) if data is not None else None

    def heard(self, data: bytes) -> list[Listed] | None:
        if not data:
            raise self._broken("closed during SELECT")
        if self._clock() >= self._open_until:
            raise self._broken(f"SELECT took more than {OPEN_SECONDS:.0f} s")
        try:
            self._parser.receive(data)
            return self._parser.opened()
        except ResponseError as error:
            raise self._broken(str(error)) from error

    def ignore(self) -> None:
        """What the home says of its own accord waits until it is asked something."""
        self._stream.ask(reading=False)

    def give_back(self) -> None:
        """From now on it is a task that asks."""
        self._stream.give_back()

    async def body(self, uid: int) -> AsyncGenerator[int | bytes]:
        """The message's size, then its bytes in pieces. Raises NoMessage before anything comes."""
        async for piece in self._fetch(uid, "BODY.PEEK[]", "BODY[]"):
            yield piece

    async def part(self, uid: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the message's end. Raises NoMessage."""
        pieces = self._fetch(uid, f"BODY.PEEK[]<{offset}.{length}>", f"BODY[]<{offset}>")
        async with aclosing(pieces):
            return b"".join([piece async for piece in pieces if isinstance(piece, bytes)])

    async def flag(self, uids: Iterable[int], flag: str) -> None:
        """Set a flag, and wait until it is set."""
        for uid_set in uid_sets(uids):
            await self._run("UID STORE", uid_set, "+FLAGS.SILENT", [flag])

    async def remove(self, uids: Iterable[int]) -> bool:
        """Delete these messages and no others, ever. False: they are only marked, as the server has no UIDPLUS and
        others have marked messages too.

        Each STORE is waited for: Dovecot, given STORE and UID EXPUNGE in one go, skipped 1 of 50 messages.
        """
        wanted = sorted(set(uids))
        await self.flag(wanted, "\\Deleted")
        if self.can_expunge_uids:
            for uid_set in uid_sets(wanted):
                await self._run("UID EXPUNGE", uid_set)
            return True
        marked: set[int] = set()
        for response in await self._run("UID SEARCH", "DELETED"):
            if response.name == "SEARCH":
                marked.update(value for value in response.values if isinstance(value, int))
        if not marked <= set(wanted):
            return False
        await self._run("EXPUNGE")
        return True

    def abort(self) -> None:
        """At once; what waits for an answer fails."""
        self._stream.close()

    def leave(self) -> None:
        """Its answer would interest nobody, and is waited for by nobody."""
        with suppress(ConnectionError):
            self._stream.push(LOGOUT)
        self._stream.leave()

    async def _fetch(self, uid: int, item: str, name: str) -> AsyncGenerator[int | bytes]:
        begun = False
        async with aclosing(self._ask("UID FETCH", str(uid), item)) as events:
            async for event in events:
                if isinstance(event, Chunk):
                    yield event.data
                elif isinstance(event, Big) and not begun:
                    begun = True
                    yield event.size
                elif isinstance(event, Big):
                    raise self._broken("two bodies for one message")
                elif isinstance(event, Untagged) and event.name == "FETCH" and not begun:
                    items = self._items(event)
                    if name in items:
                        begun = True
                        body = items[name] or b""  # NIL: an empty message
                        if not isinstance(body, bytes):
                            raise self._broken(f"a body that is none for UID {uid}")
                        yield len(body)
                        yield body
        if not begun:
            raise NoMessage(again(451, "4.2.0", "The message is gone.", f"UID {uid} at {self._server}"))

    async def _run(self, name: str, *arguments: Argument) -> list[Untagged]:
        return [event async for event in self._ask(name, *arguments) if isinstance(event, Untagged)]

    async def _ask(self, name: str, *arguments: Argument) -> AsyncGenerator[Event]:
        """Everything that comes up to the tagged OK; raises Failed for NO and BAD, and for what breaks."""
        command = self._commands.make(name, *arguments)
        try:
            self._stream.deadline = self._clock() + ANSWER_SECONDS
            await self._stream.write(command.data)
            while True:
                event = self._parser.next_event()
                if event is None:
                    self._stream.deadline = self._clock() + ANSWER_SECONDS
                    data = await self._stream.read()
                    if not data:
                        raise self._broken(f"closed during {name}")
                    self._parser.receive(data)
                elif isinstance(event, Tagged):
                    if event.status != "OK" or event.tag != command.tag:
                        raise self._broken(f"{name}: {event.status} {event.text}")
                    return
                else:
                    yield event
        except (OSError, ResponseError) as error:
            raise self._broken(f"{name}: {error or type(error).__name__}") from error

    def _items(self, response: Untagged) -> dict[str, Any]:
        try:
            return fetched(response.values)
        except ResponseError as error:
            raise self._broken(str(error)) from error

    def _broken(self, reason: str) -> Failed:
        reason = f"IMAP at {self._server}: {reason}"
        return Failed(again(451, "4.4.2", "Your mail server does not answer properly, please try again later.", reason))


def uid_sets(uids: Iterable[int]) -> list[str]:
    """1,2,3,5 -> "1:3,5"; in several strings where one would get too long."""
    runs: list[list[int]] = []
    for uid in sorted(set(uids)):
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    sets: list[str] = []
    for first, last in runs:
        item = str(first) if first == last else f"{first}:{last}"
        if sets and len(sets[-1]) + len(item) < SET_LENGTH:
            sets[-1] += f",{item}"
        else:
            sets.append(item)
    return sets
