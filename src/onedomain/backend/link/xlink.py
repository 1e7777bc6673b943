"""A connection that speaks XLINK, the node's language for links (docs/replication-protocol.md).

Knows how it is logged in, how a command is written and how its lines read, and what the node has told of each account
on this connection: a database that was put back in time can't be behind a connection that is still open. Does not know
what a link wants.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from onedomain.backend.imap_session import Answer, ImapDoor, ImapSession
from onedomain.backend.login import Login, log_in
from onedomain.backend.trouble import Trouble
from onedomain.model.failure import Failed, again
from onedomain.model.health import Seen
from onedomain.model.replica import Identity, Mark
from onedomain.protocol.imap import render
from onedomain.protocol.imap.client import Command
from onedomain.protocol.imap.response import ResponseError, Tagged, Untagged
from onedomain.protocol.imap.sequence import MAX_TOLD, BadSet, parse_set

CAPABILITY = "XLINK=1"
KNOWN = 1000
"""Accounts whose folders one connection remembers."""

MAX_UIDS = 5_000_000
"""Of one set, written out."""


class Refusal(Failed):
    """A tagged NO or BAD: nothing was done. `code` and `values` are those in its brackets."""

    def __init__(self, doing: str, tagged: Tagged) -> None:
        code = f"[{tagged.code.name} {' '.join(map(str, tagged.code.values))}] " if tagged.code else ""
        reason = f"{doing}: {tagged.status} {code}{tagged.text}"
        super().__init__(again(451, "4.3.0", "the mail server would not", reason))
        self.code = tagged.code.name if tagged.code else ""
        self.values: list[Any] = tagged.code.values if tagged.code else []
        self.words = f"{code}{tagged.text}".strip()


class FolderAt(NamedTuple):
    """A FOLDER line. `name` as it is spelt on the wire."""

    mailbox_id: str
    name: str
    mark: Mark
    special_use: str


@dataclass(slots=True)
class Account:
    """What a node has told of one account up to its commit `number`; folders by mailbox id."""

    node: str = ""
    number: int = 0
    subscriptions: tuple[str, ...] = ()
    folders: dict[str, FolderAt] = field(default_factory=dict)


class MessageAt(NamedTuple):
    """A MESSAGE line; `raw` None where it came without its bytes."""

    uid: int
    modseq: int
    date: int
    flags: frozenset[str]
    raw: bytes | None


class Xlink:
    """`good` and `uses` are the pool's."""

    def __init__(self, session: ImapSession) -> None:
        self.good = True
        self.uses = 0
        self._session = session
        self.append_limit = session.limit("APPENDLIMIT")
        self._count = 0
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    @classmethod
    async def open(cls, door: ImapDoor, user: str, password: str) -> Xlink:
        """Raises Failed."""
        session = await ImapSession.open(door)
        try:
            await log_in(session, Login(user, password, own=True))
            if CAPABILITY not in session.capabilities:
                reason = f"{door.endpoint}: {user} is not its replication user (no {CAPABILITY})"
                raise Trouble(again(454, "4.7.0", "temporary authentication failure", reason), Seen.OK)
        except BaseException:
            session.close()
            raise
        return cls(session)

    def quiet(self) -> bool:
        return self._session.quiet()

    def close(self) -> None:
        self._session.close()

    async def leave(self) -> None:
        await self._session.leave()

    async def ask(self, *words: bytes, seconds: float | None = None) -> tuple[Tagged, list[list[Any]]]:
        """The tagged answer, and the values of the XLINK lines before it. Raises Failed."""
        answer = await self._session.run(self._command(words), seconds=seconds)
        return answer.tagged, _lines(answer)

    async def give(self, pieces: Sequence[bytes], seconds: float) -> tuple[Tagged, list[list[Any]]]:
        """The same for an APPEND, whose literals are in the pieces; each but the first is waited for."""
        tag = self._tag()
        first = b"%b XLINK %b" % (tag.encode(), pieces[0])
        answer = await self._session.run(Command(tag, (first, *pieces[1:])), seconds=seconds)
        return answer.tagged, _lines(answer)

    async def each(self, *words: bytes) -> AsyncGenerator[list[Any] | Tagged, None]:
        """The lines as they come, the tagged answer last."""
        async for response in self._session.each(self._command(words)):
            if isinstance(response, Untagged):
                if response.name == "XLINK":
                    yield response.values
            else:
                yield response

    async def account(self, name: str) -> Account:
        """Folders and subscriptions as they are now; asked for only as far as they have changed. Raises Failed."""
        known = self._accounts.pop(name, None) or Account()
        tagged, lines = await self._changes(name, known.number)
        return await self._changed(name, known, tagged, lines)

    async def look(self, name: str, folder: str, words: bytes) -> tuple[list[list[Any]], FolderAt, Account] | None:
        """MESSAGES of a folder and `account` after it, in one round trip: the lines of the first, and which folder it
        was asked for. None where that folder is not known here, or refused.
        """
        known = self._accounts.get(name) or Account()
        at = next((each for each in known.folders.values() if each.name == folder), None)
        if at is None:
            return None
        place = b"%b %b %d" % (string(name), at.mailbox_id.encode(), at.mark.uidvalidity)
        read, listed = await self._session.run_together([
            self._command((b"MESSAGES", place, words)), self._command((self._since(name, known.number),))])
        account = await self._changed(name, known, listed.tagged, _lines(listed))
        return (_lines(read), at, account) if read.ok else None

    async def _changed(self, name: str, known: Account, tagged: Tagged, lines: list[list[Any]]) -> Account:
        if tagged.code is not None and tagged.code.name == "ROLLEDBACK":
            known = Account()
            tagged, lines = await self._changes(name, 0)
        if tagged.status != "OK":
            raise Refusal(self._session.doing, tagged)
        fresh = Account(known.node, known.number, known.subscriptions, dict(known.folders))
        for line in lines:
            match line:
                case ["ACCOUNT", _, list(names)]:
                    fresh.subscriptions = tuple(map(_text, names))
                    fresh.folders.clear()
                case ["FOLDER", *values]:
                    folder = folder_of(values)
                    fresh.folders[folder.mailbox_id] = folder
                case ["NOACCOUNT", *_]:
                    raise Failed(again(450, "4.2.1", "no such mailbox", f"{self._session.doing}: no account {name}"))
                case ["NODE", node, int(number)]:
                    if known.node not in ("", str(node)):
                        raise self._babble("another database behind the same connection")
                    fresh.node, fresh.number = str(node), number
                case _:
                    raise self._babble(f"CHANGES answered {str(line)[:80]}")
        self._accounts[name] = fresh
        if len(self._accounts) > KNOWN:
            self._accounts.popitem(last=False)
        return fresh

    async def _changes(self, name: str, number: int) -> tuple[Tagged, list[list[Any]]]:
        return await self.ask(self._since(name, number))

    def _since(self, name: str, number: int) -> bytes:
        return b"CHANGES %d (%b) COUNTED" % (number, string(name))

    def _command(self, words: Iterable[bytes]) -> Command:
        tag = self._tag()
        return Command(tag, (b"%b XLINK %b\r\n" % (tag.encode(), b" ".join(words)),))

    def _tag(self) -> str:
        self._count += 1
        return f"x{self._count}"

    def _babble(self, reason: str) -> Trouble:
        reason = f"{self._session.doing}: {reason}"
        return Trouble(again(451, "4.5.0", "the mail server cannot be understood", reason), Seen.BROKEN)


