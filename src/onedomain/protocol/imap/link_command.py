"""What XLINK, the node's private commands for replication (docs/replication-protocol.md), say: a value for each.

Knows their shapes. Does not know how they are written (link.py), nor what is done with them. Accounts are in key form,
names of folders in Unicode, dates in seconds since 1970, flags canonical; delivery ids are "" where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from onedomain.protocol.imap.sequence import SequenceSet

MAX_UID = 0xFFFF_FFFE
"""So that there is always a UIDNEXT."""


class FolderRef(NamedTuple):
    account: str
    mailbox_id: str
    uidvalidity: int


@dataclass(frozen=True, slots=True)
class Changes:
    """`accounts` None: all that the node has. `counted`: how many messages there are comes along."""

    since: int
    accounts: tuple[str, ...] | None
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Messages:
    """`bodies`: (from this UID on, up to this size) the bytes come along. `counted` as in Changes. `first`: no message
    with a UID below it.
    """

    folder: FolderRef
    since: int
    bodies: tuple[int, int] | None
    counted: bool = False
    first: int = 1


@dataclass(frozen=True, slots=True)
class Bodies:
    folder: FolderRef
    uids: SequenceSet


@dataclass(frozen=True, slots=True)
class Identities:
    folder: FolderRef
    uids: SequenceSet


@dataclass(frozen=True, slots=True)
class Find:
    account: str
    deliveries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveAccount:
    account: str


@dataclass(frozen=True, slots=True)
class GiveFolder:
    folder: FolderRef
    name: str
    uidnext: int
    highestmodseq: int
    special_use: str


@dataclass(frozen=True, slots=True)
class DropFolder:
    folder: FolderRef


@dataclass(frozen=True, slots=True)
class GiveSubscriptions:
    account: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveDelivered:
    account: str
    deliveries: tuple[str, ...]


class FlagsOf(NamedTuple):
    uid: int
    modseq: int
    flags: str


@dataclass(frozen=True, slots=True)
class GiveFlags:
    folder: FolderRef
    flags: tuple[FlagsOf, ...]


class Gone(NamedTuple):
    uids: SequenceSet
    modseq: int


@dataclass(frozen=True, slots=True)
class GiveExpunges:
    folder: FolderRef
    gone: tuple[Gone, ...]


class Gap(NamedTuple):
    """`replicated`: the modseq up to which everything is here."""

    folder: FolderRef
    uidnext: int
    highestmodseq: int
    replicated: int


@dataclass(frozen=True, slots=True)
class GiveGaps:
    gaps: tuple[Gap, ...]


class GivenMessage(NamedTuple):
    """What APPEND says of one message before its literal. `uid` 0: the next one; `modseq` 0: likewise."""

    uid: int
    modseq: int
    date: int
    flags: str
    delivery: str


LinkCommand = (
    Changes | Messages | Bodies | Identities | Find | GiveAccount | GiveFolder | DropFolder | GiveSubscriptions
    | GiveDelivered | GiveFlags | GiveExpunges | GiveGaps
)
