"""Commands of a client, whole: lines and their literals put together, the message of an APPEND left in the stream.

Knows the shape of commands and what a literal may cost. Does not know what they mean, except that an APPEND's message
is not to be held in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onedomain.net.stream import Stream
from onedomain.protocol.imap.command import NewMessage
from onedomain.protocol.imap.lines import Chunk, Fragmentizer, Limits, Line, Literal, Overrun
from onedomain.protocol.imap.link import is_link_append, parse_link_append
from onedomain.protocol.imap.link_command import FolderRef, GivenMessage
from onedomain.protocol.imap.parser import BadCommand, BadName, is_append, parse_append

GO_AHEAD = b"+ Ready\r\n"
MAX_HELD = 1024 * 1024
"""Bytes of one command that are held in memory."""

BEFORE_LOGIN = Limits(line=8192, literal=4096, command=16384)


@dataclass(frozen=True, slots=True)
class Whole:
    """A command with its literals in place, without the final line end."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Append:
    """An APPEND up to the literal of its first message, which has not been asked for yet."""

    data: bytes
    mailbox: str
    message: NewMessage
    literal: Literal


@dataclass(frozen=True, slots=True)
class LinkAppend:
    """An XLINK APPEND, likewise."""

    data: bytes
    folder: FolderRef
    message: GivenMessage
    literal: Literal


@dataclass(frozen=True, slots=True)
class BadAppend:
    """An APPEND that is none, read to its end."""

    data: bytes
    error: BadCommand | BadName


@dataclass(frozen=True, slots=True)
class TooLong:
    """A command that breaks a limit; the rest of it is being skipped. `fatal`: there is no end of it to wait for."""

    start: bytes
    literal: bool


class CommandReader:
    def __init__(self, stream: Stream, limits: Limits = BEFORE_LOGIN) -> None:
        self._stream = stream
        self._lines = Fragmentizer(limits)

    def allow(self, limits: Limits) -> None:
        """Other limits from here on; between two commands."""
        lines = Fragmentizer(limits)
        lines.receive(self._lines.take_rest())
        self._lines = lines

    def forget(self) -> int:
        """Drop what was read and not used, and tell how much it was: nothing from before STARTTLS is believed."""
        return len(self._lines.take_rest())

    async def command(self) -> Whole | Append | LinkAppend | BadAppend | TooLong | None:
        """The next one; None at the end of the stream."""
        held: list[bytes] = []
        size = 0
        while True:
            event = await self._event()
            match event:
                case None:
                    return None
                case Overrun(start=start, literal=literal):
                    return TooLong(start if not held else held[0][:256], literal is not None)
                case Chunk(data=data):
                    held.append(data)
                case Line(data=data, literal=None):
                    held.append(data.rstrip(b"\r\n"))
                    return Whole(b"".join(held))
                case Line(data=data, literal=literal):
                    assert literal is not None
                    held.append(data)
                    found = await self._append(b"".join(held), literal)
                    if found is not None:
                        return found
                    size += literal.size
                    if size > MAX_HELD:
                        await self.skip(literal)
                        return TooLong(held[0][:256], True)
                    await self.accept(literal)

    async def _append(self, data: bytes, literal: Literal) -> Append | LinkAppend | BadAppend | None:
        try:
            if is_link_append(data):
                return LinkAppend(data, *parse_link_append(data), literal)
            if not is_append(data):
                return None
            parsed = parse_append(data)
        except (BadCommand, BadName) as error:
            await self.skip(literal)
            return BadAppend(data, error)
        return None if parsed is None else Append(data, *parsed, literal)

    async def accept(self, literal: Literal) -> None:
        if literal.sync:
            self._lines.accept()
            await self._stream.write(GO_AHEAD)

    async def chunk(self) -> Chunk:
        """The next of a literal that was accepted. Raises ConnectionError at the end of the stream."""
        event = await self._event()
        if not isinstance(event, Chunk):
            raise ConnectionError("closed inside a literal")
        return event

    async def after_literal(self) -> Line:
        """What stands behind a literal, up to the end of the line. Raises BadCommand, ConnectionError."""
        event = await self._event()
        if isinstance(event, Overrun):
            raise BadCommand("Command too long")
        if not isinstance(event, Line):
            raise ConnectionError("closed inside a command")
        return event

    async def skip(self, literal: Literal) -> None:
        """The literal is not wanted: refused if the client asks first, else read and dropped, to the command's end."""
        if literal.sync:
            self._lines.refuse()
            return
        while True:
            event = await self._event()
            match event:
                case None:
                    raise ConnectionError("closed inside a literal")
                case Overrun() | Line(literal=None):
                    return
                case Line(literal=Literal(sync=True)):
                    self._lines.refuse()
                    return

    async def line(self) -> bytes | None:
        """One line that is no command: the answer to a challenge, DONE. None at the end of the stream."""
        event = await self._event()
        if event is None:
            return None
        if not isinstance(event, Line) or event.literal is not None:
            raise ConnectionError("a literal where a line was due")
        return event.data.rstrip(b"\r\n")

    async def _event(self) -> Line | Chunk | Overrun | None:
        while (event := self._lines.next_event()) is None:
            data = await self._stream.read()
            if not data:
                return None
            self._lines.receive(data)
        return event
