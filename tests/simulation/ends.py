"""The two ends of a link as a performer sees them, over simulated servers. Nothing here ever waits.

Knows the contract of backend/link/base.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from onedomain.backend.link.base import Letter, May, More, always
from onedomain.backend.trouble import Trouble
from onedomain.decision.link.actions import Copied, Raise, Refused, Rows
from onedomain.decision.link.identity import filler, identity_of
from onedomain.model.failure import Failed, again, refuse
from onedomain.model.health import Seen
from onedomain.model.replica import Folder, Identity, Listing, Mark, Numbering
from onedomain.model.uids import NO_UIDS

from .server import Message, No, Server

T = TypeVar("T")


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("it waits")


async def in_turn(one: Coroutine[Any, Any, Any], other: Coroutine[Any, Any, Any]) -> tuple[Any, Any]:
    """What a performer does at the same time where there is a loop."""
    try:
        return await one, await other
    finally:
        other.close()


class ServerEnd:
    """A LinkEnd. `between`: the world goes on between SELECT and FETCH, and among bodies. `step`: called before each
    question, may raise Failed.
    """

    def __init__(
        self,
        server: Server,
        between: Callable[[], None] = lambda: None,
        step: Callable[[str], None] = lambda question: None,
    ) -> None:
        self.server = server
        self.powers = server.traits.powers
        self.between = between
        self.step = step
        self.closed: list[bool] = []
        self.streams = server.kind in ("dovecot", "cyrus")  # asks for more while it appends

    def _box(self, folder: str, uidvalidity: int = 0) -> Any:
        box = self.server.boxes.get(folder)
        if box is None or uidvalidity not in (0, box.uidvalidity):
            raise Failed(again(451, "4.3.0", "no such folder, or another one by now"))
        return box

    async def list_folders(self) -> Listing:
        """Folder by folder, while the world goes on."""
        self.step("list")
        folders: list[Folder] = []
        for name in sorted(self.server.boxes):
            if name in self.server.boxes:
                folders.append(self.server.folder(name))
            self.between()
        return replace(self.server.listing(), folders=tuple(folders))

    async def look(self, folder: str, since: int, bodies: int) -> tuple[Rows | None, Listing]:
        rows = await self.read(folder, since) if folder in self.server.boxes else None
        self.between()
        return rows, await self.list_folders()

    async def read(self, folder: str, since: int = 0, first: int = 1) -> Rows:
        self.step("read")
        self._box(folder)
        before = self.server.mark(folder)
        self.between()
        self._box(folder)
        after = self.server.mark(folder).modseq
        vanished = self.server.vanished(folder, since) if since else NO_UIDS
        return Rows(before, self.server.rows(folder, since, first), vanished, after)

    async def read_identities(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> Mapping[int, Identity]:
        self.step("identities")
        messages = self._box(folder, uidvalidity).messages
        return {uid: self._letter(uid, messages[uid]).identity for uid in uids if uid in messages}

    def _letter(self, uid: int, message: Message) -> Letter:
        if self.server.largest is not None and len(message.raw) > self.server.largest:
            return Letter(uid, message.flags, message.date, b"", message.modseq, len(message.raw))
        return Letter(uid, message.flags, message.date, message.raw, message.modseq)

    async def letters(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> AsyncIterator[Letter]:
        self.step("letters")
        messages = self._box(folder, uidvalidity).messages
        for uid in uids:
            message = messages.get(uid)
            if message is not None:
                if uid == uids[-1]:
                    self.between()  # what follows may be gone by the time it is asked for
                    if uid not in messages:
                        return
                yield self._letter(uid, message)

    async def create_folder(
        self, name: str, uidvalidity: int, special_use: str = "", identity: str = ""
    ) -> Mark:
        self.step("create")
        try:
            self.server.create(name, uidvalidity, special_use)
        except No as refusal:
            raise _unwanted(refusal) from refusal
        return self.server.mark(name)

    async def rename_folder(self, name: str, to: str) -> None:
        self.step("rename")
        moved = self.server.below(name)
        subscribed = self.server.subscriptions & set(moved)
        try:
            free = not any(to + each[len(name) :] in self.server.boxes for each in moved)
            if self.server.kind == "node" and moved and free:
                for each in moved:  # XLINK gives one name at a time
                    self.step("rename")
                    self.server.boxes[to + each[len(name) :]] = self.server.boxes.pop(each)
            else:
                self.server.rename(name, to)
        except No as refusal:
            raise _unwanted(refusal) from refusal
        for each in subscribed:
            self.server.subscribe(each, False)
            self.server.subscribe(to + each[len(name) :], True)

    async def delete_folder(self, name: str) -> None:
        self.step("delete")
        self.server.delete(name)
        self.server.subscribe(name, False)

    async def subscribe(self, name: str, on: bool) -> None:
        self.step("subscribe")
        self._box(name)
        self.server.subscribe(name, on)

    async def set_use(self, name: str, special_use: str) -> None:
        self.step("use")
        self._box(name).special_use = special_use

    def expect(self, messages: int) -> None:
        """It has one session."""

    async def append(
        self, folder: str, letters: Sequence[Letter], more: More | None = None, may: May = always
    ) -> tuple[Copied | Refused, ...]:
        outcomes = list(await self._put("append", folder, letters))
        while self.streams and more is not None:
            if not (self.powers.numbering is Numbering.GIVEN or all(isinstance(each, Copied) for each in outcomes)):
                break
            if not (letters := await more()):
                break
            outcomes += await self._put("append", folder, letters)
        return tuple(outcomes)

    async def _put(self, question: str, folder: str, letters: Sequence[Letter]) -> tuple[Copied | Refused, ...]:
        self.step(question)
        self._box(folder)
        given = self.powers.numbering is Numbering.GIVEN
        outcomes: list[Copied | Refused] = []
        for letter in letters:
            assert given or not letter.uid, "this server gives no UIDs"
            self.server.lift(folder, letter.modseq)
            try:
                uid = self.server.append(folder, letter.raw, letter.flags, letter.date, letter.uid, counted=not given)
            except No as refusal:
                full = "quota" in str(refusal)
                if not full and "NUL" not in str(refusal) and "identical" not in str(refusal):
                    raise Failed(again(451, "4.3.0", str(refusal))) from refusal
                outcomes.append(Refused(str(refusal), identity_of(letter.raw), for_now=full))
                if not given:
                    break
                continue
            outcomes.append(Copied(uid if self.powers.names_uids else 0, identity_of(letter.raw)))
        return tuple(outcomes)

    async def raise_uidnext(self, folders: Sequence[Raise]) -> None:
        """One after the other: it may be cut off between any two."""
        for each in folders:
            self.step("raise")
            self._box(each.folder)
            self.server.raise_uidnext(each.folder, each.uidnext, each.modseq, each.replicated)

    async def burn(self, folder: str, first: int, count: int) -> tuple[Copied | Refused, ...]:
        flags = frozenset(("\\Seen", "\\Deleted"))
        return await self._put("burn", folder, [Letter(0, flags, 0, filler(folder, first + i)) for i in range(count)])

    async def set_flags(
        self, folder: str, uids: Sequence[int], flags: frozenset[str], modseq: int = 0
    ) -> frozenset[str]:
        self.step("flags")
        self._box(folder)
        self.server.lift(folder, modseq)
        return frozenset().union(*(self.server.store(folder, uid, flags, anew=True) for uid in uids))

    async def expunge(self, folder: str, uids: Sequence[int], modseq: int = 0) -> None:
        self.step("expunge")
        assert self.powers.names_uids
        self._box(folder)
        self.server.lift(folder, modseq)
        self.server.expunge(folder, tuple(uids))

    async def expunge_deleted(self, folder: str) -> None:
        self.step("expunge")
        self._box(folder)
        self.server.expunge_deleted(folder)

    async def find(self, deliveries: Collection[str]) -> frozenset[str]:
        self.step("find")
        return frozenset(each for each in deliveries if self.server.find(each))

    async def close(self, *, broken: bool = False) -> None:
        self.closed.append(broken)


def _unwanted(refusal: No) -> Failed:
    """As the drivers tell them apart by their codes (RFC 5530): LIMIT is said for good."""
    if "no name" in str(refusal) or "LIMIT" in str(refusal):
        return Trouble(refuse(550, "5.6.0", str(refusal)), Seen.OK)
    return Trouble(again(450, "5.6.0", str(refusal)), Seen.OK)
