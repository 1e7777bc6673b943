"""What a link knows: folders and messages as two servers show them, and what has been carried from one to the other.

Knows shapes only. A link carries from its source (the primary) to its target (the replica). A folder's state is of
constant size as long as its messages have the same UIDs on both sides: only what differs has an entry of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

LARGEST = 160 * 1024 * 1024
"""Octets of a message that links carry, as it is in memory. A larger one stays where it is, and a person is told."""


class Side(Enum):
    SOURCE = "source"
    TARGET = "target"


class Numbering(Enum):
    """How a message gets its UID on a target."""

    GIVEN = "given"    # each message with its UID: node, Cyrus's SYNCAPPLY
    RAISED = "raised"  # UIDNEXT can be set: Dovecot's mailboxUpdate
    BURNED = "burned"  # fillers are appended and expunged


@dataclass(frozen=True, slots=True)
class Powers:
    """What a server can do for a link. `changes`: CONDSTORE and QRESYNC (RFC 7162); without, lists are compared.

    `names_uids`: UIDPLUS (RFC 4315), APPEND answers with the UID and UID EXPUNGE exists.
    """

    numbering: Numbering
    changes: bool
    names_uids: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a folder stood. Zeros: never seen. `modseq` is HIGHESTMODSEQ, 0 where unknown."""

    uidvalidity: int = 0
    uidnext: int = 0
    modseq: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Folder:
    """`name` as the server spells it. `identity` outlives a RENAME: MAILBOXID (RFC 8474), Dovecot's GUID, or ""."""

    name: str
    mark: Mark
    identity: str = ""
    special_use: str = ""
    subscribed: bool = True


@dataclass(frozen=True, slots=True)
class Listing:
    """An account's own folders; `prefix` is of its personal namespace (RFC 2342), such as "INBOX.".

    `forbidden`: characters that names can't have there.
    """

    folders: tuple[Folder, ...]
    separator: str = "/"
    prefix: str = ""
    forbidden: str = ""
    _named: dict[str, Folder] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_named", {folder.name: folder for folder in self.folders})

    def find(self, name: str) -> Folder | None:
        return self._named.get(name)


@dataclass(frozen=True, slots=True)
class Row:
    """A message without its bytes. `flags` without \\Recent; `date` is INTERNALDATE in seconds since 1970."""

    uid: int
    flags: frozenset[str]
    date: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What a message's bytes say of it. `delivery`: our delivery id or ""; `filler`: one of ours, made to be burned.

    `large`: more bytes than links carry; they were not read, `digest` is how many they are. It stays where it is.
    """

    digest: str
    delivery: str = ""
    filler: bool = False
    large: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """`count` messages whose UIDs differ: `source` + i on one side is `target` + i on the other."""

    source: int
    target: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Pass:
    """HIGHESTMODSEQ of the source before and after a pass read what it then carried. Zeros: not known."""

    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class FolderLink:
    """One folder on both sides.

    Source messages below `source.uidnext` have been dealt with, target messages below `target.uidnext` are known, and
    unless `runs` says otherwise equal UIDs are equal messages. `source.modseq` 0: lists have to be compared.
    `kept` are UIDs of the target that have no partner and stay; `refused` those of the source that the target didn't
    take. `untaken`: keywords that it doesn't keep. `doomed`: UIDs of the target that the source has lost, written
    before anything of the same pass is copied, so that a promotion can finish a MOVE. `deleted` since
    `deleted_from` (seconds) that nobody commanded; `braked`: deletions wait for a person. `renamed`: the target has
    it under a name from which its own does not follow: that was taken, or is none that the target will have.
    `becoming`: the name that the target was going to be asked for, or "". `unmarked`, `marked`: UIDs of the target that
    have \\Deleted, and have not, but for a plain EXPUNGE that may be under way (no UIDPLUS).
    """

    source_name: str
    target_name: str
    identity: str = ""
    source: Mark = Mark()
    target: Mark = Mark()
    runs: tuple[Run, ...] = ()
    kept: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    large: tuple[int, ...] = ()  # of those that were refused: larger than links carry, so on the source only
    untaken: frozenset[str] = frozenset()
    doomed: tuple[int, ...] = ()
    surplus: tuple[int, ...] = ()  # UIDs of the target that are there twice, about to be deleted
    resumed: int = 0  # the target's UIDNEXT when `doomed` was written
    shown: Mark = Mark()  # how far the source was when this link began, or began anew: clients may know all below
    last: Pass = Pass()
    deleted: int = 0
    deleted_from: float = 0.0
    braked: bool = False
    settled: bool = False  # paired once: what is unknown on the target from now on is ours, come late
    gone: bool = False  # the source's folder is deleted; the target's waits for its turn
    special_use: str = ""
    asked: str = ""  # what the target was told, SUBSCRIBE or UNSUBSCRIBE, and has not been seen to have done
    renamed: bool = False
    becoming: str = ""
    unmarked: tuple[int, ...] = ()
    marked: tuple[int, ...] = ()
    skew: int = 0  # seconds by which dates may differ: where a clock is behind, the future becomes the present

    @property
    def aligned(self) -> bool:
        """Every UID that a client saw on the source names the same message, or none, on the target."""
        return not self.runs and not self.kept


@dataclass(frozen=True, slots=True)
class LinkState:
    """What has to be durable of one account's link. `surplus`: after a return, what only the target has is dropped.
    `whole`: a pass was, since the last promotion; before, the target must not become the primary by itself.
    `strangers`: folders of the target's own, with which all was done that is to be done.
    """

    epoch: int = 1
    folders: tuple[FolderLink, ...] = ()
    surplus: bool = False
    whole: bool = False
    strangers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """A folder of the new primary, as clients go on seeing it.

    `uidvalidity`: what clients are shown; `at_server`: what the server says of it, 0 where that was not noted.
    `identity`: of the new primary's folder, as in Folder. `arrived`: what was on its way when the old primary died, as
    found here. A client that comes from an older epoch is told VANISHED (EARLIER) for every UID that is not here: the
    server reports only those that it once had, and a message may have been shown and expunged, or refused, without
    ever coming here.
    """

    name: str
    target_name: str
    uidvalidity: int
    arrived: tuple[Identity, ...] = ()
    renumbered: bool = False
    special_use: str = ""
    at_server: int = 0
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion came to; durable, for relays and for the return. `refused`: why it must not be, or "".

    `highest`: of the UIDVALIDITYs that clients may have been shown until now. `modseqs_again`: the server's MODSEQs go
    on from those that it showed when it was the primary before.
    """

    epoch: int
    folders: tuple[Shown, ...] = ()
    refused: str = ""
    highest: int = 0
    modseqs_again: bool = False
