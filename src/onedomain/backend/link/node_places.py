"""An account's folders at a node, as a link knows them: by name and mailbox id, with their marks.

A folder is asked for by its mailbox id; the name has to be the one that was asked for, or everything is listed again.
Knows what was listed or changed by us last, and when that is not good enough: a list has a line for each folder and
counts its messages, so with thousands of folders nobody may ask for one with each of them. Does not know messages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from onedomain.backend.link.known import Known
from onedomain.backend.link.node_asking import NodeAsking
from onedomain.backend.link.xlink import Account as Told
from onedomain.backend.link.xlink import FolderAt, Refusal, folder_of, string
from onedomain.backend.trouble import troubles
from onedomain.model.failure import Failed, again
from onedomain.model.replica import Folder, Listing

T = TypeVar("T")

NEVER = 2**63 - 1
"""A MODSEQ that nothing has: MESSAGES since then is the line of the folder and no other."""


class Places:
    """`folders` by name, and `subscriptions`, when they were listed or changed by us last."""

    def __init__(self, server: NodeAsking, account: str) -> None:
        self._server = server
        self._account = account
        self.folders: Known[FolderAt] = Known({})
        self.subscriptions: frozenset[str] = frozenset()
        self.ids: set[str] = set()  # of mailboxes
        self.highest = 0  # of the UIDVALIDITYs that were seen
        self._old = True

    async def learn(self) -> None:
        """Lists what was never listed."""
        if self._old:
            await self.list_all()

    async def list_all(self) -> Listing:
        return self.listed(await self._server.using(lambda xlink: xlink.account(self._account)))

    def listed(self, there: Told) -> Listing:
        self.folders = Known({folder.name: folder for folder in there.folders.values()})
        self.subscriptions = frozenset(there.subscriptions)
        self.ids = set(there.folders)
        self.highest = max((folder.mark.uidvalidity for folder in there.folders.values()), default=0)
        self._old = False
        return Listing(tuple(
            Folder(each.name, each.mark, each.mailbox_id, each.special_use, each.name in self.subscriptions)
            for _, each in sorted(self.folders.items())
        ))  # fmt: skip

    async def with_one(self, folder: str, work: Callable[[FolderAt], Awaitable[T]]) -> T:
        """What is known may be old: once it is looked at anew."""
        return await self.with_all([folder], lambda places: work(places[0]))

    async def with_all(self, folders: Sequence[str], work: Callable[[Sequence[FolderAt]], Awaitable[T]]) -> T:
        places = [await self.find(each) for each in folders]
        try:
            return await work(places)
        except Refusal as refusal:
            if refusal.code not in ("NONEXISTENT", "UIDVALIDITY", "CONFLICT"):
                raise
        await self.list_all()
        return await work([await self.find(each) for each in folders])

    async def until_won(self, folder: str, give: Callable[[FolderAt], Awaitable[bool]]) -> None:
        if not await self.with_one(folder, give):
            await self.list_all()
            if not await self.with_one(folder, give):
                raise Failed(again(450, "4.2.0", "not changed", f"{self._server.doing}: {folder} changes meanwhile"))

    def won(self, at: FolderAt, modseq: int, lines: Iterable[list[Any]]) -> bool:
        """Whether nothing there had a later change than what was given with this MODSEQ."""
        self.raised(at, 0, modseq)
        return not any(kind == "NEWER" for kind, *_ in lines)

    async def find(self, folder: str) -> FolderAt:
        if folder not in self.folders:
            await self.list_all()
        if folder not in self.folders:
            raise self.other(folder)
        return self.folders[folder]

    async def now(self, name: str) -> FolderAt | None:
        """As it is at this moment; None where there is none. One line is asked for, unless it is another one."""
        at = self.folders.get(name)
        if at is not None:
            try:
                return await self._now(at)
            except Refusal as refusal:
                if refusal.code not in ("NONEXISTENT", "UIDVALIDITY"):
                    raise
        await self.list_all()
        return self.folders.get(name)

    async def _now(self, at: FolderAt) -> FolderAt | None:
        lines = await self._server.ask(b"MESSAGES", self.at(at), b"%d COUNTED" % NEVER)
        with troubles(self._server.doing):
            now = next((folder_of(values) for kind, *values in lines if kind == "FOLDER"), None)
        if now is not None and now.name == at.name:
            self.put(now)
            return now
        await self.list_all()
        return self.folders.get(at.name)

    async def make(self, at: FolderAt) -> FolderAt:
        """A folder of this name, which may be here already. UIDs may begin where its name once was: it is asked."""
        before = self.folders.get(at.name)
        await self.give(at)
        if before is not None:
            self.ids.discard(before.mailbox_id)
        self.put(at)
        made = await self.now(at.name)
        if made is None:
            raise self.other(at.name)
        return made

    async def rename(self, name: str, to: str) -> None:
        """Without what lies below. If it is gone nobody makes it again."""
        at = await self.now(name)
        if at is None:
            raise self.other(name)
        await self.give(at._replace(name=to))
        self.folders.drop(name)
        self.put(at._replace(name=to))

    def put(self, at: FolderAt) -> None:
        self.folders.put(at.name, at)
        self.ids.add(at.mailbox_id)
        self.highest = max(self.highest, at.mark.uidvalidity)

    def drop(self, at: FolderAt) -> None:
        self.folders.drop(at.name)
        self.ids.discard(at.mailbox_id)

    async def give(self, at: FolderAt) -> None:
        use = b'"%b"' % at.special_use.replace("\\", "\\\\").encode() if at.special_use else b"NIL"
        await self._server.ask(b"FOLDER", self.at(at), string(at.name), b"1 1", use)

    def at(self, at: FolderAt) -> bytes:
        """As commands name it."""
        return b"%b %b %d" % (string(self._account), at.mailbox_id.encode(), at.mark.uidvalidity)

    def same(self, at: FolderAt, values: Sequence[Any]) -> FolderAt:
        """As a FOLDER line says it is now. Raises Failed where it has another name."""
        now = folder_of(values)
        if now.name != at.name:
            self.folders, self._old = Known({}), True
            raise self.other(at.name)
        self.put(now)
        return now

    def raised(self, at: FolderAt, uidnext: int, modseq: int) -> None:
        mark = at.mark
        mark = replace(mark, uidnext=max(uidnext, mark.uidnext), modseq=max(modseq, mark.modseq))
        self.put(at._replace(mark=mark))

    def other(self, folder: str) -> Failed:
        return Failed(again(450, "4.2.0", "the folder is another one now", f"{self._server.doing}: {folder}"))
