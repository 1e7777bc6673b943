"""A warm IMAP session of one account: what links have asked of it once, and which folder it has open.

Knows capabilities, namespaces (RFC 2342), SELECT and how a folder is let go of. Does not know what is read or written
there. A command that was not answered leaves it unfit for any other: `good` says so.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from onedomain.backend.imap_session import Answer, ImapDoor, ImapSession
from onedomain.backend.login import Login, log_in
from onedomain.backend.trouble import Trouble, troubles
from onedomain.model.account import Account
from onedomain.model.failure import Failed, again, refuse
from onedomain.model.health import Seen
from onedomain.model.replica import LARGEST, Listing, Mark
from onedomain.protocol.imap.client import Argument, Command, quoted
from onedomain.protocol.imap.response import ResponseError, ResponseLimits, Tagged, Untagged
from onedomain.protocol.imap.rows import RowParser

AROUND = 4 * 1024 * 1024
"""Bytes of a response around its message."""


_FOR_GOOD = frozenset(("OVERQUOTA", "TOOBIG", "LIMIT", "CANNOT", "BADCHARSET", "UNKNOWN-CTE"))
_PASSING = frozenset((
    "TRYCREATE", "NONEXISTENT", "UNAVAILABLE", "SERVERBUG", "INUSE", "CONTACTADMIN", "NOPERM", "READ-ONLY", "CLIENTBUG",
    "ALREADYEXISTS",
))
_PASSING_WORDS = re.compile(
    r"(?i)i/o|internal|temporar|try again|unavailable|lock|time ?out|timed|busy|disk|space|permission|read-?only|system"
)


@dataclass(frozen=True, slots=True)
class Namespace:
    """`foreign`: prefixes of other people's and of shared folders."""

    separator: str = "/"
    prefix: str = ""
    foreign: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A folder as SELECT or EXAMINE showed it. `permanent`: PERMANENTFLAGS in lower case; None: not said, so all."""

    name: str
    mark: Mark
    permanent: frozenset[str] | None = None

    def keeps(self, flag: str) -> bool:
        permanent = self.permanent
        return permanent is None or flag.lower() in permanent or (not flag.startswith("\\") and "\\*" in permanent)


class Connection:
    """Implements sessions.Warm. Raises Trouble, which is Failed, and CancelledError."""

    def __init__(self, session: ImapSession, account: Account, parser: RowParser) -> None:
        self.session = session
        self.account = account
        self.parser = parser
        self.changes = False
        self.namespace = Namespace()
        self.listed: tuple[list[Untagged], Listing] | None = None  # what LIST said last, and what that came to
        self._selected: tuple[str, bool] | None = None  # with whether it was EXAMINE
        self._tells_uidnext = True
        self._asking = False
        self._left = ""  # the tag of a command whose answer was not taken to its end

    @classmethod
    async def open(cls, door: ImapDoor, login: Login, account: Account) -> Connection:
        parser = RowParser(ResponseLimits(response=LARGEST + AROUND, stream_above=LARGEST))
        session = await ImapSession.open(door, parser=parser)
        try:
            session.doing = f"link to {account.address} at {door.endpoint}"
            await log_in(session, login)
            connection = cls(session, account, parser)
            await connection._begin()
        except BaseException:
            session.close()
            raise
        return connection

    async def _begin(self) -> None:
        if self.can("ENABLE") and self.can("CONDSTORE") and self.can("QRESYNC"):
            enabled = await self.ask("ENABLE", "QRESYNC")
            said = {str(value).upper() for each in enabled.named("ENABLED") for value in each.values}
            self.changes = enabled.ok and "QRESYNC" in said
        if self.can("NAMESPACE"):
            answer = await self.ask("NAMESPACE")
            with troubles(self.session.doing):
                for each in answer.named("NAMESPACE"):
                    self.namespace = _namespace(each)
        else:
            answer = await self.ask("LIST", b"", b"")  # RFC 3501 section 6.3.8: just the separator
            for each in answer.named("LIST"):
                if len(each.values) > 1 and isinstance(each.values[1], bytes):
                    self.namespace = Namespace(text(each.values[1]) or "/")

    def can(self, capability: str) -> bool:
        return capability in self.session.capabilities

    def limit(self, name: str) -> int | None:
        return self.session.limit(name)

    # ---- asking

    async def ask(self, name: str, *arguments: Argument, seconds: float | None = None) -> Answer:
        with troubles(self.session.doing):
            command = self.session.make(name, *arguments)
        return await self.run(command, seconds=seconds)

    async def demand(self, name: str, *arguments: Argument, seconds: float | None = None) -> Answer:
        """`ask` where only OK will do."""
        answer = await self.ask(name, *arguments, seconds=seconds)
        if not answer.ok:
            raise self.refused(name, answer)
        return answer

    async def run(self, command: Command, *, seconds: float | None = None) -> Answer:
        await self.begin()
        answer = await self.session.run(command, seconds=seconds)
        self._asking = False
        return answer

    async def run_together(self, commands: list[Command], *, seconds: float | None = None) -> list[Answer]:
        await self.begin()
        answers = await self.session.run_together(commands, seconds=seconds)
        self._asking = False
        return answers

    async def offer(self, tag: str, piece: bytes, *, seconds: float) -> Answer | None:
        """A piece of a command that was begun and that `conclude` ends; an answer: it is refused, and over."""
        answer = await self.session.offer(tag, piece, seconds=seconds)
        self._asking = answer is None
        return answer

    async def conclude(self, tag: str, piece: bytes, *, seconds: float) -> Answer:
        answer = await self.session.conclude(tag, piece, seconds=seconds)
        self._asking = False
        return answer

    async def each(self, name: str, *arguments: Argument) -> AsyncGenerator[Untagged, None]:
        """Untagged responses as they come. What is not taken is skipped before the next command. Raises as `demand`,
        except that messages which are gone by now are no error (RFC 5530 EXPUNGEISSUED).
        """
        with troubles(self.session.doing):
            command = self.session.make(name, *arguments)
        await self.begin()
        async with aclosing(self.session.each(command)) as responses:
            async for response in responses:
                if isinstance(response, Tagged):
                    self._asking = False
                    answer = Answer(response)
                    if not answer.ok and answer.code != "EXPUNGEISSUED":
                        raise self.refused(name, answer)
                    return
                self._left = command.tag
                yield response
                del response  # the next may be a while in coming
                self._left = ""

    async def begin(self) -> None:
        """A command begins; the one before has to be answered."""
        if self._left:
            tag, self._left = self._left, ""
            await self.session.skip(tag)
        elif self._asking:
            raise self.failed("a command before this one was not answered")
        self._asking = True

    def refused(self, doing: str, answer: Answer) -> Failed:
        reason = f"{self.session.doing}: {doing}: {answer.words}"
        return Trouble(again(451, "4.3.0", "the mail server refuses", reason), Seen.OK)

    def unwanted(self, doing: str, answer: Answer) -> Failed:
        """A folder of that name can't be had."""
        if not for_good(answer):
            return self.refused(doing, answer)
        reason = f"{self.session.doing}: {doing}: {answer.words}"
        return Trouble(refuse(550, "5.6.0", "the mail server will not have that name", reason), Seen.OK)

    def failed(self, why: str) -> Failed:
        return Failed(again(451, "4.3.0", "the mail server is not as it was", f"{self.session.doing}: {why}"))

    # ---- folders

    async def open_folder(self, folder: str, *, write: bool = False) -> Opened:
        """Always anew: a session that stays in a folder sees it as it was (Dovecot runs a FETCH pipelined behind NOOP
        on the old view). EXAMINE leaves \\Recent to the user's own sessions.
        """
        uidnext = 0
        if not self._tells_uidnext:
            uidnext = await self._ask_uidnext(folder)
        self._selected = None
        answer = await self.demand("SELECT" if write else "EXAMINE", wire(folder))
        self._selected = (folder, not write)
        if (opened := self.opened(folder, answer, uidnext)) is not None:
            return opened
        # Asked afterwards it would be of messages that the folder, as it is open now, does not show.
        await self.let_go()
        return await self.open_folder(folder, write=write)

    def opening(self, folder: str) -> Command | None:
        """EXAMINE, to be sent together with what follows; None where that can't be."""
        if not self._tells_uidnext or quoted(wire(folder)) is None:
            return None
        self._selected = (folder, True)
        return self.session.make("EXAMINE", wire(folder))

    def opened(self, folder: str, answer: Answer, uidnext: int = 0) -> Opened | None:
        """What SELECT or EXAMINE said; None where it did not say UIDNEXT."""
        found: dict[str, int] = {"UIDNEXT": uidnext}
        permanent: frozenset[str] | None = None
        for each in answer.untagged:
            if each.name == "EXISTS":
                found["EXISTS"] = each.number or 0
            elif each.code is None or not each.code.values:
                continue
            elif each.code.name == "PERMANENTFLAGS" and isinstance(each.code.values[0], list):
                permanent = frozenset(str(flag).lower() for flag in each.code.values[0])
            elif isinstance(each.code.values[0], int):
                found[each.code.name] = each.code.values[0]
        if not found["UIDNEXT"]:
            self._tells_uidnext = False
            return None
        modseq = found.get("HIGHESTMODSEQ", 0) if self.changes else 0
        mark = Mark(found.get("UIDVALIDITY", 0), found["UIDNEXT"], modseq, found.get("EXISTS", 0))
        return Opened(folder, mark, permanent)

    async def _ask_uidnext(self, folder: str) -> int:
        await self.let_go()
        status = await self.demand("STATUS", wire(folder), ["UIDNEXT"])
        for each in status.named("STATUS"):
            values = each.values[1] if len(each.values) == 2 and isinstance(each.values[1], list) else []
            for key, value in zip(values[::2], values[1::2], strict=False):
                if str(key).upper() == "UIDNEXT" and isinstance(value, int) and value:
                    return value
        raise self.failed(f"no UIDNEXT of {folder}: it can't be kept in step")

    async def let_go(self) -> None:
        """No folder is open any more: STATUS of an open one tells how it was, and to change its UIDVALIDITY ends us."""
        for command in self.letting_go():
            answer = await self.run(command)
            if not answer.ok:
                raise self.refused("UNSELECT", answer)

    def letting_go(self) -> list[Command]:
        """The commands for it, which may be sent together with others."""
        if self._selected is None:
            return []
        folder, read_only = self._selected
        self._selected = None
        if self.can("UNSELECT"):
            return [self.session.make("UNSELECT")]
        # CLOSE expunges, except after EXAMINE (RFC 3501 section 6.4.2).
        first = [] if read_only else [self.session.make("EXAMINE", wire(folder))]
        return [*first, self.session.make("CLOSE")]

    # ---- the end

    @property
    def good(self) -> bool:
        return not self._asking and not self.session.stream.closed

    def quiet(self) -> bool:
        return self.session.quiet()

    def close(self) -> None:
        self.session.close()

    async def leave(self) -> None:
        await self.session.leave()


