"""Cyrus's replication language on its IMAP port, as an administrator: SYNCGET, SYNCAPPLY, SYNCRESTART.

Knows how a mailbox is described there and how it is changed: what is not said of it is lost (annotations, ACL), so
everything is read first and said again; records that are not named stay. Does not know whose mailbox it is.

Measured with Cyrus 3.6.1. A record whose message was not uploaded, and an empty message, make imapd abort: MAILBOX is
sent only after the OK for MESSAGE. What is uploaded stays in a staging folder until SYNCRESTART. Messages are taken
octet by octet (munge8bit, bare LF and bad headers are matters of APPEND); a FETCH shows those with NULs as a literal8,
which not every client understands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha1
from typing import Any, NamedTuple

from onedomain.backend.imap_session import Answer, ImapDoor, ImapSession
from onedomain.backend.login import Login, log_in
from onedomain.backend.trouble import Trouble, troubles
from onedomain.model.failure import Failed, again
from onedomain.model.health import Seen
from onedomain.protocol.imap.client import Command, quoted
from onedomain.protocol.imap.response import ResponseError

CAPABILITY = "X-REPLICATION"
STAGED = 1000
"""Messages uploaded before the staging folder is emptied."""

SLOWEST = 100_000
_LEFT_OUT = frozenset(("RECORD", "SYNC_CRC", "SYNC_CRC_ANNOT", "SINCE_MODSEQ", "SINCE_CRC", "SINCE_CRC_ANNOT"))


class Changed(Failed):
    """The mailbox is not as it was when it was read: nothing was done."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What SYNCGET says of a mailbox, by key in capitals: str for atoms, int, bytes for strings, lists."""

    fields: Mapping[str, Any] = field(repr=False)

    @property
    def uniqueid(self) -> str:
        return _text(self.fields["UNIQUEID"])

    @property
    def name(self) -> bytes:
        """The internal one: `example.com!user.taro.Sent`."""
        return _text(self.fields["MBOXNAME"]).encode("utf-8", "surrogateescape")

    @property
    def partition(self) -> str:
        return _text(self.fields.get("PARTITION", "default"))

    @property
    def uidnext(self) -> int:
        return self._number("LAST_UID") + 1

    @property
    def modseq(self) -> int:
        return self._number("HIGHESTMODSEQ")

    @property
    def uidvalidity(self) -> int:
        return self._number("UIDVALIDITY")

    def _number(self, key: str) -> int:
        value = self.fields.get(key, 0)
        return value if isinstance(value, int) else 0

    def but(self, **fields: Any) -> Mailbox:
        return Mailbox({**self.fields, **fields})


class Record(NamedTuple):
    """A message of a mailbox. `flags` system flags and keywords."""

    uid: int
    modseq: int
    flags: Sequence[str]
    date: int
    size: int
    guid: str

    def written(self) -> bytes:
        """At once, as a first copy writes thousands."""
        return b'%%(UID %d MODSEQ %d LAST_UPDATED %d FLAGS %b INTERNALDATE %d SIZE %d GUID %b)' % (
            self.uid, self.modseq, self.date, _flags(tuple(self.flags)), self.date, self.size,
            self.guid.encode("ascii"),
        )  # fmt: skip