def _lines(answer: Answer) -> list[list[Any]]:
    return [response.values for response in answer.untagged if response.name == "XLINK"]


def string(text: str) -> bytes:
    return render.string(text.encode("utf-8", "surrogateescape"))


def folder_of(values: Sequence[Any]) -> FolderAt:
    """`account mailboxid uidvalidity name uidnext highestmodseq use messages`. Raises ResponseError."""
    match values:
        case [_, mailbox_id, int(uidvalidity), name, int(uidnext), int(modseq), use, int(messages)]:
            mark = Mark(uidvalidity, uidnext, modseq, messages)
            return FolderAt(str(mailbox_id), _text(name), mark, "" if use is None else _text(use))
    raise ResponseError(f"no FOLDER line: {str(values)[:200]}")


def message_of(values: Sequence[Any]) -> MessageAt:
    """`uid modseq date flags size sha256 delivery [literal]`. Raises ResponseError."""
    match values:
        case [int(uid), int(modseq), date, list(flags), int(), _, _, *rest]:
            raw = rest[0] if rest and isinstance(rest[0], bytes) else None
            return MessageAt(uid, modseq, int(date), frozenset(map(str, flags)), raw)
    raise ResponseError(f"no MESSAGE line: {str(values)[:200]}")


def identity_line(values: Sequence[Any]) -> tuple[int, Identity]:
    """`uid digest delivery filler`. Raises ResponseError."""
    match values:
        case [int(uid), bytes(digest), bytes() | None as delivery, int(filler)]:
            return uid, Identity(digest.decode("ascii"), (delivery or b"").decode("latin-1"), bool(filler))
    raise ResponseError(f"no IDENTITY line: {str(values)[:200]}")


def ranges_of(value: Any) -> tuple[tuple[int, int], ...]:
    """A set's ranges, ascending, apart. Raises ResponseError."""
    try:
        return tuple(parse_set(str(value).encode(), MAX_TOLD).resolve(0))
    except BadSet as error:
        raise ResponseError(f"{error}: {str(value)[:80]}") from None


def uids_of(value: Any) -> tuple[int, ...]:
    """A set, written out. Raises ResponseError."""
    ranges = ranges_of(value)
    if sum(high - low + 1 for low, high in ranges) > MAX_UIDS:
        raise ResponseError("too many UIDs in a set")
    return tuple(uid for low, high in ranges for uid in range(low, high + 1))


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
