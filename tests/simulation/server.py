"""A mail server of one account, with the traps of its brand. In memory, deterministic.

What it models of each brand is in TRAITS; tests/simulation/test_servers.py has a test for each trap, test_compare.py
asks real servers the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1

from onedomain.decision.link.identity import identity_of
from onedomain.model.replica import Folder, Listing, Mark, Numbering, Powers, Row
from onedomain.model.uids import UidSet


@dataclass(frozen=True)
class Traits:
    powers: Powers
    separator: str = "/"
    prefix: str = ""
    identity: bool = True        # MAILBOXID or X-GUID
    sets_uidvalidity: bool = True
    munge8bit: bool = False      # Cyrus: 8-bit header octets become X, also on APPEND
    refuses_nul: bool = False    # Cyrus
    twins: int = 0               # Cyrus with conversations: so many identical messages a folder has at most
    suppresses: bool = False     # Cyrus: LMTP takes a Message-ID once, answers 250 again
    keywords: bool = True
    subscribed: tuple[str, ...] = ()  # Dovecot's `auto = subscribe`: UNSUBSCRIBE is answered OK and has no effect
    forbids: str = ""            # a level of a name that it will not have
    no_future: bool = False      # Dovecot: an INTERNALDATE in the future becomes the present
    inbox_leaves: bool = False   # RENAME of INBOX, Dovecot's sdbox: with all that it is, another one takes its place


TRAITS = {
    "node": Traits(Powers(Numbering.GIVEN, changes=True)),
    "dovecot": Traits(Powers(Numbering.RAISED, changes=True), no_future=True, inbox_leaves=True),
    "cyrus": Traits(Powers(Numbering.GIVEN, changes=True), ".", munge8bit=True, refuses_nul=True,
                    twins=10, suppresses=True),
    "burning": Traits(Powers(Numbering.BURNED, changes=True), ".", "INBOX.", identity=False, sets_uidvalidity=False,
                      munge8bit=True, refuses_nul=True, twins=10, inbox_leaves=True),
    "imap": Traits(Powers(Numbering.BURNED, changes=False), ".", "INBOX.", identity=False, sets_uidvalidity=False,
                   keywords=False),
    "plain": Traits(Powers(Numbering.BURNED, changes=False, names_uids=False), identity=False,
                    sets_uidvalidity=False),
}


class No(Exception):
    """The server said NO."""


@dataclass
class Message:
    raw: bytes
    flags: frozenset[str]
    date: int
    modseq: int


@dataclass
class Box:
    identity: str
    uidvalidity: int
    uidnext: int = 1
    modseq: int = 1
    messages: dict[int, Message] = field(default_factory=dict)
    vanished: list[tuple[int, int]] = field(default_factory=list)
    special_use: str = ""
    replicated: int = 0  # the MODSEQ up to which clients have seen nothing that is lost


class Server:
    def __init__(self, kind: str, validity: int, traits: Traits | None = None) -> None:
        self.kind = kind
        self.traits = traits or TRAITS[kind]
        self.boxes: dict[str, Box] = {}
        self.newest = validity  # UIDVALIDITY: the seconds, as it were; none that it was given is made again
        self._made = validity
        self._message_ids: set[bytes] = set()
        self.subscriptions: set[str] = set()
        self.room: int | None = None  # messages
        self.folders: int | None = None  # how many there may be
        self.locked: frozenset[str] = frozenset()  # names that can't be made now
        self.clock: Callable[[], int] | None = None
        self.largest: int | None = None  # octets of a message that links read of it
        self.named: dict[tuple[str, int, int], str] = {}  # (identity of folder, UIDVALIDITY, UID) -> digest
        self.create("INBOX")

    # folders

    def path(self, *parts: str) -> str:
        return parts[0] if parts == ("INBOX",) else self.traits.prefix + self.traits.separator.join(parts)

    def create(self, name: str, uidvalidity: int = 0, special_use: str = "") -> Box:
        self._spell(name)
        if name in self.boxes:
            box = self.boxes[name]
            if uidvalidity and not box.messages and self.traits.sets_uidvalidity and box.uidnext == 1:
                box.uidvalidity = uidvalidity
                self.newest = max(self.newest, uidvalidity)
            return box
        if name in self.locked:
            raise No("[INUSE] not now")
        if self.folders is not None and len(self.boxes) >= self.folders:
            raise No("[LIMIT] too many folders")
        given = uidvalidity if self.traits.sets_uidvalidity else 0
        validity = given or self.newest + 1
        self.newest = max(self.newest, validity)
        self._made += 1
        self.boxes[name] = Box(f"{self.kind}-{self._made}", validity, special_use=special_use)
        return self.boxes[name]

    def _spell(self, name: str) -> None:
        if name != "INBOX" and not name.startswith(self.traits.prefix):
            raise No(f"{name} is outside the personal namespace")
        if self.traits.forbids and self.traits.forbids in name.split(self.traits.separator):
            raise No(f"{name} is no name for a folder")

    def below(self, name: str) -> list[str]:
        """It and what lies below."""
        return [each for each in self.boxes if each == name or each.startswith(name + self.traits.separator)]

    def subscribe(self, name: str, on: bool) -> None:
        (self.subscriptions.add if on or name in self.traits.subscribed else self.subscriptions.discard)(name)

    def rename(self, name: str, to: str) -> None:
        """Subscriptions stay with the names (RFC 9051 section 6.3.6), also at a DELETE: clients see to them."""
        self._spell(to)
        moved = [name] if name == "INBOX" else self.below(name)
        if to.startswith(name + self.traits.separator) and name != "INBOX":
            raise No("below itself")
        if name not in moved or any(to + each[len(name) :] in self.boxes for each in moved):
            raise No("rename")
        if name == "INBOX":  # what lies below stays
            if self.traits.inbox_leaves:
                self.boxes[to] = self.boxes.pop(name)
                self.create(name)
            else:  # RFC 9051 section 6.3.6
                self.create(to)
                messages = self.boxes[name].messages
                for message in messages.values():
                    self._put(self.boxes[to], message.raw, message.flags, message.date)
                self.expunge(name, tuple(messages))
            return
        for each in moved:
            self.boxes[to + each[len(name) :]] = self.boxes.pop(each)

    def delete(self, name: str) -> None:
        self.boxes.pop(name, None)

    def listing(self) -> Listing:
        return Listing(tuple(map(self.folder, sorted(self.boxes))), self.traits.separator, self.traits.prefix)

    def folder(self, name: str) -> Folder:
        box = self.boxes[name]
        identity = box.identity if self.traits.identity else ""
        return Folder(name, self.mark(name), identity, box.special_use, name in self.subscriptions)

    def mark(self, name: str) -> Mark:
        box = self.boxes[name]
        return Mark(box.uidvalidity, box.uidnext, box.modseq if self.traits.powers.changes else 0, len(box.messages))

    # messages

    def rows(self, name: str, since: int = 0, first: int = 1) -> tuple[Row, ...]:
        box = self.boxes[name]
        if since > box.modseq:
            return ()  # Dovecot: no error, no change
        return tuple(
            Row(uid, message.flags, message.date)
            for uid, message in sorted(box.messages.items())
            if uid >= first and message.modseq > since
        )

    def vanished(self, name: str, since: int) -> UidSet:
        box = self.boxes[name]
        return UidSet.of(uid for uid, modseq in box.vanished if modseq > since)

    def append(
        self, name: str, raw: bytes, flags: frozenset[str], date: int, uid: int = 0, *, counted: bool = True
    ) -> int:
        """`counted`: Cyrus counts twins for clients. What a link brings as its administrator it takes."""
        box = self.boxes.get(name)
        if box is None:
            raise No("[TRYCREATE]")
        if self.room is not None and len(self.everything()) >= self.room:
            raise No("Not enough disk quota")
        if self.traits.refuses_nul and b"\0" in raw:
            raise No("Message contains NUL characters")
        if self.traits.munge8bit:
            header, blank, body = raw.partition(b"\r\n\r\n")
            raw = bytes(c if c < 128 else 88 for c in header) + blank + body
        if counted and self.traits.twins and sum(m.raw == raw for m in box.messages.values()) >= self.traits.twins:
            raise No("Too many identical emails")
        if uid:
            if self.traits.powers.numbering is not Numbering.GIVEN or uid < box.uidnext:
                raise No(f"UID {uid} cannot be given")
            box.uidnext = uid
        return self._put(box, raw, flags, date)

    def _put(self, box: Box, raw: bytes, flags: frozenset[str], date: int) -> int:
        uid = box.uidnext
        box.uidnext += 1
        box.modseq += 1
        kept = flags if self.traits.keywords else frozenset(f for f in flags if f.startswith("\\"))
        if self.traits.no_future and self.clock is not None:
            date = min(date, self.clock())
        box.messages[uid] = Message(raw, kept, date, box.modseq)
        self._remember(box, uid, raw)
        return uid

    def _remember(self, box: Box, uid: int, raw: bytes) -> None:
        key = (box.identity, box.uidvalidity, uid)
        digest = sha1(raw).hexdigest()
        assert self.named.setdefault(key, digest) == digest, f"UID {uid} named two messages on {self.kind}"

    def store(self, name: str, uid: int, flags: frozenset[str], *, anew: bool = False) -> frozenset[str]:
        """`anew`: with a new MODSEQ also where nothing changes, as links do it."""
        box = self.boxes[name]
        message = box.messages.get(uid)
        lost = frozenset() if self.traits.keywords else frozenset(f for f in flags if not f.startswith("\\"))
        if message is not None and (anew or message.flags != flags - lost):
            box.modseq += 1
            message.flags, message.modseq = flags - lost, box.modseq
        return lost

    def expunge(self, name: str, uids: tuple[int, ...]) -> None:
        box = self.boxes[name]
        for uid in uids:
            if uid in box.messages:
                box.modseq += 1
                del box.messages[uid]
                box.vanished.append((uid, box.modseq))

    def expunge_deleted(self, name: str) -> None:
        doomed = tuple(uid for uid, m in self.boxes[name].messages.items() if "\\Deleted" in m.flags)
        self.expunge(name, doomed)

    def raise_uidnext(self, name: str, uidnext: int, modseq: int = 0, replicated: int = 0) -> None:
        """Never-existing UIDs are not reported as vanished. With Dovecot UIDNEXT alone is no change."""
        box = self.boxes[name]
        box.uidnext = max(box.uidnext, uidnext)
        box.modseq = max(box.modseq + (self.traits.powers.numbering is Numbering.GIVEN), modseq)
        box.replicated = replicated

    def lift(self, name: str, modseq: int) -> None:
        """The next change there gets no MODSEQ below this one; of nodes."""
        box = self.boxes[name]
        if self.kind == "node":
            box.modseq = max(box.modseq, modseq - 1)

    def deliver(self, name: str, raw: bytes, date: int) -> None:
        """LMTP: the server adds its own trace."""
        message_id = raw.split(b"\r\n", 1)[0]
        if self.traits.suppresses and message_id in self._message_ids:
            return
        self._message_ids.add(message_id)
        date = date if self.clock is None else self.clock()
        self.append(name, b"Received: by " + self.kind.encode() + b"\r\n" + raw, frozenset(), date)

    def find(self, delivery: str) -> bool:
        return any(identity_of(message.raw).delivery == delivery for _, _, message in self.everything())

    def everything(self) -> list[tuple[str, int, Message]]:
        return [(name, uid, m) for name, box in self.boxes.items() for uid, m in sorted(box.messages.items())]

    # accidents

    def snapshot(self) -> dict[str, Box]:
        return copy.deepcopy(self.boxes)

    def restore(self, boxes: dict[str, Box]) -> None:
        """From a backup; MODSEQ and UIDs go back, so what they named may be named again."""
        self.boxes = copy.deepcopy(boxes)
        self.named.clear()