def text(name: bytes) -> str:
    """A folder's name as the server spells it; what is no UTF-8 comes through unharmed."""
    return name.decode("utf-8", "surrogateescape")


def wire(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def as_bytes(value: object) -> bytes:
    """A string or an atom (a number and NIL are atoms, too)."""
    return value if isinstance(value, bytes) else b"NIL" if value is None else str(value).encode("utf-8")


def _namespace(response: Untagged) -> Namespace:
    """The first personal one; with all prefixes of the others."""
    personal, *others = (part if isinstance(part, list) else [] for part in response.values[:3])
    foreign = []
    for entry in (entry for part in others for entry in part):
        if not isinstance(entry, list) or not entry:
            raise ResponseError(f"NAMESPACE response of odd shape: {response.values}")
        if prefix := as_bytes(entry[0]):
            foreign.append(prefix)
    separator, prefix_of_own = "/", ""
    if personal and isinstance(personal[0], list) and len(personal[0]) > 1:
        prefix_of_own = text(as_bytes(personal[0][0]))
        separator = text(as_bytes(personal[0][1])) if personal[0][1] is not None else "/"
    return Namespace(separator or "/", prefix_of_own, tuple(foreign))


def for_good(answer: Answer) -> bool:
    """Whether the same message, or name, will be refused another time, too (RFC 5530, RFC 7889, or by the words)."""
    if answer.tagged.status != "NO" or answer.code in _PASSING:
        return False
    return answer.code in _FOR_GOOD or not _PASSING_WORDS.search(answer.tagged.text)
