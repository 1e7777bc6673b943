"""Who has mail, and where: domains, units, accounts, aliases, homes. Values only.

Knows the shapes. Does not know where they are kept (directory) nor what follows from them (decision).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from onedomain.model.server import Server


class Level(Enum):
    """How far a message has got when 250 is said (promise 1)."""

    SPOOL = "spool"
    PRIMARY = "primary"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True)
class Home:
    """Names of servers; the epoch grows at every change of home.

    `pending`: a promotion is committed and its plan has not been carried out: nobody may read or write there yet.
    `no_modseq`: the MODSEQs of the primary are not those that clients were shown before a promotion, so CONDSTORE and
    QRESYNC (RFC 7162) are hidden from them; `modseq_of`: the server that showed them, if that is known. `shown`: the
    text of Validities, where they were shown other UIDVALIDITYs. `uidl`: the format of their POP3 UIDLs, where that is
    not the primary's own.
    """

    primary: str
    replicas: tuple[str, ...] = ()
    epoch: int = 1
    pending: bool = False
    no_modseq: bool = False
    shown: str = ""
    uidl: str = ""
    modseq_of: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """A department or site. `servers` are the names where its new accounts may live, `replicas` where their copies."""

    name: str
    servers: tuple[str, ...] = ()
    level: Level = Level.SPOOL
    strict: bool = False
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """`name` is the spelling addresses are carried under; `canonical` the domain its accounts are kept under.

    `postmaster` is the address that gets the domain's postmaster mail where no account or alias of that name does.
    """

    name: str
    canonical: str
    tag_separator: str = "+"
    postmaster: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """`address` is the key form `local@domain`. `mailbox` is the name at the home, if it differs from the address.

    `password` is a hash in crypt or {SCHEME} form, or empty: then the home's own log-in decides.
    `forward_to` are further addresses that get a copy; `keep_copy` False means only those get it.
    """

    address: str
    unit: str
    home: Home
    mailbox: str = ""
    password: str = field(default="", repr=False)
    forward_to: tuple[str, ...] = ()
    keep_copy: bool = True
    enabled: bool = True

    @property
    def mailbox_name(self) -> str:
        return self.mailbox or self.address


@dataclass(frozen=True, slots=True)
class Alias:
    """`address` may be `@domain` for a catch-all. Targets are addresses, inside or outside."""

    address: str
    targets: tuple[str, ...]


class DirectoryView(Protocol):
    """What a decision may ask of the directory; answered from memory, never blocking. Keys are Address.key."""

    def domain(self, name: str) -> Domain | None: ...
    def account(self, key: str) -> Account | None: ...
    def alias(self, key: str) -> Alias | None: ...
    def unit(self, name: str) -> Unit | None: ...
    def server(self, name: str) -> Server | None: ...
    def servers(self) -> Sequence[Server]: ...
