"""What came to a primary since the last whole pass of its link: how many UIDs it may have given, as so many are burned
before a replica that can't be told UIDNEXT takes its place; and how many messages its clients alone had.

Knows which commands make UIDs, how many each can at most, and which bring bytes. Does not know how it is noted that a
pass covered them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from onedomain.decision.link.folders import INBOX

ANY = 1 << 30
"""More than anybody burns."""

UNDER_WAY = 8
MOST = 2_000
"""Names of folders that are counted; clients may say any."""

STORED = "STORED"
"""No command: a client was told OK for a message that only it has, and no pass has covered that."""

_ONE = frozenset(("APPEND",))
_MANY = frozenset(("COPY", "MOVE", "REPLACE", "MULTIAPPEND"))
_NONE = frozenset((
    "CREATE", "SUBSCRIBE", "UNSUBSCRIBE", "SETACL", "DELETEACL", "SETMETADATA", "SETANNOTATION", "STORE", "EXPUNGE",
    "CLOSE", "FETCH", STORED,
))  # fmt: skip
_DELIVERY = "DELIVER"
_LACKING = frozenset((STORED, "UNKNOWN", ""))
"""After which a client may have been told that something is stored that the replica lacks. The OKs of APPENDs are held;
if one is let go uncovered, that is told by itself. Nobody holds the answers of commands that nobody knows, and in many
changes that were made one ("") it may be hidden. Deliveries are in safety nets.
"""


def said_of(command: str, most: int) -> str:
    """A command as it is told, with how many messages it can put into its folder at most; 0 where nobody can tell."""
    return f"{command} {most}" if most else command


@dataclass(slots=True)
class Growth:
    """What was told since a pass began. `anywhere`: UIDs that each of the folders may have given; `unsure`: any number
    in any folder, renamed ones too. `brought`: how often clients were told that bytes are stored of which nobody else
    has a copy. `unheard`: how often somebody was lost who may have had such a thing to tell.
    """

    folders: dict[str, int] = field(default_factory=dict)
    anywhere: int = 0
    unsure: bool = False
    brought: int = 0
    unheard: int = 0

    def told(self, what: str, folder: str, deliveries: Collection[str]) -> None:
        what, _, most = what.partition(" ")
        self.brought += what in _LACKING
        if self.unsure or what in _NONE:
            return
        if what == _DELIVERY:
            # Into whatever folder; Sieve may file one message in several. With an id the safety net counts it.
            self.anywhere += not deliveries
        elif len(self.folders) >= MOST and folder not in self.folders:
            self.unsure = True
        elif what in _ONE and folder:
            self.folders[folder] = self.folders.get(folder, 0) + 1
        elif what in _MANY and folder:
            self.folders[folder] = min(ANY, self.folders.get(folder, 0) + (int(most) if most else ANY))
        else:
            self.unsure = True

    def lost(self, *, waited: bool) -> None:
        """Something may have happened that nobody tells. `waited`: OKs are held until a pass has covered them."""
        self.unsure = True
        self.unheard += not waited

    def add(self, other: Growth) -> None:
        self.brought += other.brought
        self.unheard += other.unheard
        self.unsure = self.unsure or other.unsure or len(self.folders) > MOST
        if self.unsure:
            return
        for folder, count in other.folders.items():
            self.folders[folder] = min(ANY, self.folders.get(folder, 0) + count)
        self.anywhere += other.anywhere

    def allowed(self, folders: Iterable[str], held: int) -> dict[str, int]:
        """By folder, as the link knows them; those of which nobody can tell are left out. `held`: deliveries that a
        safety net has and no pass has seen. One that was under way when a server fell silent may be in INBOX, too.
        """
        folders = tuple(folders)
        if self.unsure or not self.folders.keys() <= set(folders):  # another spelling of one of them, perhaps
            return {}
        found = {folder: self.folders.get(folder, 0) + self.anywhere + held for folder in folders}
        found[INBOX] = found.get(INBOX, 0) + UNDER_WAY
        return {folder: count for folder, count in found.items() if count < ANY}
