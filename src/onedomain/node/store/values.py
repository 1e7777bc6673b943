"""What the node's store hands out, and what it tells that has changed. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Rejected(Exception):
    """A tagged NO: `code` is its response code (RFC 5530, "" for none), `text` for the client."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Account:
    id: int
    name: str


class Doubt(NamedTuple):
    """Modseqs between the two stood for changes that another server has made and that are lost: what a client that
    has such a one knows of any message may be wrong."""

    after: int = 0
    before: int = 0

    def since(self, modseq: int) -> int:
        """From where on such a client has to be told; others from their own modseq on."""
        return 0 if self.after < modseq < self.before else modseq


NO_DOUBT = Doubt()


@dataclass(frozen=True, slots=True)
class Folder:
    """`name` in Unicode with "/" between levels. `recent_uid`: the first UID not yet shown to anybody as recent.

    Of expunges with a modseq up to `forgotten_modseq` some are no longer known, none of a UID above `forgotten_uid`.
    `changed` is the number of the commit that last changed what is in it.
    """

    id: int
    account: int
    name: str
    mailbox_id: str
    special_use: str
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    recent_uid: int
    forgotten_modseq: int
    forgotten_uid: int
    changed: int
    doubt: Doubt


class Message(NamedTuple):
    """`date` in seconds since 1970; `flags` in canonical form; `body` is the id of its bytes, `size` their number."""

    uid: int
    modseq: int
    date: int
    flags: str
    body: int
    size: int


@dataclass(frozen=True, slots=True)
class Added:
    """New messages, in ascending order of their UIDs. A link may put one below others that are there."""

    folder: int
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Flagged:
    """(uid, flags as they are now) of messages that now have `modseq`. `by` is the session that did it."""

    folder: int
    modseq: int
    flags: tuple[tuple[int, str], ...]
    by: object = None


@dataclass(frozen=True, slots=True)
class Expunged:
    folder: int
    modseq: int
    uids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Raised:
    """UIDs below `uidnext` and modseqs up to `highestmodseq` are used up, by whatever."""

    folder: int
    uidnext: int
    highestmodseq: int
    doubt: Doubt = NO_DOUBT


@dataclass(frozen=True, slots=True)
class Removed:
    """The folder itself is gone, or is another one from now on: its UIDVALIDITY has changed."""

    folder: int


Change = Added | Flagged | Expunged | Raised | Removed


class Taken(Enum):
    """What became of a delivery for one account."""

    STORED = "stored"
    ALREADY = "already"        # its delivery id had been taken before: nothing was stored
    NO_ACCOUNT = "no account"
