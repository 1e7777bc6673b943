"""Carries out a plan's actions on the two ends of a link, one at a time.

Knows which question of a LinkEnd each action is, and that bodies go by the plan in bounded groups. Does not know how
any server is spoken to, what the plan is for, or when the next one is due. A Failed from either end drops the plan:
the next one begins from what was saved.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from onedomain.backend.link.base import Letter, LinkEnd
from onedomain.backend.trouble import Trouble
from onedomain.decision.link.actions import (
    Action,
    Alert,
    Append,
    Burn,
    Confirm,
    Copied,
    CreateFolder,
    DeleteFolder,
    Expunge,
    ExpungeDeleted,
    Find,
    ListFolders,
    Look,
    Looked,
    NotNow,
    Outcome,
    Plan,
    RaiseUidNext,
    Read,
    ReadIdentities,
    Refused,
    RenameFolder,
    Rows,
    Save,
    SetAside,
    SetFlags,
    SetUse,
    Subscribe,
    Whole,
)
from onedomain.model.failure import Failed, Kind, again
from onedomain.model.health import Seen
from onedomain.model.replica import LinkState, Listing, Numbering, Side
from onedomain.replica.load import Load, too_large
from onedomain.replica.sent import Sent

T = TypeVar("T")
V = TypeVar("V")
WRITING = (CreateFolder, RenameFolder, DeleteFolder, Subscribe, SetUse, Append, RaiseUidNext, Burn, SetFlags, Expunge,
           ExpungeDeleted)


@dataclass(frozen=True, slots=True)
class Groups:
    """The most of a group of bodies: whichever is reached first. One message may be larger. Two are in memory.
    Small ones keep both servers busy from the beginning to the end.

    An Append is answered when so many octets (`appended`) were carried: what is left is asked for again, so that what
    has been done is saved.
    """

    letters: int = 100
    octets: int = 1 << 20
    appended: int = 32 << 20


class Keeping(Protocol):
    """What a plan asks of our own side. Each answers when it is durable, and raises Failed where it cannot be."""

    async def set_aside(self, side: Side, folder: str, letters: Sequence[Letter], why: str) -> None: ...
    async def confirm(self, deliveries: Collection[str]) -> None: ...
    async def whole(self) -> None: ...
    async def save(self, state: LinkState) -> None: ...
    async def alert(self, folder: str, text: str) -> None: ...


Together = Callable[[Coroutine[Any, Any, Any], Coroutine[Any, Any, Any]], Awaitable[tuple[Any, Any]]]
"""Both results; what one raises ends the other."""


async def side_by_side(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, V]) -> tuple[T, V]:
    task = asyncio.get_running_loop().create_task(other)
    try:
        return await one, await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # of two failures one is told


class _NoRoom(Failed):
    """Our own side can't keep what is about to be deleted, so it is not deleted."""


