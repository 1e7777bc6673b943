"""Links to and from our own node: one account's mailbox over connections that serve all accounts.

Knows which question is which XLINK command, and that whatever is given carries a MODSEQ above all that the folder has
and not below the source's. So a command of ours that is carried out later than anybody thought loses against what was
given since. Does not know the wire (xlink.py), nor how folders are found (node_places.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from onedomain.backend.link.base import Letter, May, More, always
from onedomain.backend.link.node_asking import NodeAsking
from onedomain.backend.link.node_places import Places
from onedomain.backend.link.node_words import AT_ONCE, COMMAND_BYTES, commands, kept
from onedomain.backend.link.xlink import (
    FolderAt,
    MessageAt,
    Refusal,
    identity_line,
    message_of,
    ranges_of,
    string,
    uids_of,
)
from onedomain.backend.names import mailbox_name
from onedomain.backend.trouble import Trouble, troubles
from onedomain.decision.link.actions import Copied, Raise, Refused, Rows
from onedomain.decision.link.identity import identity_of
from onedomain.model.account import Account
from onedomain.model.failure import Failed, Failure, again, give_up, refuse
from onedomain.model.health import Seen
from onedomain.model.replica import Identity, Listing, Mark, Numbering, Powers, Row
from onedomain.model.server import Server
from onedomain.model.uids import NO_UIDS, UidSet
from onedomain.protocol.imap.response import ResponseError
from onedomain.protocol.imap.sequence import format_set

T = TypeVar("T")

AHEAD_OCTETS = 65536
"""Larger messages are not read before anybody has asked for them."""

SLOWEST = 100_000
"""Octets per second, of a connection that is not given up."""

_MAILBOX_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


class NodeServer(NodeAsking):
    """Implements base.LinkServer."""

    powers = Powers(Numbering.GIVEN, changes=True)

    async def end(self, account: Account) -> NodeEnd:
        if not self.server.replication_user:
            raise Failed(no_replication(self.server))
        async with self._pool.lend():
            pass
        return NodeEnd(self, mailbox_name(self.server, account).lower())

    async def provide(self, account: Account) -> None:
        await self.ask(b"ACCOUNT", string(mailbox_name(self.server, account).lower()))


def no_replication(server: Server) -> Failure:
    reason = f"server {server.name} has no replication log-in: give it replication = {{ user, password_file }}"
    return give_up(550, "5.3.5", "this server offers no log-in for links", reason)


@dataclass(slots=True)
class _Changed:
    """What MESSAGES tells of a folder; letters of those that came with their bytes."""

    mark: Mark
    rows: list[Row] = field(default_factory=list)
    vanished: UidSet = NO_UIDS
    after: int = 0
    letters: dict[int, Letter] = field(default_factory=dict)

    def told(self, since: int) -> Rows:
        vanished = self.vanished if since else NO_UIDS
        return Rows(self.mark, tuple(self.rows), vanished, max(self.after, self.mark.modseq))


def letter_of(message: MessageAt) -> Letter:
    """Raises ResponseError."""
    if message.raw is None:
        raise ResponseError("a message without its bytes")
    return Letter(message.uid, message.flags, message.date, message.raw, message.modseq)


class NodeEnd:
    """Implements base.LinkEnd."""

    powers = NodeServer.powers

    def __init__(self, server: NodeServer, account: str) -> None:
        self._server = server
        self._account = account
        self._places = Places(server, account)
        self._ahead: tuple[str, int, dict[int, Letter]] = ("", 0, {})

    # -- asking

    async def list_folders(self) -> Listing:
        return await self._places.list_all()

    async def look(self, folder: str, since: int, bodies: int) -> tuple[Rows | None, Listing]:
        words = b"%d (BODIES %d %d) COUNTED" % (since, bodies, AHEAD_OCTETS)
        told = await self._server.using(lambda xlink: xlink.look(self._account, folder, words))
        if told is None:
            listing = await self._places.list_all()
            if listing.find(folder) is None:
                return None, listing
            return await self.read(folder, since), await self._places.list_all()
        lines, at, account = told
        listing = self._places.listed(account)
        now = self._places.folders.get(folder)
        if now is None or now.mailbox_id != at.mailbox_id:  # another has its name, or nobody
            return None, listing
        changed = _Changed(at.mark)
        with troubles(self._server.doing):
            for kind, *values in lines:
                self._note(changed, at, kind, values)
        self._places.put(now)  # it was listed later than it was read
        self._ahead = folder, changed.mark.uidvalidity, changed.letters
        return changed.told(since), listing

    async def read(self, folder: str, since: int = 0, first: int = 1) -> Rows:
        return await self._places.with_one(folder, lambda at: self._read(at, since, first))

    async def _read(self, at: FolderAt, since: int, first: int) -> Rows:
        changed = _Changed(at.mark)
        wanted = b"%d%b COUNTED" % (since, b" FROM %d" % first if first > 1 else b"")
        with troubles(self._server.doing):
            async with aclosing(self._server.each(b"MESSAGES", self._places.at(at), wanted)) as lines:
                async for kind, *values in lines:
                    self._note(changed, at, kind, values)
        return changed.told(since)

    def _note(self, changed: _Changed, at: FolderAt, kind: str, values: Sequence[Any]) -> None:
        """One line of MESSAGES."""
        if kind == "MESSAGE":
            message = message_of(values)
            changed.after = max(changed.after, message.modseq)
            changed.rows.append(Row(message.uid, message.flags, message.date))
            if message.raw is not None:
                changed.letters[message.uid] = letter_of(message)
        elif kind == "FOLDER":
            changed.mark = self._places.same(at, values).mark
        elif kind == "VANISHED":
            changed.vanished = UidSet(ranges_of(values[0]))

    async def read_identities(
        self, folder: str, uids: Sequence[int], uidvalidity: int = 0
    ) -> Mapping[int, Identity]:
        """Made there: no body comes over the line."""
        lines = self._lines(b"IDENTITIES", identity_line, folder, uids, uidvalidity)
        async with aclosing(lines):
            return dict([line async for line in lines])

    async def letters(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> AsyncIterator[Letter]:
        if (folder, uidvalidity) == self._ahead[:2] and all(uid in self._ahead[2] for uid in uids):
            for uid in sorted(uids):
                yield self._ahead[2][uid]
            return
        lines = self._lines(b"BODIES", lambda values: letter_of(message_of(values)), folder, uids, uidvalidity)
        async with aclosing(lines):
            async for letter in lines:
                yield letter

    async def _lines(
        self, verb: bytes, read: Callable[[Sequence[Any]], T], folder: str, uids: Sequence[int], uidvalidity: int
    ) -> AsyncGenerator[T, None]:
        """What the node says of some messages: `read` of each line without its first word."""
        if not uids:
            return
        at = await self._places.find(folder)
        if uidvalidity not in (0, at.mark.uidvalidity):
            raise self._places.other(folder)
        wanted = sorted(uids)
        for some in (wanted[start : start + AT_ONCE] for start in range(0, len(wanted), AT_ONCE)):
            with troubles(self._server.doing):
                async with aclosing(self._server.each(verb, self._places.at(at), format_set(some))) as lines:
                    async for _, *values in lines:
                        yield read(values)

    async def find(self, deliveries: Collection[str]) -> frozenset[str]:
        """Taken once counts, wherever the message is now."""
        wanted = sorted(each for each in deliveries if each)
        found: set[str] = set()
        for some in (wanted[start : start + AT_ONCE] for start in range(0, len(wanted), AT_ONCE)):
            ids = b"(%b)" % b" ".join(map(string, some))
            lines = await self._server.ask(b"FIND", string(self._account), ids)
            found.update(value.decode() if isinstance(value, bytes) else str(value) for _, value, *_ in lines)
        return frozenset(found)

    # -- folders

    async def create_folder(self, name: str, uidvalidity: int, special_use: str = "", identity: str = "") -> Mark:
        await self._places.learn()
        there = self._places.folders.get(name)
        if there is not None and there.mark.uidnext > 1:  # nobody asks for what is known to be there
            there = await self._places.now(name)
        if there is not None and there.mark.uidnext > 1:
            return await self._used(there, special_use)
        fresh = self._server.tools.nonce.token(12).hex()
        own = identity if _MAILBOX_ID.fullmatch(identity) and identity not in self._places.ids else ""
        new = FolderAt(own or (there.mailbox_id if there else fresh), name, Mark(uidvalidity, 1, 1), special_use)
        if not uidvalidity:
            chosen = there.mark.uidvalidity if there else max(self._places.highest + 1, int(time.time()))
            new = new._replace(mark=Mark(chosen, 1, 1))
        try:
            return (await self._places.make(new)).mark
        except Refusal as refusal:
            if refusal.code in ("MAILBOXID", "NOTEMPTY"):  # it has got messages since it was listed
                there = await self._places.now(name)
                if there is not None and there.mark.uidnext > 1:
                    return await self._used(there, special_use)
            if refusal.code != "ALREADYEXISTS":
                raise _unwanted(refusal) from refusal
        return (await self._places.make(new._replace(mailbox_id=there.mailbox_id if there else fresh))).mark

    async def _used(self, there: FolderAt, special_use: str) -> Mark:
        """One that has had messages keeps its numbers."""
        if special_use and there.special_use != special_use:
            await self._places.give(there._replace(special_use=special_use))
            self._places.put(there._replace(special_use=special_use))
        return there.mark

    async def rename_folder(self, name: str, to: str) -> None:
        """A name that a folder has got since it was listed is the node's to refuse."""
        await self._places.learn()
        moved = self._places.folders.family(name)
        if not moved or any(to + each[len(name) :] in self._places.folders for each in moved):
            await self._places.list_all()
            moved = self._places.folders.family(name)
        if not moved or any(to + each[len(name) :] in self._places.folders for each in moved):
            raise Failed(again(450, "4.2.0", "the folder can't be renamed", f"{self._server.doing}: {name} to {to}"))
        for each in moved:
            try:
                await self._places.rename(each, to + each[len(name) :])
            except Refusal as refusal:
                raise _unwanted(refusal) from refusal
        # RENAME leaves subscriptions to names that are gone (RFC 9051 section 6.3.6).
        left = self._places.subscriptions.intersection(moved)
        await self._subscribe((self._places.subscriptions - left) | {to + each[len(name) :] for each in left})

    async def delete_folder(self, name: str) -> None:
        there = await self._places.now(name)
        if there is not None:
            await self._server.ask(b"DELETE", self._places.at(there))
            self._places.drop(there)
            await self._subscribe(self._places.subscriptions - {name})

    async def subscribe(self, name: str, on: bool) -> None:
        await self._places.learn()
        before = self._places.subscriptions
        await self._subscribe(before | {name} if on else before - {name})

    async def set_use(self, name: str, special_use: str) -> None:
        there = await self._places.now(name)
        if there is not None and there.special_use != special_use:
            await self._places.give(there._replace(special_use=special_use))
            self._places.put(there._replace(special_use=special_use))

    async def _subscribe(self, after: frozenset[str]) -> None:
        if after != self._places.subscriptions:
            listed = b"(%b)" % b" ".join(map(string, sorted(after)))
            await self._server.ask(b"SUBSCRIPTIONS", string(self._account), listed)
            self._places.subscriptions = after

    async def raise_uidnext(self, folders: Sequence[Raise]) -> None:
        for some in (folders[start : start + AT_ONCE] for start in range(0, len(folders), AT_ONCE)):

            async def give(places: Sequence[FolderAt], some: Sequence[Raise] = some) -> None:
                highest = [max(each.modseq, at.mark.modseq + 1) for each, at in zip(some, places, strict=True)]
                gaps = b" ".join(
                    b"(%b %d %d %d %d)" % (at.mailbox_id.encode(), at.mark.uidvalidity, each.uidnext, modseq,
                                           each.replicated)
                    for each, at, modseq in zip(some, places, highest, strict=True))
                await self._server.ask(b"GAP", string(self._account), gaps)
                for each, at, modseq in zip(some, places, highest, strict=True):
                    self._places.raised(at, each.uidnext, modseq)

            await self._places.with_all([each.folder for each in some], give)

    # -- messages

    def expect(self, messages: int) -> None:
        """One connection serves all accounts."""

    async def append(
        self, folder: str, letters: Sequence[Letter], more: More | None = None, may: May = always
    ) -> tuple[Copied | Refused, ...]:
        limit = self._server.append_limit
        outcomes: list[Copied | Refused] = []
        for some in commands([each for each in letters if limit is None or len(each.raw) <= limit]):
            if not may():
                return tuple(outcomes)
            outcomes += await self._places.with_one(folder, lambda at, some=some: self._append(at, some))  # type: ignore[misc]
        sent = iter(outcomes)
        return tuple(
            next(sent) if limit is None or len(each.raw) <= limit
            else Refused(f"{len(each.raw)} octets, it takes {limit}", identity_of(each.raw)) for each in letters)

    async def _append(self, at: FolderAt, letters: Sequence[Letter]) -> list[Copied | Refused]:
        given = bool(letters[0].uid)
        if given and letters[0].uid < at.mark.uidnext:
            reason = f"{self._server.doing}: no UID {letters[0].uid} in {at.name}, next is {at.mark.uidnext}"
            raise Failed(again(450, "4.2.0", "the message can't be added", reason))
        least = at.mark.modseq + 1
        pieces = [b"APPEND " + self._places.at(at)]
        size = sum(len(letter.raw) for letter in letters)
        large = size > COMMAND_BYTES
        for letter in letters:
            modseq = max(letter.modseq, least)
            flags = " ".join(kept(letter.flags)).encode()
            pieces[-1] += b" (%d %d %d (%b) NIL) " % (letter.uid, modseq, letter.date, flags)
            if large:
                pieces[-1] += b"{%d}\r\n" % len(letter.raw)
                pieces.append(letter.raw)
            else:
                pieces[-1] += b"{%d+}\r\n%b" % (len(letter.raw), letter.raw)
        pieces[-1] += b"\r\n"
        seconds = self._server.tools.imap_times.command + size / SLOWEST
        tagged, lines = await self._server.using(lambda xlink: xlink.give(pieces, seconds))
        if large and tagged.status == "BAD":
            return [Refused(tagged.text, identity_of(letters[0].raw))]
        told = {kind: uids_of(value) for kind, value in self._server.accepted(tagged, lines)}
        uids = [letter.uid for letter in letters] if given else list(told.get("DONE", ()))
        if told.get("NEWER") or len(uids) != len(letters):
            reason = f"{self._server.doing}: APPEND to {at.name} was answered {told}"
            raise Failed(again(450, "4.2.0", "the message can't be added", reason))
        self._places.raised(at, uids[-1] + 1, max(least, *(letter.modseq for letter in letters)))
        return [Copied(uid, identity_of(letter.raw)) for uid, letter in zip(uids, letters, strict=True)]

    async def set_flags(
        self, folder: str, uids: Sequence[int], flags: frozenset[str], modseq: int = 0
    ) -> frozenset[str]:
        taken = kept(flags)
        for some in (uids[start : start + AT_ONCE] for start in range(0, len(uids), AT_ONCE)):

            async def give(at: FolderAt, some: Sequence[int] = some) -> bool:
                own = max(modseq, at.mark.modseq + 1)
                items = b" ".join(b"(%d %d (%b))" % (uid, own, " ".join(taken).encode()) for uid in some)
                return self._places.won(at, own, await self._server.ask(b"FLAGS", self._places.at(at), items))

            await self._places.until_won(folder, give)
        return frozenset(flags) - frozenset(taken)

    async def expunge(self, folder: str, uids: Sequence[int], modseq: int = 0) -> None:
        for some in (uids[start : start + AT_ONCE] for start in range(0, len(uids), AT_ONCE)):

            async def give(at: FolderAt, some: Sequence[int] = some) -> bool:
                own = max(modseq, at.mark.modseq + 1)
                items = b"(%b %d)" % (format_set(some), own)
                return self._places.won(at, own, await self._server.ask(b"EXPUNGE", self._places.at(at), items))

            await self._places.until_won(folder, give)

    async def burn(self, folder: str, first: int, count: int) -> tuple[Copied | Refused, ...]:
        raise Failed(give_up(550, "5.3.3", "not needed", f"{self._server.doing}: UIDs are given, none is burned"))

    async def expunge_deleted(self, folder: str) -> None:
        await self.expunge(folder, [row.uid for row in (await self.read(folder)).rows if "\\Deleted" in row.flags])

    async def close(self, *, broken: bool = False) -> None:
        """Connections are lent for one question at a time; one that broke is closed already."""


def _unwanted(refusal: Refusal) -> Failed:
    """A folder of that name can't be had, or none now."""
    if refusal.code in ("OVERQUOTA", "UNAVAILABLE"):
        return Trouble(refusal.failure, Seen.OK)  # it answers
    if refusal.code not in ("CANNOT", "LIMIT"):
        return refusal
    return Failed(refuse(550, "5.6.0", "the mail server will not have that name", refusal.failure.reason))
