"""A folder as one session sees it: its own sequence numbers, and what it has not been told yet.

Knows when which news may be told (RFC 3501 sections 5.5 and 7.4.1), and how to a client that has enabled CONDSTORE or
QRESYNC (RFC 7162). Does not know commands.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from onedomain.node.store.index import Index, Indexes
from onedomain.node.store.values import Added, Change, Expunged, Flagged, Message, Removed
from onedomain.protocol.imap import render
from onedomain.protocol.imap.flags import SYSTEM
from onedomain.protocol.imap.sequence import format_set


@dataclass(slots=True)
class Enabled:
    """What the client has enabled for the connection (RFC 7162); never taken back."""

    condstore: bool = False
    qresync: bool = False


class View:
    """`uids[n - 1]` is the UID of message n. `recent` are the UIDs that this session was first to be told of."""

    def __init__(self, index: Index, read_only: bool, enabled: Enabled | None = None) -> None:
        self.index = index
        self.enabled = enabled or Enabled()
        self.read_only = read_only
        self.uids = array("I", index.uids)
        self.recent: set[int] = set()
        self.news: Callable[[], None] | None = None
        """Called when there is something to tell; set while the session idles."""
        self._next = index.uidnext
        self._keywords = len(index.keywords)
        self._gone: set[int] = set()
        self._gone_since = 0  # modseq of the first expunge that has not been told
        self._flagged: dict[int, None] = {}
        self._grown = False
        self._claim(bisect_left(self.uids, index.recent_uid))

    @classmethod
    async def open(cls, indexes: Indexes, folder: int, read_only: bool, enabled: Enabled) -> View:
        """Raises Rejected where the folder is gone."""
        view = cls(await indexes.open(folder), read_only, enabled)
        view.index.watchers.add(view)
        return view

    @property
    def first_unseen(self) -> int:
        """Its number, 0 if there is none; just after `tell`."""
        return self.index.first_without(r"\Seen") + 1

    @property
    def uidnext(self) -> int:
        """UIDs below it are in `uids`, or the session doesn't know of them."""
        return self._next

    @property
    def modseq(self) -> int:
        """The highest one up to which the session has been told everything, provided that `tell` was called just now.

        While expunges are held back it is below theirs (RFC 7162 section 3.2): a client that loses the connection and
        comes back with it is told of them.
        """
        return self._gone_since - 1 if self._gone else self.index.highestmodseq

    def sequence(self, uid: int) -> int:
        """The message's number, 0 if the session doesn't know it."""
        at = bisect_left(self.uids, uid)
        return at + 1 if at < len(self.uids) and self.uids[at] == uid else 0

    def changed(self, change: Change) -> None:
        match change:
            case Added():
                self._grown = True
            case Flagged(flags=flags, by=by):
                if by is self:
                    return
                self._flagged.update((uid, None) for uid, _ in flags)
            case Expunged(uids=uids, modseq=modseq):
                self._hide(uids, modseq)
            case Removed():
                self._hide(self.uids, self.index.highestmodseq)
        if self.news is not None:
            self.news()

    def tell(self, expunges: bool) -> list[bytes]:
        """The untagged responses that are due, and with them what the session knows."""
        if not (self._gone or self._grown or self._flagged):
            return []
        lines: list[bytes] = []
        if expunges and self._gone:
            lines += self._tell_expunges()
        if self._grown:
            lines += self._tell_new()
        if self._flagged:
            lines += self._tell_flags()
        if self._gone and self.enabled.qresync:
            lines.append(b"* OK [HIGHESTMODSEQ %d] Expunges are held back\r\n" % self.modseq)
        return lines

    def flag_lines(self) -> list[bytes]:
        r"""FLAGS and PERMANENTFLAGS, with every keyword in use."""
        known = " ".join([*SYSTEM, *sorted(self.index.keywords.values())])
        permanent = "" if self.read_only else rf"{known} \*"
        return [f"* FLAGS ({known})\r\n".encode(), f"* OK [PERMANENTFLAGS ({permanent})] Flags permitted\r\n".encode()]

    def fetch_flags(self, message: Message) -> bytes:
        uid = message.uid
        words = b"UID %d FLAGS %b" % (uid, render.flags(message.flags, uid in self.recent))
        if self.enabled.condstore:
            words += b" MODSEQ (%d)" % message.modseq
        return b"* %d FETCH (%b)\r\n" % (self.sequence(uid), words)

    def fetch_modseq(self, message: Message) -> bytes:
        """What STORE .SILENT answers once CONDSTORE is enabled (RFC 7162 section 3.1.3)."""
        return b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % (self.sequence(message.uid), message.uid, message.modseq)

    def new_keywords(self) -> list[bytes]:
        """FLAGS again when a keyword came into use since it was last told."""
        count = len(self.index.keywords)
        if count == self._keywords:
            return []
        self._keywords = count
        return self.flag_lines()

    def _hide(self, uids: Iterable[int], modseq: int) -> None:
        if not self._gone:
            self._gone_since = modseq
        self._gone.update(uids)

    def _tell_expunges(self) -> list[bytes]:
        # From the highest down: no number changes the ones that are still to be said
        known = sorted((uid for uid in self._gone if self.sequence(uid)), reverse=True)
        numbers = [self.sequence(uid) for uid in known]
        if len(numbers) > 1:
            self.uids = array("I", (uid for uid in self.uids if uid not in self._gone))
        elif numbers:
            del self.uids[numbers[0] - 1]
        self.recent -= self._gone
        self._gone.clear()
        if self.enabled.qresync:
            return [b"* VANISHED " + format_set(known) + b"\r\n"] if known else []
        return [b"* %d EXPUNGE\r\n" % number for number in numbers]

    def _tell_new(self) -> list[bytes]:
        """The client asks for what is new, flags and all. Told of some, programs that look above the highest UID that
        they know (mbsync) would never see the others.
        """
        self._grown = False
        uids = self.index.uids
        first = len(self.uids)
        self.uids.extend(uids[bisect_left(uids, self._next):])
        for uid in [uid for uid in self._flagged if uid >= self._next]:
            del self._flagged[uid]
        self._next = self.index.uidnext
        self._claim(first)
        return [b"* %d EXISTS\r\n" % len(self.uids), b"* %d RECENT\r\n" % len(self.recent)]

    def _tell_flags(self) -> list[bytes]:
        lines = self.new_keywords()
        for uid in sorted(self._flagged):
            message = self.index.get(uid)
            if message is not None and self.sequence(uid):
                lines.append(self.fetch_flags(message))
        self._flagged.clear()
        return lines

    def _claim(self, first: int) -> None:
        r"""What comes after position `first` is \Recent, unless another session was told before."""
        first = max(first, bisect_right(self.uids, self.index.recent_uid - 1))
        self.recent.update(self.uids[first:])
        if not self.read_only:
            self.index.recent_uid = max(self.index.recent_uid, self._next)
