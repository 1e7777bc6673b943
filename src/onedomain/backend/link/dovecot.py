"""Dovecot for links, from 2.2.

Knows what only Dovecot has. A folder's GUID outlives RENAME, and STATUS tells it. Where the configuration names its
HTTP interface (`doveadm`), UIDVALIDITY and UIDNEXT can be set; otherwise UIDs are burned, as at any server. Dovecot
swallows the literal of an APPEND that it refuses with NO (measured: quota, no such folder, keywords), not one that it
answers with BAD, which writing.py gives it no cause for.

A FETCH shows NULs as 0x80 and every line end as CRLF (measured); decision/link/identity.py counts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from onedomain.backend.link.connection import Connection
from onedomain.backend.link.doveadm import Doveadm, Update
from onedomain.backend.link.folders import INBOX, IdentityItem
from onedomain.backend.link.helpers import Helpers
from onedomain.backend.link.imap_end import ImapEnd, ImapLinks
from onedomain.backend.link.sessions import SessionLimits
from onedomain.backend.mailserver import Tools
from onedomain.backend.names import mailbox_name
from onedomain.decision.link.actions import Raise
from onedomain.model.replica import Mark, Numbering
from onedomain.model.server import Server


class BurningDovecotEnd(ImapEnd):
    """Without its HTTP interface."""

    unasked_literals: ClassVar[bool] = True

    def identity_item(self, connection: Connection) -> IdentityItem:
        return IdentityItem("X-GUID")


class DovecotEnd(BurningDovecotEnd):
    numbering: ClassVar[Numbering] = Numbering.RAISED

    def __init__(
        self, connection: Connection, give_back: Callable[[Connection, bool], None], helpers: Helpers | None,
        doveadm: Doveadm, user: str,
    ) -> None:
        super().__init__(connection, give_back, helpers)
        self._doveadm = doveadm
        self._user = user

    async def create_folder(self, name: str, uidvalidity: int, special_use: str = "", identity: str = "") -> Mark:
        if name != INBOX:
            await self._folders.create(name, special_use)
        mark = await self._folders.mark(name)
        untouched = mark.uidnext == 1 and not mark.messages
        if not uidvalidity or not untouched or mark.uidvalidity == uidvalidity:
            return mark
        await self._doveadm.update_mailboxes(self._user, [Update(name, uidvalidity=uidvalidity)])
        return await self._folders.mark(name)

    async def raise_uidnext(self, folders: Sequence[Raise]) -> None:
        await self._connection.let_go()
        updates = [Update(each.folder, uidnext=each.uidnext, modseq=each.modseq) for each in folders]
        await self._doveadm.update_mailboxes(self._user, updates)


class DovecotLinks(ImapLinks):
    def __init__(self, server: Server, tools: Tools, limits: SessionLimits | None = None) -> None:
        super().__init__(server, tools, limits)
        self._doveadm: Doveadm | None = None
        if server.doveadm is not None:
            self.powers = replace(self.powers, numbering=Numbering.RAISED)
            self._doveadm = Doveadm(server.doveadm, server.doveadm_key, tools.contexts)

    def make_end(self, connection: Connection) -> ImapEnd:
        if self._doveadm is None:
            return BurningDovecotEnd(connection, self._give, self.helpers(connection))
        user = mailbox_name(self.server, connection.account)
        return DovecotEnd(connection, self._give, self.helpers(connection), self._doveadm, user)

    async def close(self) -> None:
        await super().close()
        if self._doveadm is not None:
            await self._doveadm.close()
