"""One account at any IMAP server, for links.

Knows how the parts (folders, reading, writing) are put together, and what the server's capabilities make it able to do.
What one kind does otherwise is in a subclass, one file each. Does not know which side of a link it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import ClassVar

from onedomain.backend.imap_session import ImapDoor
from onedomain.backend.link.base import Letter, May, More, always
from onedomain.backend.link.connection import Connection
from onedomain.backend.link.folders import INBOX, Folders, IdentityItem
from onedomain.backend.link.helpers import Helpers
from onedomain.backend.link.reading import Reading
from onedomain.backend.link.sessions import SessionLimits, Sessions
from onedomain.backend.link.writing import Writing
from onedomain.backend.login import Login, login_of
from onedomain.backend.mailserver import Tools
from onedomain.backend.trouble import Trouble
from onedomain.decision.link.actions import Copied, Raise, Refused, Rows
from onedomain.model.account import Account
from onedomain.model.failure import Failed, give_up
from onedomain.model.health import Seen, Sighting
from onedomain.model.replica import Identity, Listing, Mark, Numbering, Powers
from onedomain.model.server import Server


class ImapEnd:
    """Implements base.LinkEnd. `give_back` takes the connection, and whether it can be used again."""

    numbering: ClassVar[Numbering] = Numbering.BURNED
    unasked_literals: ClassVar[bool] = False
    """Only for kinds that are known to swallow the literal of an APPEND that they refuse."""

    def __init__(
        self, connection: Connection, give_back: Callable[[Connection, bool], None], helpers: Helpers | None = None
    ) -> None:
        self._connection = connection
        self._give_back = give_back
        self._helpers = helpers
        self._closed = False
        self.powers = Powers(self.numbering, connection.changes, connection.can("UIDPLUS"))
        self._folders = Folders(connection, self.identity_item(connection))
        self._reading = Reading(connection)
        self._writing = Writing(connection, unasked=self.unasked_literals, helpers=helpers)

    def identity_item(self, connection: Connection) -> IdentityItem:
        return IdentityItem("MAILBOXID", alone=True) if connection.can("OBJECTID") else IdentityItem()

    async def list_folders(self) -> Listing:
        return await self._folders.listing()

    async def look(self, folder: str, since: int, bodies: int) -> tuple[Rows | None, Listing]:
        connection = self._connection
        reads = self._reading.questions(folder, since, bodies)
        if not reads:
            return await self._look_in_turn(folder, since)
        commands = [*reads, *connection.letting_go()]
        connection.parser.collect()
        try:
            answers = await connection.run_together([*commands, *self._folders.questions()])
        finally:
            collected = connection.parser.collected()
        listing = await self._folders.listed(answers[len(commands) :])
        if not answers[0].ok:
            if listing.find(folder) is not None:
                raise connection.refused("EXAMINE", answers[0])
            return None, listing
        if not all(answer.ok for answer in answers[len(reads) : len(commands)]):
            raise connection.failed("it does not let go of a folder")
        rows = self._reading.answered(folder, answers[: len(reads)], collected)
        return (rows, listing) if rows is not None else await self._look_in_turn(folder, since)

    async def _look_in_turn(self, folder: str, since: int) -> tuple[Rows | None, Listing]:
        try:
            rows = await self._reading.read(folder, since, 1)
        except Failed:
            listing = await self.list_folders()
            if listing.find(folder) is not None:
                raise
            return None, listing
        return rows, await self.list_folders()

    async def read(self, folder: str, since: int = 0, first: int = 1) -> Rows:
        return await self._reading.read(folder, since, first)

    async def read_identities(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> Mapping[int, Identity]:
        return await self._reading.identities(folder, uids, uidvalidity)

    def letters(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> AsyncIterator[Letter]:
        return self._reading.letters(folder, uids, uidvalidity)

    async def create_folder(self, name: str, uidvalidity: int, special_use: str = "", identity: str = "") -> Mark:
        if name == INBOX:
            return await self._folders.mark(name)
        return await self._folders.create_apart(name, special_use)

    async def rename_folder(self, name: str, to: str) -> None:
        await self._folders.rename(name, to)

    async def delete_folder(self, name: str) -> None:
        await self._folders.delete(name)

    async def subscribe(self, name: str, on: bool) -> None:
        await self._folders.subscribe(name, on)

    async def set_use(self, name: str, special_use: str) -> None:
        await self._folders.set_use(name, special_use)

    def expect(self, messages: int) -> None:
        self._writing.expect(messages)

    async def append(
        self, folder: str, letters: Sequence[Letter], more: More | None = None, may: May = always
    ) -> tuple[Copied | Refused, ...]:
        appending = self._writing.append(folder, letters, more, may)
        del letters  # they go one by one
        return await appending

    async def raise_uidnext(self, folders: Sequence[Raise]) -> None:
        names = ", ".join(each.folder for each in folders)
        reason = f"{self._connection.session.doing}: UIDNEXT of {names} can't be set"
        raise Failed(give_up(550, "5.3.3", "the mail server cannot do this", reason))

    async def burn(self, folder: str, first: int, count: int) -> tuple[Copied | Refused, ...]:
        return await self._writing.burn(folder, first, count)

    async def set_flags(
        self, folder: str, uids: Sequence[int], flags: frozenset[str], modseq: int = 0
    ) -> frozenset[str]:
        return await self._writing.set_flags(folder, uids, flags)

    async def expunge(self, folder: str, uids: Sequence[int], modseq: int = 0) -> None:
        await self._writing.expunge(folder, uids)

    async def expunge_deleted(self, folder: str) -> None:
        await self._writing.expunge_deleted(folder)

    async def find(self, deliveries: Collection[str]) -> frozenset[str]:
        if not deliveries:
            return frozenset()
        listing = await self._folders.listing()
        names = sorted((folder.name for folder in listing.folders), key=lambda name: (name != INBOX, name))
        return await self._reading.find(names, deliveries)

    async def close(self, *, broken: bool = False) -> None:
        if not self._closed:
            self._closed = True
            try:
                if self._helpers is not None:
                    await self._helpers.close()
            finally:  # also when cancelled while it waits: the place is somebody else's next
                self._give_back(self._connection, not broken)


class ImapLinks:
    """Implements base.LinkServer for any kind: a bounded number of sessions, each of one account."""

    numbering: ClassVar[Numbering] = Numbering.BURNED

    def __init__(
        self, server: Server, tools: Tools, limits: SessionLimits | None = None, *, quick_ack: bool = False
    ) -> None:
        self.server = server
        self.powers = Powers(self.numbering, changes=True)
        self._tools = tools
        self._door = ImapDoor(server.imap, tools.contexts, tools.imap_times, quick_ack)
        self._alone = False
        name = f"links to {server.name}"
        self._sessions: Sessions[Connection] = Sessions(name, self._open, limits or SessionLimits())

    async def end(self, account: Account) -> ImapEnd:
        return self.make_end(await self._sessions.take(account))

    def make_end(self, connection: Connection) -> ImapEnd:
        return ImapEnd(connection, self._give)

    async def provide(self, account: Account) -> None:
        """Accounts are the server's own business; who may log in has a mailbox."""

    async def close(self) -> None:
        await self._sessions.close()

    def _give(self, connection: Connection, whole: bool) -> None:
        self._sessions.give(connection, keep=whole)

    async def _open(self, account: Account) -> Connection:
        try:
            connection = await Connection.open(self._door, self._login(account), account)
        except Trouble as trouble:
            self._saw(trouble.seen, trouble.seconds, trouble.failure.reason)
            raise
        return connection

    def helpers(self, connection: Connection) -> Helpers | None:
        """For a session of the same account."""
        sessions = self._sessions
        if self._alone:
            return None
        return Helpers(lambda: sessions.take_more(connection.account), sessions.give_more, lambda: sessions.crowded,
                       self._stay_alone)

    def _stay_alone(self) -> None:
        """How this server keeps mail does not let several sessions append to a folder."""
        self._alone = True

    def _login(self, account: Account) -> Login:
        return login_of(self.server, account, None)

    def _saw(self, seen: Seen, seconds: float, reason: str) -> None:
        self._tools.watch.saw(Sighting(self.server.name, "imap", seen, seconds, reason))