class SyncConnection:
    """`good` and `uses` are the pool's. Raises Failed and CancelledError only."""

    def __init__(self, session: ImapSession) -> None:
        self.good = True
        self.uses = 0
        self.session = session
        self._staged = 0

    @classmethod
    async def open(cls, door: ImapDoor, user: str, password: str) -> SyncConnection:
        session = await ImapSession.open(door)
        try:
            session.doing = f"SYNCAPPLY at {door.endpoint}"
            await log_in(session, Login(user, password, own=True))
        except BaseException:
            session.close()
            raise
        return cls(session)

    def quiet(self) -> bool:
        return self.session.quiet()

    def close(self) -> None:
        self.session.close()

    async def leave(self) -> None:
        await self.session.leave()

    async def offered(self) -> bool:
        """Whether the server speaks it to this log-in, in a form known here."""
        if CAPABILITY not in self.session.capabilities:
            return False
        return (await self._ask(b"SYNCGET UNIQUEIDS (onedomain-nobody)")).ok

    async def mailbox(self, uniqueid: str) -> Mailbox:
        return (await self.mailboxes([uniqueid]))[0]

    async def mailboxes(self, uniqueids: Sequence[str]) -> list[Mailbox]:
        """In this order, all of them."""
        answer = await self._ask(b"SYNCGET UNIQUEIDS " + _written(list(uniqueids)))
        if not answer.ok:
            raise self.refused(answer)
        with troubles(self.session.doing):
            found = {each.uniqueid: each for each in map(_mailbox, (one.values for one in answer.named("MAILBOX")))}
        for each in uniqueids:
            if each not in found:
                reason = f"{self.session.doing}: no mailbox {each}"
                raise Failed(again(450, "4.2.0", "the folder is gone", reason))
        return [found[each] for each in uniqueids]

    async def has_scripts(self, user: str) -> bool:
        """Whether the user has Sieve scripts."""
        answer = await self._ask(b"SYNCGET USER %b" % _written(user))
        if not answer.ok:
            raise self.refused(answer)
        return bool(answer.named("SIEVE"))

    async def upload(self, partition: str, messages: Sequence[bytes]) -> list[str]:
        """Their GUIDs. None of them may be empty."""
        if self._staged + len(messages) > STAGED:
            await self._ask(b"SYNCRESTART")
            self._staged = 0
        guids = [sha1(raw).hexdigest() for raw in messages]
        once = dict(zip(guids, messages, strict=True))
        self._staged += len(once)
        where = _written(partition)
        reserve = b"SYNCAPPLY RESERVE %%(PARTITION %b MBOXNAME () GUID (%b))" % (where, " ".join(once).encode())
        pieces = [b"SYNCAPPLY MESSAGE ("]
        for guid, raw in once.items():
            pieces += [b"%%{%b %b %d}\r\n" % (where, guid.encode(), len(raw)), raw, b" "]
        pieces[-1] = b")"
        commands = [self._command(reserve), self._command(*pieces)]
        size = sum(map(len, once.values()))
        for answer in await self.session.run_together(commands, seconds=self._seconds(size)):
            if not answer.ok:
                raise self.refused(answer)
        return guids

    async def apply(self, mailbox: Mailbox, records: Sequence[Record] = (), since: int = 0) -> Answer:
        """Makes or changes it. `since`: only if its HIGHESTMODSEQ is this, else raises Changed."""
        answer = await self._ask(self._applied(mailbox, records, since))
        if self._is_changed(answer):
            raise Changed(self.refused(answer).failure)
        return answer

    async def apply_unless_changed(self, mailboxes: Sequence[tuple[Mailbox, int]]) -> list[int]:
        """Each with the HIGHESTMODSEQ that it has to have; which of them have another. Raises Failed where one is
        refused.
        """
        lines = [self._applied(mailbox, (), since) for mailbox, since in mailboxes]
        answers = await self.session.run_together([self._command(line) for line in lines],
                                                  seconds=self._seconds(sum(map(len, lines))))
        for answer in answers:
            if not answer.ok and not self._is_changed(answer):
                raise self.refused(answer)
        return [number for number, answer in enumerate(answers) if not answer.ok]

    @staticmethod
    def _is_changed(answer: Answer) -> bool:
        return refusal_is(answer, "IMAP_SYNC_CHANGED", "IMAP_SYNC_CHECKSUM")

    @staticmethod
    def _applied(mailbox: Mailbox, records: Sequence[Record], since: int) -> bytes:
        values: list[Any] = []
        for key, value in mailbox.fields.items():
            if key not in _LEFT_OUT:
                values += [key, value]
        values += ["SYNC_CRC", 0, "SYNC_CRC_ANNOT", 0]
        if since:
            values += ["SINCE_MODSEQ", since]
        rows = b" ".join(record.written() for record in records)
        return b"SYNCAPPLY MAILBOX %%(%b RECORD (%b))" % (b" ".join(_items(values)), rows)

    def refused(self, answer: Answer) -> Failed:
        reason = f"{self.session.doing}: {answer.words}"
        return Trouble(again(451, "4.3.0", "the mail server refuses", reason), Seen.OK)

    async def _ask(self, line: bytes) -> Answer:
        return await self.session.run(self._command(line), seconds=self._seconds(len(line)))

    def _command(self, *line: bytes) -> Command:
        tag = self.session.make("NOOP").tag
        return Command(tag, (b"".join((tag.encode(), b" ", *line, b"\r\n")),))

    def _seconds(self, size: int) -> float:
        return self.session.door.times.command + size / SLOWEST


def refusal_is(answer: Answer, *words: str) -> bool:
    return not answer.ok and _word(answer) in words


def _word(answer: Answer) -> str:
    """Cyrus names the error in the text: `NO IMAP_SYNC_CHANGED Changed since last sync`."""
    return answer.tagged.text.partition(" ")[0] if not answer.ok else ""


def _mailbox(values: Sequence[Any]) -> Mailbox:
    match values:
        case ["%", list(pairs)] if len(pairs) % 2 == 0 and "MBOXNAME" in pairs[::2] and "UNIQUEID" in pairs[::2]:
            return Mailbox({str(key).upper(): value for key, value in zip(pairs[::2], pairs[1::2], strict=True)})
    raise ResponseError(f"MAILBOX response of odd shape: {str(values)[:200]}")


def _written(value: Any) -> bytes:
    """As Cyrus writes its lists: `%(key value …)` where "%" stands before a list. Atoms are str, strings bytes."""
    if value is None:
        return b"NIL"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, list):
        return b"(%b)" % b" ".join(_items(value))
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    if isinstance(value, str) and value.startswith("\\"):  # a flag
        return data
    short = quoted(data)
    return short if short is not None else b"{%d+}\r\n%b" % (len(data), data)


@lru_cache(maxsize=1024)
def _flags(flags: tuple[str, ...]) -> bytes:
    return _written(list(flags))


def _items(values: Sequence[Any]) -> Iterator[bytes]:
    start = b""
    for value in values:
        if value == "%" and not start:
            start = b"%"
        else:
            yield start + _written(value)
            start = b""


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
