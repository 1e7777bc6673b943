"""The operator's verbs for what this edge's linker has set aside: list it, read it, put it back, give it up.

They work whether or not the links run here. Knows the store and the way to an account's primary. Does not know why
something was set aside, nor how a terminal shows it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from onedomain.backend.link.base import Letter, LinkEnd
from onedomain.control.link import Handler, Link, LinkError
from onedomain.directory.book import Book
from onedomain.model.account import Account
from onedomain.model.failure import Failed
from onedomain.model.ports import Trace
from onedomain.protocol.imap import mutf7
from onedomain.replica.aside import Aside, Kept
from onedomain.replica.restoring import restore
from onedomain.store.segment import Position

MOST = 10_000
KINDS = ("refused", "deleted")
CHUNK = 4 << 20
PATIENCE = 10.0
"""Seconds that a promotion is waited for, as a log-in does: it is done in a moment, and told a moment later."""


class AsideDesk:
    """`end`: at an account's primary. Every verb raises LinkError, with a text for the operator."""

    def __init__(
        self, aside: Aside, book: Book, end: Callable[[Account], Awaitable[LinkEnd]], trace: Trace
    ) -> None:
        self._aside = aside
        self._book = book
        self._end = end
        self._trace = trace
        self._changed = asyncio.Event()

    def directory_changed(self) -> None:
        self._changed.set()

    def handlers(self) -> dict[str, Handler]:
        return {"aside_list": self._list, "aside_page": self._page, "aside_read": self._read,
                "aside_restore": self._restore, "aside_forget": self._forget}

    async def _list(self, link: Link, account: str = "") -> list[dict[str, Any]]:
        """The oldest `MOST` of each kind."""
        return [row for kind in KINDS for row in await self._page(link, kind, account)]

    async def _page(self, link: Link, kind: str, account: str, after: int = 0) -> list[dict[str, Any]]:
        """At most `MOST` of one kind, behind the `after`th. `place` is good as long as the message is here."""
        rows = []
        for number, each in enumerate((await self._kept(kind, account))[after : after + MOST], after + 1):
            rows.append({"kind": kind, "number": number, "account": each.account, "server": each.server,
                         "folder": mutf7.decode(each.folder), "uid": each.uid, "flags": list(each.flags),
                         "date": each.date, "size": each.size, "at": each.at, "why": each.why,
                         "place": [list(part) for part in each.parts]})
        return rows

    async def _read(self, link: Link, kind: str, place: Sequence[Sequence[int]], size: int,
                    offset: int = 0) -> dict[str, Any]:
        """A part of a message, in base64."""
        try:
            raw = self._aside.octets(kind, [Position(*part) for part in place], size)
        except (OSError, KeyError):
            raw = None
        if raw is None:
            raise LinkError("it is damaged, or has gone meanwhile")
        return {"size": len(raw), "data": base64.b64encode(raw[offset : offset + CHUNK]).decode()}

    async def _restore(self, link: Link, kind: str, account: str, folder: str) -> dict[str, Any]:
        """Into a folder of its primary. All of it has to be there before it is given up here."""
        row = await self._settled(account)
        kept = await self._kept(kind, account)
        broken = True
        try:
            end = await self._end(row)
            try:
                done = await restore(end, mutf7.encode(folder), self._letters(kind, kept))
                broken = False
            finally:
                await end.close(broken=broken)
            if kept and not done.refused:
                await self._aside.done(kind, kept[-1])
        except Failed as error:
            raise LinkError(error.failure.reason or error.failure.text) from None
        self._trace.note("aside restored", account=account, server=row.home.primary, folder=folder, kind=kind,
                         added=done.added, there=done.there, refused=len(done.refused))
        return {"server": row.home.primary, "added": done.added, "there": done.there, "refused": done.refused}

    async def _settled(self, account: str) -> Account:
        """Its row once it may be written to its primary."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (row := self._book.account(account)) is not None and row.home.pending:
                    self._changed.clear()
                    await self._changed.wait()
        if row is None:
            raise LinkError(f"{account} is not in the directory")
        if row.home.pending:
            raise LinkError(f"the promotion of {account} to {row.home.primary} is not carried out yet")
        return row

    async def _forget(self, link: Link, kind: str, account: str) -> int:
        kept = await self._kept(kind, account)
        if kept:
            try:
                await self._aside.done(kind, kept[-1])
            except Failed as error:
                raise LinkError(error.failure.reason or error.failure.text) from None
            self._trace.note("aside given up", account=account, kind=kind, messages=len(kept))
        return len(kept)

    async def _kept(self, kind: str, account: str) -> list[Kept]:
        if kind not in KINDS:
            raise LinkError(f"there are {' and '.join(KINDS)} messages")
        try:
            return await self._aside.kept(kind, account)
        except OSError as error:
            raise LinkError(f"what was set aside can't be read: {error.strerror}") from None

    def _body(self, kind: str, kept: Kept) -> bytes:
        raw = self._aside.body(kind, kept)
        if raw is None:
            raise LinkError(f"UID {kept.uid} of {kept.folder}, set aside at {kept.at:.0f}, is damaged or has gone")
        return raw

    async def _letters(self, kind: str, kept: Sequence[Kept]) -> AsyncIterator[Letter]:
        for each in kept:
            yield Letter(0, frozenset(each.flags) - {"\\Deleted"}, each.date, self._body(kind, each))
