"""The words a plan speaks: what it may ask of two servers and of its own disk, and what it is answered.

Knows shapes. Does not know how any server is spoken to. No action that writes names a side: writing happens on the
target only, so no plan can harm the source. Actions are carried out one at a time and waited for: a FETCH pipelined
behind NOOP sees the old view, and a UID EXPUNGE behind STORE skips messages (both Dovecot).

A lost connection, or a server that answers "not now", ends the plan. What a server refuses for good is an answer.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from onedomain.model.replica import Identity, LinkState, Listing, Mark, Row, Side
from onedomain.model.uids import NO_UIDS, UidSet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListFolders:
    """-> Listing. LIST with STATUS; Cyrus answers STATUS MAILBOXID right only when it stands alone."""

    side: Side


@dataclass(frozen=True, slots=True)
class Read:
    """-> Rows. `since` > 0: what changed after that MODSEQ, and what vanished. `first`: no UID below it."""

    side: Side
    folder: str
    since: int = 0
    first: int = 1


@dataclass(frozen=True, slots=True)
class Look:
    """-> Looked. Both sides are listed at the same time, the source after `guess` was read from it: in one round trip
    where that can be. A listing that has that folder as it was read is one moment with the read.

    Bytes of its messages from UID `bodies` on come along where they are few and small: Append then need not ask.
    """

    guess: Read | None = None
    bodies: int = 1


@dataclass(frozen=True, slots=True)
class Looked:
    """`rows` None: nothing was read, or the folder is not there."""

    here: Listing
    there: Listing
    rows: Rows | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """`before` is what SELECT said, ahead of everything else. `vanished` lies below its UIDNEXT, and may
    hold UIDs that never were: 100,000 in a row after each failover.

    `after`: HIGHESTMODSEQ when all rows had been read.
    """

    before: Mark
    rows: tuple[Row, ...]
    vanished: UidSet = NO_UIDS
    after: int = 0


@dataclass(frozen=True, slots=True)
class ReadIdentities:
    """-> Mapping[int, Identity]; those that are gone are missing.

    `uidvalidity`: what SELECT must say, or the plan ends: the name may belong to another folder by now. 0: whatever.
    """

    side: Side
    folder: str
    uids: tuple[int, ...]
    uidvalidity: int = 0


@dataclass(frozen=True, slots=True)
class CreateFolder:
    """-> Mark | NotNow | None. With `uidvalidity` where the target can set it, and where an empty folder of that name
    is there.

    `identity`: the source's, for targets that can take it over. None: the target will never have that name; with `must`
    that ends the plan. NotNow: it works and refuses this now, or for a reason that is none of the name's (RFC 5530: a
    lock, a limit, a bug); without `may_wait` that ends the plan. A connection that ends always does.
    """

    name: str
    uidvalidity: int
    special_use: str = ""
    identity: str = ""
    must: bool = False
    may_wait: bool = False


@dataclass(frozen=True, slots=True)
class NotNow:
    reason: str


@dataclass(frozen=True, slots=True)
class RenameFolder:
    """-> bool. What lies below moves along (RFC 9051 section 6.3.6). False: the target will never have that name."""

    name: str
    to: str


@dataclass(frozen=True, slots=True)
class DeleteFolder:
    """-> None; False: it stays for now, as there is no room for its messages, which are set aside first. `must`: that
    the target will not delete it ends the plan.
    """

    name: str
    must: bool = True


@dataclass(frozen=True, slots=True)
class Subscribe:
    name: str
    on: bool


@dataclass(frozen=True, slots=True)
class SetUse:
    """-> None, also where the target can't. `special_use` "": none any more."""

    name: str
    special_use: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A message of the source, and what it should be on the target. `uid` 0: whichever comes."""

    source_uid: int
    flags: frozenset[str]
    date: int
    uid: int = 0


@dataclass(frozen=True, slots=True)
class Append:
    """-> tuple[Copied | Refused | Gone, ...] in their order. Bodies pass by the plan.

    Where UIDs are not given it ends with the first that is refused or gone, as the next would take its UID: one
    MULTIAPPEND, which is all or nothing (RFC 3502), or one after the other. It may end with one that was copied, too:
    what has been done is then worth saving before the rest. The source's folder must still say `uidvalidity`, and each
    message its date, or the plan ends: a RENAME may have put another folder there.
    """

    source_folder: str
    folder: str
    copies: tuple[Copy, ...]
    uidvalidity: int = 0


@dataclass(frozen=True, slots=True)
class Copied:
    """`uid` 0: the target names none (no UIDPLUS)."""

    uid: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Refused:
    """The target will never take this message: NULs, bad headers, size. `for_now`: there is no room for it."""

    reason: str
    identity: Identity
    for_now: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """It was expunged from the source before it could be read."""


Outcome: TypeAlias = Copied | Refused | Gone


@dataclass(frozen=True, slots=True)
class Raise:
    """One folder of RaiseUidNext. `modseq`: above all that clients may have been shown; `replicated`: up to which of
    them they have seen nothing that is lost. Zeros: not known.
    """

    folder: str
    uidnext: int
    modseq: int = 0
    replicated: int = 0


@dataclass(frozen=True, slots=True)
class RaiseUidNext:
    """-> None. What is not there below a folder's `uidnext` never comes.

    In one go where the server allows it: a promotion raises every folder of an account, and thousands of accounts wait
    for theirs. After a failure any of them may have been raised; none ever goes down.
    """

    folders: tuple[Raise, ...]


@dataclass(frozen=True, slots=True)
class Burn:
    """-> tuple[Copied | Refused, ...] of `count` fillers, ending with the first that is refused. Not yet expunged.

    Each filler is unlike any other (Cyrus refuses identical ones): it carries `first` + its index.
    """

    folder: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class SetFlags:
    """-> frozenset[str]: flags that the target doesn't keep (PERMANENTFLAGS). Replaces all flags.

    `modseq`: where the target can choose, the change gets none below this, which clients of the source may know.
    """

    folder: str
    uids: tuple[int, ...]
    flags: frozenset[str]
    modseq: int = 0


@dataclass(frozen=True, slots=True)
class Expunge:
    """-> those that stay for now, or None. These UIDs and no other: STORE, wait, UID EXPUNGE. `keep_bodies`: set aside
    first, for a time; where there is no room for that they stay.

    `modseq` as in SetFlags.
    """

    folder: str
    uids: tuple[int, ...]
    keep_bodies: bool = True
    modseq: int = 0


@dataclass(frozen=True, slots=True)
class ExpungeDeleted:
    """-> None. Plain EXPUNGE, for servers without UIDPLUS: takes whatever is \\Deleted, so nothing else may be."""

    folder: str


@dataclass(frozen=True, slots=True)
class Lend:
    """-> None when it is durable. In this folder of the target a plain EXPUNGE is about to find \\Deleted taken off
    `unmarked` and set on `marked`; both empty: it is over, and flags are as they were. Only said within lending.lent.
    """

    folder: str
    unmarked: tuple[int, ...] = ()
    marked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SetAside:
    """-> tuple[int, ...]: the UIDs of which a copy is in our own store now, durable; the others are gone, or too large.
    NotNow: there is no room for them, which without `may_wait` ends the plan.
    """

    side: Side
    folder: str
    uids: tuple[int, ...]
    why: str
    may_wait: bool = False


@dataclass(frozen=True, slots=True)
class Find:
    """-> frozenset[str]: those of these delivery ids that the target has or has had, in whatever folder."""

    deliveries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Confirm:
    """-> None. These delivery ids are on the target, or set aside: no safety net has to hold them."""

    deliveries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """-> None. What the source had at one moment is on the target or set aside: whoever waits for that may go on. Not
    yet saved, as what is not is looked at again.
    """


@dataclass(frozen=True, slots=True)
class Save:
    """-> None when it is durable."""

    state: LinkState


@dataclass(frozen=True, slots=True)
class Alert:
    """-> None. For a person: log, status, mail to the postmaster."""

    folder: str
    text: str


Action: TypeAlias = (
    ListFolders | Read | Look | ReadIdentities | CreateFolder | RenameFolder | DeleteFolder | Subscribe | SetUse
    | Append | RaiseUidNext | Burn | SetFlags | Expunge | ExpungeDeleted | Lend | SetAside | Find | Confirm | Whole
    | Save | Alert
)
Plan: TypeAlias = Generator[Action, Any, T]
Identities: TypeAlias = Mapping[int, Identity]
