"""Cyrus for links, from 3.6 where its administrator's log-in is known (`replication`), else as any server.

Knows which question goes to the user's own session (everything that is read, flags, expunges, names) and which to the
administrator's, in Cyrus's replication language (syncapply.py): UIDs, UIDVALIDITY and MODSEQs as they are elsewhere.
Few administrators' sessions serve all accounts.

The administrator's language names folders by what only a list tells: it is kept for the length of a pass with what has
been made and renamed since, as an account may have thousands of folders.

Cyrus leaves Nagle's algorithm on, which stalls answers unless every packet is acknowledged at once. It refuses to
rename or delete a folder with a special use.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import ClassVar, TypeVar

from onedomain.backend.imap_session import Answer
from onedomain.backend.link.base import Letter, May, More, always
from onedomain.backend.link.connection import Connection, wire
from onedomain.backend.link.filling import ATTEMPTS, Filling, accepted
from onedomain.backend.link.folders import INBOX
from onedomain.backend.link.imap_end import ImapEnd, ImapLinks
from onedomain.backend.link.known import Known
from onedomain.backend.link.sessions import SessionLimits
from onedomain.backend.link.syncapply import Mailbox, SyncConnection, refusal_is
from onedomain.backend.login import Login, login_of
from onedomain.backend.mailserver import Tools
from onedomain.backend.names import mailbox_name
from onedomain.backend.pool import Pool, PoolLimits
from onedomain.backend.trouble import troubles
from onedomain.decision.link.actions import Copied, Raise, Refused, Rows
from onedomain.model.account import Account
from onedomain.model.failure import Failed, again
from onedomain.model.replica import Folder, Listing, Mark, Numbering
from onedomain.model.server import Server

T = TypeVar("T")

ADMINISTRATORS = 4
RAISED_AT_ONCE = 50
FORBIDDEN = '!"%/;<>?\\^'
"""In names, besides the separator (mboxname.c); a "^" would come out as a dot."""

_ZEROS = ("RECENTUID", "RECENTTIME", "LAST_APPENDDATE", "POP3_LAST_LOGIN", "POP3_SHOW_AFTER")
_UNIQUEID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{7,63}")
"""It names folders on disk."""


class CyrusEnd(ImapEnd):
    numbering: ClassVar[Numbering] = Numbering.GIVEN

    def __init__(
        self, connection: Connection, give_back: Callable[[Connection, bool], None], links: CyrusLinks, user: str
    ) -> None:
        super().__init__(connection, give_back)
        self._links = links
        self._user = user
        self._known: Known[Folder] = Known({})
        self._given: set[str] = set()  # ids that folders have
        self._listed_once = False

    async def list_folders(self) -> Listing:
        return self._listed(await super().list_folders())

    async def look(self, folder: str, since: int, bodies: int) -> tuple[Rows | None, Listing]:
        rows, listing = await super().look(folder, since, bodies)
        return rows, self._listed(listing)

    def _listed(self, listing: Listing) -> Listing:
        self._known = Known({folder.name: folder for folder in listing.folders}, listing.separator)
        self._given = {folder.identity for folder in listing.folders}
        self._listed_once = True
        return replace(listing, forbidden=FORBIDDEN)

    # -- folders

    async def create_folder(self, name: str, uidvalidity: int, special_use: str = "", identity: str = "") -> Mark:
        if not self._listed_once or name == INBOX:  # which takes along what is subscribed by now
            await self.list_folders()
        mark, there = await self._folders.mark_of(name), self._known.get(name)
        if (mark and mark.uidvalidity) != (there and there.mark.uidvalidity):  # another, or of somebody else's making
            there = (await self.list_folders()).find(name)
            mark = there.mark if there is not None else None
        fresh = mark is None or (mark.uidnext == 1 and not mark.messages)
        made = ""
        if fresh and uidvalidity and (mark is None or mark.uidvalidity != uidvalidity):
            made = await self._make(name, uidvalidity, identity)
            if name == INBOX:
                for each in [each for each, folder in self._known.items() if folder.subscribed]:
                    await self._folders.subscribe(each, True)
        elif there is None:
            await self._folders.create(name)
        if special_use and (there is None or there.special_use != special_use):
            await self.set_use(name, special_use)
        mark = await self._folders.mark(name)
        there = there or Folder(name, mark, subscribed=False)
        kept = there.identity if there.mark.uidvalidity == mark.uidvalidity else ""
        self._put(replace(there, mark=mark, identity=made or kept, special_use=special_use or there.special_use))
        return mark

    def _put(self, folder: Folder) -> None:
        self._known.put(folder.name, folder)
        self._given.add(folder.identity)

    async def _make(self, name: str, uidvalidity: int, identity: str) -> str:
        """Its id, or "" where it stays what it was. A folder that is there and never had a message is replaced, if its
        UIDVALIDITY is another one. With INBOX the user's subscriptions and Sieve scripts go: it stays as it is where
        there are scripts.
        """
        made = ""
        known = {INBOX: await self._id(INBOX)}
        if name in self._known:
            known[name] = await self._id(name)

        async def make(sync: SyncConnection) -> Answer | None:
            nonlocal made
            made = ""
            found = dict(zip(known, await sync.mailboxes(list(known.values())), strict=True))
            inbox, old = found[INBOX], found.get(name)
            if name == INBOX and await sync.has_scripts(self._user):
                return None
            new = old or Mailbox({
                "MBOXNAME": self._internal(inbox, name),
                **{key: inbox.fields[key] for key in ("PARTITION", "ACL", "OPTIONS") if key in inbox.fields},
                **dict.fromkeys(_ZEROS, 0),
            })  # fmt: skip
            new = new.but(UIDVALIDITY=uidvalidity, LAST_UID=0, HIGHESTMODSEQ=max(1, new.modseq))
            answer: Answer | None = None
            for chosen in (identity, self._links.token()):
                if _UNIQUEID.fullmatch(chosen) and chosen not in self._given:
                    answer, made = await sync.apply(new.but(UNIQUEID=chosen)), chosen
                    if answer.ok or not refusal_is(answer, "IMAP_MAILBOX_MOVED"):
                        break
            assert answer is not None
            return answer

        await self._accepted(make)
        return made

    def _internal(self, inbox: Mailbox, name: str) -> bytes:
        """`a.b/c` with unixhierarchysep is `a^b.c` inside."""
        namespace = self._connection.namespace
        parts = wire(name.removeprefix(namespace.prefix)).split(namespace.separator.encode())
        if namespace.separator != ".":
            parts = [part.replace(b".", b"^") for part in parts]
        return b".".join((inbox.name, *parts))

    async def rename_folder(self, name: str, to: str) -> None:
        use = await self._taken_use(name)
        try:
            await super().rename_folder(name, to)
        except Failed:
            await self._restore_use(name, use)
            self._listed_once = False  # whoever asks next, asks anew
            raise
        await self._restore_use(to, use)
        for each in self._known.family(name):
            folder = self._known[each]
            self._known.drop(each)
            self._put(replace(folder, name=to + each[len(name) :]))

    async def delete_folder(self, name: str) -> None:
        await self._taken_use(name)
        await super().delete_folder(name)
        self._known.drop(name)

    async def _taken_use(self, name: str) -> str:
        if not self._listed_once or name not in self._known:
            await self.list_folders()
        folder = self._known.get(name)
        if folder is None or not folder.special_use:
            return ""
        await self.set_use(name, "")
        return folder.special_use

    async def _restore_use(self, name: str, use: str) -> None:
        if use:
            await self.set_use(name, use)

    async def raise_uidnext(self, folders: Sequence[Raise]) -> None:
        """Of a promotion: somebody waits. Two questions for as many folders as one line holds."""
        await self._connection.let_go()
        for first in range(0, len(folders), RAISED_AT_ONCE):
            left: Sequence[Raise] = folders[first : first + RAISED_AT_ONCE]
            for _ in range(ATTEMPTS):
                async with self._links.administrators.lend() as sync:
                    with troubles(sync.session.doing):
                        left = await self._raise(sync, left)
                if not left:
                    break
            else:
                raise self._connection.failed(f"{', '.join(each.folder for each in left)} would not hold still")

    async def _raise(self, sync: SyncConnection, folders: Sequence[Raise]) -> list[Raise]:
        """Those that have changed meanwhile."""
        raised = []
        there = await sync.mailboxes([await self._id(each.folder) for each in folders])
        for to, now in zip(folders, there, strict=True):
            last, modseq = max(to.uidnext, now.uidnext) - 1, max(to.modseq, now.modseq + 1)
            raised.append((now.but(LAST_UID=last, HIGHESTMODSEQ=modseq), now.modseq))
        return [folders[number] for number in await sync.apply_unless_changed(raised)]

    # -- messages

    async def append(
        self, folder: str, letters: Sequence[Letter], more: More | None = None, may: May = always
    ) -> tuple[Copied | Refused, ...]:
        """Also where the next UIDs will do: if somebody else takes one meanwhile, the mailbox has changed."""
        await self._connection.let_go()
        uniqueid = await self._id(folder)
        filling = Filling(self._links.administrators, uniqueid, letters, more, may)
        del letters  # they go one by one
        return await filling.run()

    async def set_flags(
        self, folder: str, uids: Sequence[int], flags: frozenset[str], modseq: int = 0
    ) -> frozenset[str]:
        await self._lift(folder, modseq)
        return await super().set_flags(folder, uids, flags, modseq)

    async def expunge(self, folder: str, uids: Sequence[int], modseq: int = 0) -> None:
        await self._lift(folder, modseq)
        await super().expunge(folder, uids, modseq)

    async def _lift(self, folder: str, modseq: int) -> None:
        """So that what is changed next gets a MODSEQ above it."""
        async def lift(sync: SyncConnection) -> Answer | None:
            now = await sync.mailbox(await self._id(folder))
            return await sync.apply(now.but(HIGHESTMODSEQ=modseq), since=now.modseq) if now.modseq < modseq else None

        if modseq:
            await self._accepted(lift)

    # -- the administrator

    async def _accepted(self, work: Callable[[SyncConnection], Awaitable[Answer | None]]) -> None:
        async with self._links.administrators.lend() as sync:
            with troubles(sync.session.doing):
                await accepted(sync, lambda: work(sync))

    async def _id(self, folder: str) -> str:
        known = self._known.get(folder)
        if known is None or not known.identity:
            known = (await self.list_folders()).find(folder)
        if known is None or not known.identity:
            raise self._connection.failed(f"no {folder}, or it has no MAILBOXID")
        return known.identity


class CyrusLinks(ImapLinks):
    def __init__(self, server: Server, tools: Tools, limits: SessionLimits | None = None) -> None:
        super().__init__(server, tools, limits, quick_ack=True)
        self.administrators = Pool(
            f"administrators of {server.name}", self._open_sync, PoolLimits(size=ADMINISTRATORS, uses=1_000_000)
        )
        self._given: bool | None = None
        if server.replication_user:
            self.powers = replace(self.powers, numbering=Numbering.GIVEN)

    async def end(self, account: Account) -> ImapEnd:
        if self._given is None:
            self._given = await self._offered()
            self.powers = replace(self.powers, numbering=Numbering.GIVEN if self._given else Numbering.BURNED)
        return await super().end(account)

    def make_end(self, connection: Connection) -> ImapEnd:
        if not self._given:
            return ImapEnd(connection, self._give)
        return CyrusEnd(connection, self._give, self, mailbox_name(self.server, connection.account))

    async def _offered(self) -> bool:
        if not self.server.replication_user:
            return False
        async with self.administrators.lend() as sync:
            return await sync.offered()

    async def provide(self, account: Account) -> None:
        if not self.server.replication_user:
            return
        async with self.administrators.lend() as sync:
            session = sync.session
            separator = "/"
            for each in (await session.ask("LIST", b"", b"")).named("LIST"):
                if len(each.values) > 1 and isinstance(each.values[1], bytes):
                    separator = each.values[1].decode("latin-1")
            local, at, domain = mailbox_name(self.server, account).partition("@")
            local = local.replace(".", "^") if separator == "." else local
            name = f"user{separator}{local}{at}{domain}".encode()
            answer = await session.ask("CREATE", name)
            there = answer.ok or any(each.name == "LIST" for each in (await session.ask("LIST", b"", name)).untagged)
        if not there:
            reason = f"{self.server.name}: CREATE {name.decode()}: {answer.words}"
            raise Failed(again(450, "4.2.1", "the mailbox can't be made", reason))

    async def close(self) -> None:
        await super().close()
        await self.administrators.close()

    def token(self) -> str:
        return self._tools.nonce.token(12).hex()

    def _login(self, account: Account) -> Login:
        if not self.server.replication_user:
            return login_of(self.server, account, None)
        name = mailbox_name(self.server, account)
        return Login(self.server.replication_user, self.server.replication_password, authorize=name, own=True)

    async def _open_sync(self) -> SyncConnection:
        return await SyncConnection.open(self._door, self.server.replication_user, self.server.replication_password)
