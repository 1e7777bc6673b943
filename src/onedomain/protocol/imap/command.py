"""The commands of an IMAP client as values (RFC 3501 section 6 and the extensions that the node speaks).

Knows what a command can say; a value that could not be said can't be built by the parser. Does not know what it does.
Mailbox names are Unicode, INBOX in capitals; dates are days or seconds since 1970; passwords don't show in a repr.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from onedomain.protocol.imap.flags import Mode
from onedomain.protocol.imap.sequence import SequenceSet


@dataclass(frozen=True, slots=True)
class Plain:
    """A command without arguments, such as NOOP or EXPUNGE."""

    name: str


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """`initial` is the initial response as it stands on the line, base64 or "=" (RFC 4959), None without one."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Id:
    """RFC 2971; names in lower case."""

    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Enable:
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resync:
    """What a client knows of a mailbox (RFC 7162 section 3.2.5). `known` None: all UIDs that there ever were.

    `pairs`: message numbers and the UIDs they had, as two sets of the same size.
    """

    uidvalidity: int
    modseq: int
    known: SequenceSet | None = None
    pairs: tuple[SequenceSet, SequenceSet] | None = None


@dataclass(frozen=True, slots=True)
class Select:
    mailbox: str
    read_only: bool
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """`special_use` such as `\\Sent` (RFC 6154), or ""."""

    mailbox: str
    special_use: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    mailbox: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class List:
    """LIST with RFC 5258 and RFC 5819. `select` and `give` are options in capitals, `status` the items of STATUS."""

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[str] = frozenset()
    give: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Lsub:
    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Status:
    mailbox: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewMessage:
    """What APPEND says of one message before its literal. `date` in seconds since 1970, None for now."""

    flags: str
    date: int | None


@dataclass(frozen=True, slots=True)
class Section:
    """BODY[...] and its RFC822 spellings. `part` () is the whole message.

    `text`: "", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT" or "MIME". `partial` is (first, length).
    `label` is how the answer names it, without the partial's origin.
    """

    part: tuple[int, ...]
    text: str
    fields: tuple[bytes, ...]
    partial: tuple[int, int] | None
    peek: bool
    label: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """`items` are names in capitals (FLAGS, UID, ENVELOPE …) and sections. `vanished` goes with `changed_since`."""

    messages: SequenceSet
    uid: bool
    items: tuple[str | Section, ...]
    changed_since: int | None = None
    vanished: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    messages: SequenceSet
    uid: bool
    mode: Mode
    silent: bool
    flags: str
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY, or with `move` MOVE (RFC 6851)."""

    messages: SequenceSet
    uid: bool
    mailbox: str
    move: bool


@dataclass(frozen=True, slots=True)
class UidExpunge:
    messages: SequenceSet


@dataclass(frozen=True, slots=True)
class Search:
    """`give`: what RETURN asks for (RFC 4731), None for a plain SEARCH."""

    uid: bool
    key: Key
    give: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class All:
    pass


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Or:
    left: Key
    right: Key


@dataclass(frozen=True, slots=True)
class Not:
    key: Key


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag or keyword that is set. `\\Recent` is the session's."""

    flag: str


@dataclass(frozen=True, slots=True)
class Among:
    messages: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class Day:
    """`relation`: "BEFORE", "ON" or "SINCE"; of the internal date, or with `sent` of the Date header."""

    relation: str
    day: datetime.date
    sent: bool


@dataclass(frozen=True, slots=True)
class Age:
    """RFC 5032 OLDER and YOUNGER, in seconds."""

    seconds: int
    older: bool


@dataclass(frozen=True, slots=True)
class Size:
    """LARGER or SMALLER than so many bytes."""

    size: int
    larger: bool


@dataclass(frozen=True, slots=True)
class HeaderText:
    """`text` somewhere in a field of that name, decoded; "" asks for the field alone."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class BodyText:
    """`text` somewhere in the body, with `header` in the header too (TEXT)."""

    text: str
    header: bool


@dataclass(frozen=True, slots=True)
class Modified:
    """MODSEQ: this mod-sequence or a higher one (RFC 7162 section 3.1.5)."""

    modseq: int


Key = All | And | Or | Not | Flag | Among | Day | Age | Size | HeaderText | BodyText | Modified

Arguments = (
    Plain | Login | Authenticate | Id | Enable | Select | Create | Delete | Rename | Subscribe | List | Lsub | Status
    | Fetch | Store | Copy | UidExpunge | Search
)


@dataclass(frozen=True, slots=True)
class Command:
    tag: str
    name: str
    arguments: Arguments
