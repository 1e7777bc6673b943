"""Folders in memory: one index per folder that somebody has open, shared by all sessions, kept true by every commit.

Knows arrays of UIDs, modseqs, flags, dates, sizes; who watches. Does not know SQL, sessions or IMAP's sequence numbers.

While an index is being loaded the changes of commits pile up beside it; those of commits later than the one that was
loaded are applied when it is there: none twice, and none is missed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Protocol

from onedomain.node.store.values import Added, Change, Expunged, Flagged, Folder, Message, Raised, Rejected, Removed
from onedomain.protocol.imap.flags import has

KEPT = 64
"""Indexes of folders that nobody watches any more, kept for the next one who comes."""

FEW = 100
"""Up to here removing one by one is cheaper than rebuilding."""


class Watcher(Protocol):
    def changed(self, change: Change) -> None:
        """Called in the loop, after the index has changed. Must not block and must not raise."""
        ...


class Index:
    """What is in a folder now, in ascending order of UIDs."""

    def __init__(self, folder: Folder, messages: Iterable[Message], commit: int = 0) -> None:
        """`commit` is the number of the last one that `folder` and `messages` have seen."""
        self.folder = folder
        self.commit = commit
        self.highestmodseq = folder.highestmodseq
        self.uidnext = folder.uidnext
        self.recent_uid = folder.recent_uid
        self.doubt = folder.doubt
        self.removed = False
        self.watchers: set[Watcher] = set()
        self.uids = array("I")
        self._modseqs = array("Q")
        self._dates = array("q")
        self._flags: list[str] = []
        self._bodies = array("Q")
        self._sizes = array("Q")
        self.keywords: dict[str, str] = {}  # spelling by lower case, of every keyword seen since the index was loaded
        self._shared: dict[str, str] = {}  # one string object per set of flags, however many messages have it
        for message in messages:
            self._append(message)

    def __len__(self) -> int:
        return len(self.uids)

    def __iter__(self) -> Iterator[Message]:
        return map(Message, self.uids, self._modseqs, self._dates, self._flags, self._bodies, self._sizes)

    def get(self, uid: int) -> Message | None:
        at = self._find(uid)
        if at < 0:
            return None
        return Message(uid, self._modseqs[at], self._dates[at], self._flags[at], self._bodies[at], self._sizes[at])

    def flags(self, uid: int) -> str | None:
        at = self._find(uid)
        return None if at < 0 else self._flags[at]

    def since(self, modseq: int) -> list[int]:
        """UIDs of the messages that were added or changed after `modseq`, or that it says nothing about."""
        modseq = self.doubt.since(modseq)
        return [uid for uid, each in zip(self.uids, self._modseqs, strict=True) if each > modseq]

    def first_without(self, flag: str) -> int:
        """Position of the first message that lacks the flag, -1 if none does."""
        having = {flags for flags in self._shared if has(flags, flag)}
        return next((at for at, flags in enumerate(self._flags) if flags not in having), -1)

    def uids_with(self, flag: str) -> list[int]:
        having = {flags for flags in self._shared if has(flags, flag)}
        return [uid for uid, flags in zip(self.uids, self._flags, strict=True) if flags in having]

    def apply(self, change: Change) -> None:
        match change:
            case Added(messages=messages):
                for message in messages:
                    self._insert(message)
                    self._raise(message.uid + 1, message.modseq)
            case Flagged(modseq=modseq, flags=flags):
                for uid, text in flags:
                    at = self._find(uid)
                    self._flags[at] = self._share(text)
                    self._modseqs[at] = modseq
                self._raise(0, modseq)
            case Expunged(modseq=modseq, uids=uids):
                self._remove(uids)
                self._raise(0, modseq)
            case Raised(uidnext=uidnext, highestmodseq=modseq, doubt=doubt):
                self._raise(uidnext, modseq)
                self.doubt = max(self.doubt, doubt, key=lambda each: each.before)
            case Removed():
                self._remove(self.uids)
                self.removed = True

    def _raise(self, uidnext: int, modseq: int) -> None:
        self.uidnext = max(self.uidnext, uidnext)
        self.highestmodseq = max(self.highestmodseq, modseq)

    def _insert(self, message: Message) -> None:
        if not self.uids or message.uid > self.uids[-1]:
            self._append(message)
            return
        at = bisect_left(self.uids, message.uid)
        self.uids.insert(at, message.uid)
        self._modseqs.insert(at, message.modseq)
        self._dates.insert(at, message.date)
        self._flags.insert(at, self._share(message.flags))
        self._bodies.insert(at, message.body)
        self._sizes.insert(at, message.size)

    def _append(self, message: Message) -> None:
        self.uids.append(message.uid)
        self._modseqs.append(message.modseq)
        self._dates.append(message.date)
        self._flags.append(self._share(message.flags))
        self._bodies.append(message.body)
        self._sizes.append(message.size)

    def _remove(self, uids: Sequence[int]) -> None:
        columns = (self.uids, self._modseqs, self._dates, self._flags, self._bodies, self._sizes)
        if len(uids) <= FEW:
            for at in sorted((self._find(uid) for uid in uids), reverse=True):
                for column in columns:
                    del column[at]
            return
        gone = set(uids)
        kept = [message for message in self if message.uid not in gone]
        for column in columns:
            del column[:]
        for message in kept:
            self._append(message)

    def _find(self, uid: int) -> int:
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else -1

    def _share(self, flags: str) -> str:
        shared = self._shared.get(flags)
        if shared is None:
            shared = self._shared[flags] = flags
            for flag in flags.split():
                if not flag.startswith("\\"):
                    self.keywords.setdefault(flag.lower(), flag)
        return shared


class Indexes:
    """Loads, keeps and updates them. All calls from the loop."""

    def __init__(self, load: Callable[[int], Awaitable[Index]]) -> None:
        """`load` reads one folder from the database, in one moment of it. Raises Rejected where the folder is gone."""
        self._load = load
        self._indexes: OrderedDict[int, Index] = OrderedDict()
        self._loading: dict[int, list[list[tuple[int, Change]]]] = {}

    async def open(self, folder: int) -> Index:
        """The caller puts its watcher into `watchers` before anything else happens. Raises Rejected: it is gone."""
        index = self._indexes.get(folder)
        if index is None:
            index = await self._get(folder)
        if index.removed:
            raise Rejected("NONEXISTENT", "Mailbox has been deleted")
        self._indexes.move_to_end(folder)
        return index

    def leave(self, index: Index, watcher: Watcher) -> None:
        index.watchers.discard(watcher)
        idle = [number for number, each in self._indexes.items() if not each.watchers]
        for number in idle[:max(0, len(idle) - KEPT)]:
            del self._indexes[number]

    def peek(self, folder: int) -> Index | None:
        """The index if it happens to be there: answers STATUS without SQL."""
        return self._indexes.get(folder)

    def publish(self, commit: int, changes: Sequence[Change]) -> None:
        for change in changes:
            for behind in self._loading.get(change.folder, ()):
                behind.append((commit, change))
            index = self._indexes.get(change.folder)
            if index is None:
                continue
            index.apply(change)
            for watcher in tuple(index.watchers):
                watcher.changed(change)
            if isinstance(change, Removed):
                del self._indexes[change.folder]

    async def _get(self, folder: int) -> Index:
        behind: list[tuple[int, Change]] = []
        waiting = self._loading.setdefault(folder, [])
        waiting.append(behind)
        try:
            index = await self._load(folder)
        finally:
            # by identity: two loads of one folder may have piled up equal changes
            waiting[:] = [each for each in waiting if each is not behind]
            if not waiting:
                del self._loading[folder]
        there = self._indexes.get(folder)
        if there is not None:  # somebody else's load was faster, and has been kept true since
            return there
        for commit, change in behind:
            if commit > index.commit:
                index.apply(change)
        if not index.removed:
            self._indexes[folder] = index
        return index