class Performer:
    """For one plan after the other, never two at once. The ends stay the caller's: close them `broken` after Failed.

    `may_write` is asked ahead of every change: a process that was frozen wakes up in the middle of a plan, and somebody
    else has gone on from there since.

    `done` counts what was carried: "copied", "refused", "flags", "expunged", "created", "renamed", "deleted",
    "subscribed", "burned", "aside". `asked`: the side that was asked last, which is at fault after Failed. `sent`: what
    was sent and not saved yet, here and by plans before.
    """

    def __init__(
        self, source: LinkEnd, target: LinkEnd, keeping: Keeping, groups: Groups = Groups(), *,
        may_write: Callable[[], bool] = lambda: True, together: Together = side_by_side, sent: Sent | None = None,
    ) -> None:
        self._unsaved = sent if sent is not None else Sent()
        self._may_write = may_write
        self._together = together
        self._source = source
        self._target = target
        self._keeping = keeping
        self._groups = groups
        self.done: Counter[str] = Counter()
        self.asked = Side.SOURCE
        self._missing = 0

    @property
    def to_go(self) -> int:
        """How many messages are still to be copied, by what both sides said they had and what was carried since."""
        return max(0, self._missing - self.done["copied"])

    async def run(self, plan: Plan[T]) -> T:
        """What the plan returns. Raises Failed, after which the plan is over."""
        answer: Any = None
        try:
            while True:
                try:
                    action = plan.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                answer = await self.perform(action)
        finally:
            plan.close()

    async def perform(self, action: Action) -> Any:
        """The answer as decision/link/actions.py has it."""
        target = self._target
        self.asked = getattr(action, "side", Side.TARGET)
        if isinstance(action, WRITING):
            self._check()
        match action:
            case Look():
                return await self._look(action)
            case ListFolders(side):
                return await self._on(side).list_folders()
            case Read(side, folder, since, first):
                return await self._on(side).read(folder, since, first)
            case ReadIdentities(side, folder, uids, uidvalidity):
                return await self._on(side).read_identities(folder, uids, uidvalidity)
            case CreateFolder(name, uidvalidity, special_use, identity, must, may_wait):
                self._unsaved.forget(name)
                try:
                    mark = await target.create_folder(name, uidvalidity, special_use, identity)
                except Failed as refusal:
                    passing = refusal.failure.kind is Kind.AGAIN
                    if passing and may_wait and _answered(refusal):
                        return NotNow(refusal.failure.reason or refusal.failure.text)
                    if must or passing:
                        raise
                    return None
                self.done["created"] += 1
                return mark
            case RenameFolder(name, to):
                self._unsaved.forget_all()  # what lies below has other names, too
                try:
                    await target.rename_folder(name, to)
                except Failed as refusal:
                    if refusal.failure.kind is Kind.AGAIN:
                        raise
                    return False
                self.done["renamed"] += 1
                return True
            case DeleteFolder(name, must):
                self._unsaved.forget(name)
                try:
                    rows = await target.read(name)
                    uids = tuple(row.uid for row in rows.rows)
                    _, large = await self._set_aside(Side.TARGET, name, uids, "folder deleted", rows.before.uidvalidity)
                    if large:
                        await self._keeping.alert("", f"{name} stays at the replica: {too_large(max(large.values()))}")
                        return None
                    await target.delete_folder(name)
                except _NoRoom as full:
                    await self._keeping.alert("", f"{name} is deleted and stays at the replica: {full.failure.text}")
                    return False
                except Failed as refusal:
                    if must or not _answered(refusal):
                        raise
                    why = refusal.failure.reason or refusal.failure.text
                    await self._keeping.alert("", f"{name} is on the replica only and stays there: {why}")
                    return None
                self.done["deleted"] += 1
            case Subscribe(name, on):
                await target.subscribe(name, on)
                self.done["subscribed"] += 1
            case SetUse(name, special_use):
                await target.set_use(name, special_use)
            case Append():
                return await self._append(action)
            case RaiseUidNext(folders):
                await target.raise_uidnext(folders)
            case Burn(folder, first, count):
                burned = await target.burn(folder, first, count)
                self.done["burned"] += sum(isinstance(each, Copied) for each in burned)
                return burned
            case SetFlags(folder, uids, flags, modseq):
                untaken = await target.set_flags(folder, uids, flags, modseq)
                self.done["flags"] += len(uids)
                return untaken
            case Expunge(folder, uids, keep_bodies, modseq):
                if keep_bodies:
                    try:
                        _, large = await self._set_aside(Side.TARGET, folder, uids, "deleted")
                    except _NoRoom as full:
                        await self._stays(folder, full)
                        return uids
                    uids = tuple(uid for uid in uids if uid not in large)
                await target.expunge(folder, uids, modseq)
                self.done["expunged"] += len(uids) * keep_bodies
            case ExpungeDeleted(folder):
                await target.expunge_deleted(folder)
            case SetAside(side, folder, uids, why, may_wait):
                try:
                    return (await self._set_aside(side, folder, uids, why))[0]
                except _NoRoom as full:
                    if not may_wait:
                        raise
                    return await self._stays(folder, full)
            case Find(deliveries):
                return await target.find(deliveries)
            case Confirm(deliveries):
                await self._keeping.confirm(deliveries)
            case Whole():
                await self._keeping.whole()
            case Save(state):
                await self._keeping.save(state)
                self._unsaved.saved(state)
            case Alert(folder, text):
                await self._keeping.alert(folder, text)
        return None

    async def _stays(self, folder: str, full: _NoRoom) -> NotNow:
        await self._keeping.alert(folder, f"what is deleted stays at the replica: {full.failure.text}")
        return NotNow(full.failure.reason or full.failure.text)

    def _check(self) -> None:
        if not self._may_write():
            raise Failed(again(451, "4.3.0", "the links do not run here any more", "the lease is lost"))

    def _on(self, side: Side) -> LinkEnd:
        return self._source if side is Side.SOURCE else self._target

    async def _look(self, look: Look) -> Looked:
        (rows, here), there = await self._together(self._look_here(look), self._look_there())
        missing = _messages(here) - _messages(there)
        self._missing = missing + self.done["copied"]
        if look.guess is None and missing > 0:  # else there is one of which somebody was told
            self._target.expect(missing)
        return Looked(here, there, rows)

    async def _look_here(self, look: Look) -> tuple[Rows | None, Listing]:
        try:
            if look.guess is None:
                return None, await self._source.list_folders()
            return await self._source.look(look.guess.folder, look.guess.since, look.bodies)
        except Failed:
            self.asked = Side.SOURCE
            raise

    async def _look_there(self) -> Listing:
        try:
            return await self._target.list_folders()
        except Failed:
            self.asked = Side.TARGET
            raise

    async def _set_aside(
        self, side: Side, folder: str, uids: Sequence[int], why: str, uidvalidity: int = 0
    ) -> tuple[tuple[int, ...], dict[int, int]]:
        """Those that are in our own store now; those that are too large for it, with their octets."""
        done: list[int] = []
        large: dict[int, int] = {}
        if not uids:
            return (), large
        async with aclosing(self._grouped(self._on(side), folder, sorted(uids), uidvalidity)) as groups:
            async for group in groups:
                large.update({letter.uid: letter.octets for letter in group if letter.octets})
                if kept := [letter for letter in group if not letter.octets]:
                    try:
                        await self._keeping.set_aside(side, folder, kept, why)
                    except Failed as error:
                        raise _NoRoom(error.failure) from error
                    self.done["aside"] += len(kept)
                    done += [letter.uid for letter in kept]
        return tuple(done), large

    async def _append(self, action: Append) -> tuple[Outcome, ...]:
        """Where UIDs are not given, a message that is gone ends it as a refused one does: the next takes its UID.

        While the target takes one group, the next is read from the source.
        """
        given = self._target.powers.numbering is Numbering.GIVEN
        uids = sorted(copy.source_uid for copy in action.copies)
        async with aclosing(
            self._grouped(self._source, action.source_folder, uids, action.uidvalidity)
        ) as groups:
            load = Load(action, groups, given=given, octets=self._groups.appended)
            try:
                letters = await load.take()
                while letters:
                    sending, letters = self._sent(action.folder, letters, load), ()  # nobody's but the target's now
                    answers, _ = await self._together(sending, load.read())
                    letters = await load.take() if load.answered(answers) else ()
            except Failed:
                if load.failure is None:
                    raise
                self.asked = Side.SOURCE
                raise load.failure from None
            self.done["refused"] += load.too_large
        return load.outcomes()

    async def _sent(self, folder: str, letters: Sequence[Letter], load: Load) -> Sequence[Copied | Refused]:
        async def more() -> Sequence[Letter]:
            nonlocal letters
            letters = ()
            following = await load.take()
            self._check()  # not sooner: the source may have been waited for
            return following

        self._check()
        try:
            answers = await self._target.append(folder, letters, more, self._may_write)
        except BaseException as error:
            # Cut off, any of them may be there. Of a large copy the bytes are not here any more.
            seats = zip(load.seats, (letter.identity.digest for letter in letters), strict=False)
            self._unsaved.add(folder, ((seat, digest) for seat, digest in seats if seat))
            if isinstance(error, Failed):
                self.asked = Side.TARGET
            raise
        self._unsaved.add(folder, ((seat, answer.identity.digest) for seat, answer in
                                   zip(load.seats, answers, strict=False) if seat and isinstance(answer, Copied)))
        refused = sum(isinstance(answer, Refused) for answer in answers)
        self.done["copied"] += len(answers) - refused
        self.done["refused"] += refused
        # One that was sent and not answered for would pass for gone, and never be looked at again.
        if len(answers) != load.sent and (load.given or not answers or not isinstance(answers[-1], Refused)):
            self.asked = Side.TARGET
            self._check()
            raise Failed(again(451, "4.3.0", "not every message was answered for", f"{len(answers)}/{load.sent}"))
        return answers

    async def _grouped(
        self, end: LinkEnd, folder: str, uids: Sequence[int], uidvalidity: int
    ) -> AsyncGenerator[list[Letter], None]:
        group: list[Letter] = []
        octets = 0
        letters = end.letters(folder, uids, uidvalidity)
        try:
            async for letter in letters:
                if group and (len(group) >= self._groups.letters or octets + len(letter.raw) > self._groups.octets):
                    yield group
                    group, octets = [], 0
                group.append(letter)
                octets += len(letter.raw)
                del letter  # the next may be a while in coming
                if octets >= self._groups.octets:  # not one more large one in memory to find that it is too much
                    yield group
                    group, octets = [], 0
            if group:
                yield group
        finally:
            if (close := getattr(letters, "aclose", None)) is not None:
                await close()


def _messages(listing: Listing) -> int:
    return sum(folder.mark.messages for folder in listing.folders)


def _answered(refusal: Failed) -> bool:
    """The server works, and will not: now or ever. What it may take another day must not hold up the mail."""
    if isinstance(refusal, Trouble):
        return refusal.seen is Seen.OK
    return refusal.failure.kind is not Kind.AGAIN
