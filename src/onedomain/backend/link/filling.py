"""Messages put into one folder of Cyrus by several administrators side by side, in its replication language.

Knows how letters become uploads and records, in which order, and what Cyrus would not survive. Does not know how the
language is written (syncapply.py), nor whose folder it is.

Uploads go side by side, as most of what they take is waiting for the disk; what makes them the folder's goes in order.
What the folder is like is asked for once: it then is as it was left here, or the next change is refused as Changed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence

from onedomain.backend.imap_session import Answer
from onedomain.backend.link.base import Letter, May, More, always, chunks, octets_of
from onedomain.backend.link.lanes import Turns, side_by_side
from onedomain.backend.link.syncapply import Changed, Mailbox, Record, SyncConnection, refusal_is
from onedomain.backend.pool import Pool
from onedomain.backend.trouble import troubles
from onedomain.decision.link.actions import Copied, Refused
from onedomain.decision.link.identity import identity_of
from onedomain.model.failure import Failed, again, refuse
from onedomain.model.replica import Identity
from onedomain.protocol.imap.flags import SYSTEM

AT_ONCE = 100
BYTES_AT_ONCE = 2**20
HELD = 4 * 2**20
"""Octets of parts that are not in the folder yet, from which on no more are asked for."""
ATTEMPTS = 5
"""Mail may be coming in where letters without UIDs are put."""

_KEYWORD = re.compile(r"[^\x00-\x20\x7f-\U0010ffff(){%*\"\\\]]{1,255}")


class Filling:
    """One append. `uniqueid` is the folder's."""

    def __init__(
        self, administrators: Pool[SyncConnection], uniqueid: str, letters: Sequence[Letter], more: More | None,
        may: May = always,
    ) -> None:
        self._pool = administrators
        self._uniqueid = uniqueid
        self._turns = Turns(chunks(letters, AT_ONCE, BYTES_AT_ONCE), octets_of, more=more is not None, may=may)
        self._more = more
        self._outcomes: list[Copied | Refused] = []
        self._coming = 0  # helpers that have no session yet
        self._now: Mailbox | None = None  # as it was when it was looked at, or changed, last
        self._partition = ""

    async def run(self) -> tuple[Copied | Refused, ...]:
        async with self._pool.lend() as first:
            with troubles(first.session.doing):
                self._partition = (await self._look(first)).partition
                await side_by_side((
                    self._feed(), self._take_parts(first, lambda: False),
                    *(self._help() for _ in range(self._pool.size - 1)),
                ))
        return tuple(self._outcomes)

    async def _feed(self) -> None:
        while self._more is not None and await self._turns.room(HELD):
            if not (letters := await self._more()):
                break
            self._turns.add(chunks(letters, AT_ONCE, BYTES_AT_ONCE))
            del letters  # the next may be a while in coming, as in `_take_parts`
        self._turns.close()

    async def _help(self) -> None:
        """Where there is more than others will take, and only while nobody else needs the session."""
        if not await self._turns.waiting(lambda: self._coming) or self._pool.full:
            return
        self._coming += 1
        try:
            lent = await self._borrow()
        finally:
            self._coming -= 1
        if lent is None:
            return
        sync, generation = lent
        done = False
        try:
            with troubles(sync.session.doing):
                await self._take_parts(sync, lambda: self._pool.wanted)
            done = True
        finally:
            self._pool.give_back(sync, generation, done)

    async def _borrow(self) -> tuple[SyncConnection, int] | None:
        """None: there is none to be had while there is anything to do. A log-in goes on, for whoever is next."""
        coming = asyncio.get_running_loop().create_task(self._pool.borrow(fresh=False))
        lent = None
        try:
            lent = await self._turns.or_over(coming)
        except Failed:
            pass  # the others do without
        finally:
            if lent is None:
                self._pool.late(coming)
        return lent

    async def _take_parts(self, sync: SyncConnection, enough: Callable[[], bool]) -> None:
        while not enough() and (taken := await self._turns.take()) is not None:
            if (placed := await self._place(sync, *taken)) is None:
                return
            self._outcomes += placed
            self._turns.final()
            del taken

    async def _place(
        self, sync: SyncConnection, number: int, letters: Sequence[Letter]
    ) -> list[Copied | Refused] | None:
        """Uploaded at once, put into the folder when it is their turn; None: they never had one."""
        refused = [_why_not(letter) for letter in letters]
        good = [letter for letter, why in zip(letters, refused, strict=True) if not why]
        uids: list[int] = []
        guids = await sync.upload(self._partition, [letter.raw for letter in good]) if good else []
        identities = [identity_of(letter.raw) for letter in letters]
        if not await self._turns.turn(number):
            return None
        if good:
            await accepted(sync, lambda: self._give(sync, good, guids, uids))
        return list(_outcomes(refused, identities, uids))

    async def _look(self, sync: SyncConnection) -> Mailbox:
        self._now = await sync.mailbox(self._uniqueid)
        return self._now

    async def _give(
        self, sync: SyncConnection, letters: Sequence[Letter], guids: Sequence[str], uids: list[int]
    ) -> Answer:
        """`uids` become those that they get."""
        now, self._now = self._now or await self._look(sync), None
        uids.clear()
        following = now.uidnext
        for letter in letters:
            uids.append(letter.uid or following)
            if uids[-1] < following:
                reason = f"{sync.session.doing}: no UID {letter.uid} in {now.name!a}, next is {following}"
                raise Failed(again(451, "4.3.0", "the mail server is not as it was", reason))
            following = uids[-1] + 1
        least = now.modseq + 1
        records = [
            Record(uid, max(each.modseq, least), _kept(each.flags), max(each.date, 0), len(each.raw), guid)
            for each, uid, guid in zip(letters, uids, guids, strict=True)
        ]
        then = now.but(LAST_UID=uids[-1], HIGHESTMODSEQ=max(record.modseq for record in records))
        answer = await sync.apply(then, records, since=now.modseq)
        if refusal_is(answer, "IMAP_PROTOCOL_ERROR"):  # too many keywords
            plain = [record._replace(flags=[flag for flag in record.flags if flag in SYSTEM]) for record in records]
            answer = await sync.apply(then, plain, since=now.modseq)
        if answer.ok:
            self._now = then
        return answer


async def accepted(sync: SyncConnection, work: Callable[[], Awaitable[Answer | None]]) -> None:
    """Again where the mailbox has changed under it. Raises Failed where it is refused."""
    for left in range(ATTEMPTS - 1, -1, -1):
        try:
            answer = await work()
        except Changed:
            if not left:
                raise
            continue
        if answer is None or answer.ok:
            return
        if refusal_is(answer, "IMAP_MAILBOX_BADNAME"):
            raise Failed(refuse(550, "5.6.0", "the mail server will not have that name", answer.words))
        raise sync.refused(answer)


def _outcomes(
    refused: Sequence[str], identities: Sequence[Identity], uids: Sequence[int]
) -> Iterator[Copied | Refused]:
    left = iter(uids)
    for why, identity in zip(refused, identities, strict=True):
        yield Refused(why, identity) if why else Copied(next(left), identity)


def _why_not(letter: Letter) -> str:
    if not letter.raw:
        return "an empty message"
    return "NULs, which clients of Cyrus may not understand" if b"\0" in letter.raw else ""


def _kept(flags: frozenset[str]) -> list[str]:
    return [flag for flag in sorted(flags) if flag in SYSTEM or _KEYWORD.fullmatch(flag)]
