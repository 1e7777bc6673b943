"""One client connection that speaks IMAP: opened, greeted, secured, and asked one command or several at once.

Knows tags, continuations, capabilities and time limits. Does not know who logs in (login.py) nor why anything is asked.
Everything that goes wrong comes out as Trouble.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from onedomain.backend.trouble import Trouble, closed, troubles
from onedomain.model.failure import again
from onedomain.model.health import Seen
from onedomain.model.server import Endpoint, TlsMode
from onedomain.net.dial import dial, secure
from onedomain.net.stream import Stream
from onedomain.net.tls import ClientContexts
from onedomain.protocol.imap.client import Argument, Command, Commands
from onedomain.protocol.imap.lines import Chunk
from onedomain.protocol.imap.response import (
    Big,
    Continuation,
    Response,
    ResponseLimits,
    ResponseParser,
    Tagged,
    Untagged,
)

READ = 65536
TOGETHER = 65536
"""Octets up to which commands are put into one write; more would only be copied for it."""
SLOWEST = 100_000
"""Octets per second of a literal that is passed over."""
MAX_RESPONSES = 200_000
"""Untagged responses to one command: more folders or messages than anybody has is a server gone mad."""


@dataclass(frozen=True, slots=True)
class ImapTimes:
    """Seconds: to connect, for the greeting, a log-in, any other command, the search of one folder."""

    connect: float = 5.0
    greeting: float = 10.0
    log_in: float = 30.0
    command: float = 30.0
    search: float = 120.0


@dataclass(frozen=True, slots=True)
class ImapDoor:
    """`largest`: octets of one response, whose literals are held in memory."""

    endpoint: Endpoint
    contexts: ClientContexts
    times: ImapTimes = ImapTimes()
    quick_ack: bool = False
    largest: int = ResponseLimits().response


@dataclass(frozen=True, slots=True)
class Answer:
    """The tagged response to a command, and the untagged ones that came before it."""

    tagged: Tagged
    untagged: list[Untagged] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.tagged.status == "OK"

    @property
    def code(self) -> str:
        return self.tagged.code.name if self.tagged.code else ""

    @property
    def words(self) -> str:
        code = f"[{self.code}] " if self.code else ""
        return f"{self.tagged.status} {code}{self.tagged.text}"

    def named(self, name: str) -> list[Untagged]:
        return [response for response in self.untagged if response.name == name]


class ImapSession:
    """`capabilities` are in capitals and change with STARTTLS and log-in; `preauthenticated` as the greeting said."""

    def __init__(self, stream: Stream, door: ImapDoor, parser: ResponseParser | None = None) -> None:
        self.stream = stream
        self.door = door
        self.capabilities: frozenset[str] = frozenset()
        self.preauthenticated = False
        self.doing = f"IMAP to {door.endpoint}"
        self._parser = parser or ResponseParser(ResponseLimits(response=door.largest))
        self._commands = Commands()
        self._clock = asyncio.get_running_loop().time

    @classmethod
    async def open(
        cls,
        door: ImapDoor,
        client: tuple[str, int] | None = None,
        parser: ResponseParser | None = None,
        stream: Stream | None = None,
    ) -> ImapSession:
        """Connected, greeted and secured; `client` goes into the PROXY header, where the endpoint wants one.

        `stream` is a connection on which nothing has been read yet, if there is one.
        """
        if stream is None:
            with troubles(f"connect to {door.endpoint}"):
                stream = await dial(
                    door.endpoint,
                    timeout=door.times.connect,
                    contexts=door.contexts,
                    client=client,
                    quick_ack=door.quick_ack,
                    greeted=True,
                )
        session = cls(stream, door, parser)
        try:
            await session._begin()
        except BaseException:
            session.close()
            raise
        return session

    async def _begin(self) -> None:
        self._limit(self.door.times.greeting)
        greeting = await self._next()
        if not isinstance(greeting, Untagged) or greeting.name not in ("OK", "PREAUTH"):
            seen = Seen.REFUSED if isinstance(greeting, Untagged) and greeting.name == "BYE" else Seen.BROKEN
            reason = f"greeting of {self.door.endpoint}: {greeting}"
            raise Trouble(again(451, "4.3.2", "the mail server is not available", reason), seen)
        self.preauthenticated = greeting.name == "PREAUTH"
        self._note_capabilities(greeting)
        if self.door.endpoint.tls in (TlsMode.STARTTLS, TlsMode.OPPORTUNISTIC):
            await self._start_tls(demanded=self.door.endpoint.tls is TlsMode.STARTTLS)
        if not self.capabilities:
            await self.ask("CAPABILITY")

    async def _start_tls(self, *, demanded: bool) -> None:
        if not self.capabilities:
            await self.ask("CAPABILITY")
        if "STARTTLS" not in self.capabilities:
            if demanded:
                raise self._insecure("STARTTLS is demanded and was not offered")
            return
        answer = await self.ask("STARTTLS")
        if not answer.ok:
            raise self._insecure(f"STARTTLS was refused: {answer.words}")
        if self._parser.take_rest():
            # RFC 9051 section 6.2.1, CVE-2011-0411: somebody put words into the server's mouth.
            raise self._insecure("something was said in the clear after STARTTLS")
        with troubles(f"TLS with {self.door.endpoint}"):
            await secure(self.stream, self.door.endpoint, self.door.contexts)
        self.capabilities = frozenset()  # what was said in the clear is worth nothing now

    def _insecure(self, reason: str) -> Trouble:
        reason = f"{self.door.endpoint}: {reason}"
        return Trouble(again(451, "4.7.4", "no secure connection to the mail server", reason), Seen.BROKEN)

    # ---- asking

    def limit(self, name: str) -> int | None:
        """The number in a capability like APPENDLIMIT=1000 (RFC 7889); None: there is none."""
        for each in self.capabilities:
            key, _, value = each.partition("=")
            if key == name and value.isdecimal():
                return int(value)
        return None

    def make(self, name: str, *arguments: Argument) -> Command:
        """A command in the spelling that the server understands; ValueError for what IMAP can't say."""
        self._commands.capabilities = self.capabilities
        return self._commands.make(name, *arguments)

    def make_pieces(self, first: str, *later: bytes) -> Command:
        """A command whose later lines each wait for a continuation (RFC 9051 section 6.2.2)."""
        tag = self._commands.tag()
        return Command(tag, (f"{tag} {first}\r\n".encode("ascii"), *(line + b"\r\n" for line in later)))

    async def ask(self, name: str, *arguments: Argument, seconds: float | None = None) -> Answer:
        with troubles(self.doing):
            command = self.make(name, *arguments)
        return await self.run(command, seconds=seconds)

    async def run(self, command: Command, *, seconds: float | None = None) -> Answer:
        """One command, waiting for each continuation it needs."""
        self._limit(seconds or self.door.times.command)
        untagged: list[Untagged] = []
        for piece in command.pieces:
            if piece is not command.pieces[0]:
                response = await self._response(untagged)
                if isinstance(response, Tagged):  # refused: the rest isn't sent
                    return self._answered(response, command.tag, untagged)
            with troubles(self.doing):
                await self.stream.write(piece)
        while not isinstance(response := await self._response(untagged), Tagged):
            # RFC 9051 section 6.2.2: one challenge more than we have answers for
            with troubles(self.doing):
                await self.stream.write(b"*\r\n")
        return self._answered(response, command.tag, untagged)

    async def offer(self, tag: str, piece: bytes, *, seconds: float | None = None) -> Answer | None:
        """A piece of a command after which the server asks for the next; an answer: it is refused, and over."""
        self._limit(seconds or self.door.times.command)
        untagged: list[Untagged] = []
        await self.give(piece)
        response = await self._response(untagged)
        return self._answered(response, tag, untagged) if isinstance(response, Tagged) else None

    async def give(self, piece: bytes, *, seconds: float | None = None) -> None:
        """A piece of a command that the server has asked for, or need not ask for."""
        if seconds is not None:
            self._limit(seconds)
        with troubles(self.doing):
            await self.stream.write(piece)

    async def conclude(self, tag: str, piece: bytes, *, seconds: float | None = None) -> Answer:
        """The last piece of a command."""
        self._limit(seconds or self.door.times.command)
        untagged: list[Untagged] = []
        await self.give(piece)
        response = await self._response(untagged)
        if not isinstance(response, Tagged):
            raise self._babble("a continuation that nobody waits for")
        return self._answered(response, tag, untagged)

    async def run_together(
        self, commands: Sequence[Command], *, seconds: float | None = None, sent: bytes = b""
    ) -> list[Answer]:
        """Commands in one write, answered in their order; only for those that may be sent so (RFC 9051 section 5.5).

        `sent`: what has been written already, all of it or nothing.
        """
        self._limit(seconds or self.door.times.command)
        data = [command.data for command in commands]
        if sent and sent != b"".join(data):
            raise self._babble("something else was asked before")
        with troubles(self.doing):
            if not sent:
                for words in data if sum(map(len, data)) > TOGETHER else [b"".join(data)]:
                    await self.stream.write(words)
        answers = []
        for command in commands:
            untagged: list[Untagged] = []
            response = await self._response(untagged)
            if not isinstance(response, Tagged):
                raise self._babble("a continuation that nobody waits for")
            answers.append(self._answered(response, command.tag, untagged))
        return answers

    async def each(
        self, command: Command, *, seconds: float | None = None
    ) -> AsyncGenerator[Untagged | Tagged, None]:
        """The responses to one command as they come, the tagged one last; `seconds` from each to the next."""
        self._limit(seconds or self.door.times.command)
        with troubles(self.doing):
            await self.stream.write(command.data)
        while True:
            self._limit(seconds or self.door.times.command)
            response = await self._next()
            if isinstance(response, Continuation):
                raise self._babble("a continuation that nobody waits for")
            if isinstance(response, Tagged):
                yield self._answered(response, command.tag, []).tagged
                return
            yield response
            del response  # the next may be a while in coming

    async def skip(self, tag: str, *, seconds: float | None = None) -> None:
        """Reads on to the tagged response of a command whose other responses nobody wants any more."""
        while True:
            self._limit(seconds or self.door.times.command)
            response = await self._next()
            if isinstance(response, Tagged):
                self._answered(response, tag, [])
                return

    def quiet(self) -> bool:
        """Whether the server has said nothing unasked, and is there: a connection that may be used again."""
        try:
            data = self.stream.receive(READ)
        except OSError:
            return False
        if data:
            self._parser.receive(data)
        return data is None and not self._parser.holding

    def _answered(self, tagged: Tagged, tag: str, untagged: list[Untagged]) -> Answer:
        if tagged.tag != tag:
            raise self._babble(f"an answer to {tagged.tag}, which was not asked")
        for response in untagged:
            self._note_capabilities(response)
        self._note_capabilities(tagged)
        return Answer(tagged, untagged)

    async def _response(self, untagged: list[Untagged]) -> Tagged | Continuation:
        """Up to the next response that is not untagged; those are put into the list."""
        next_event = self._parser.next_event
        with troubles(self.doing):
            while True:
                event = next_event()
                if isinstance(event, Untagged):
                    untagged.append(event)
                    if len(untagged) > MAX_RESPONSES:
                        raise self._babble("too many responses to one command")
                elif event is None:
                    await self._more()
                elif isinstance(event, Tagged | Continuation):
                    return event
                else:
                    self._pass_over(event)

    async def _more(self) -> None:
        data = await self.stream.read(READ)
        if not data:
            raise closed(self.doing)
        self._parser.receive(data)

    async def _next(self) -> Response:
        with troubles(self.doing):
            while True:
                event = self._parser.next_event()
                if event is None:
                    await self._more()
                elif isinstance(event, Tagged | Untagged | Continuation):
                    return event
                else:
                    self._pass_over(event)

    def _pass_over(self, event: Big | Chunk) -> None:
        """A literal that the parser was told not to collect; it takes its time. Its response says how large it was."""
        if isinstance(event, Big):
            self.stream.deadline = (self.stream.deadline or self._clock()) + event.size / SLOWEST

    def _babble(self, reason: str) -> Trouble:
        reason = f"{self.doing}: {reason}"
        return Trouble(again(451, "4.5.0", "the mail server cannot be understood", reason), Seen.BROKEN)

    def _note_capabilities(self, response: Tagged | Untagged) -> None:
        if (named := capabilities_in(response)) is not None:
            self.capabilities = named

    def forget_capabilities(self) -> None:
        """Before a log-in: what the server then names are the new ones, if it names any."""
        self.capabilities = frozenset()

    def _limit(self, seconds: float) -> None:
        self.stream.deadline = self._clock() + seconds

    # ---- the end

    def hand_over(self) -> Stream:
        """The stream for a relay: what was read and not used is put back, and nothing limits its time."""
        self.stream.unread(self._parser.take_rest())
        self.stream.deadline = None
        return self.stream

    def close(self) -> None:
        self.stream.close()

    async def leave(self) -> None:
        """LOGOUT, whose answer nobody waits for."""
        with suppress(ConnectionError):
            self.stream.write_nowait(self.make("LOGOUT").data)
        await self.stream.aclose()


def capabilities_in(response: Tagged | Untagged) -> frozenset[str] | None:
    """In capitals; None where it names none."""
    if isinstance(response, Untagged) and response.name == "CAPABILITY":
        values = response.values
    elif response.code is not None and response.code.name == "CAPABILITY":
        values = response.code.values
    else:
        return None
    return frozenset(" ".join(map(str, values)).upper().split())
