"""What an SMTP session needs of others, and the rules that a listener gives it.

Knows shapes. app/ connects them to the spool, the dispatcher and the log-in.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

from onedomain.decision.loop import MAX_OWN, MAX_RECEIVED
from onedomain.model.account import Account, DirectoryView, Level
from onedomain.model.failure import Failure
from onedomain.model.health import BoardView
from onedomain.model.message import Envelope
from onedomain.model.ports import Clock, Count, LinkView, Trace
from onedomain.protocol.sasl import Credentials
from onedomain.protocol.smtp.offer import Offer
from onedomain.queue.crash import CrashPoints, NoCrash
from onedomain.queue.quiet import NoLinks

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DraftPort(Protocol):
    """A message on its way into the spool; `id` is its queue id and delivery id. All raise Failed but abort."""

    @property
    def id(self) -> str: ...
    def put(self, data: bytes) -> bool:
        """True where `spill` has to be awaited before any more."""
        ...

    async def spill(self) -> None: ...
    async def commit(self, envelope: Envelope, *, message_id: str = "") -> Any: ...

    def commit_then(self, envelope: Envelope, told: Callable[[Failure | None], None], *, message_id: str = "") -> bool:
        """`commit` for those who have no task; False, and nothing was done: there is more to wait for than one sync."""
        ...

    def abort(self) -> None: ...


class SpoolPort(Protocol):
    def draft(self) -> DraftPort:
        """Raises Failed (452 4.3.1) when nothing can be kept."""
        ...


class LevelReached(Protocol):
    """The dispatcher, as a session that promises more than the spool sees it."""

    async def wait_level(self, id: str, timeout: float, copied: Collection[str]) -> Level:
        """How far every target of the message got within `timeout` seconds; REPLICA asks for those of the accounts
        `copied` only.
        """
        ...


class Authenticator(Protocol):
    def at_once(self, credentials: Credentials, address: str) -> Account | None:
        """Whose they are, where that has been found out lately and nobody has to wait; None: `check` finds out."""
        ...

    async def check(self, credentials: Credentials, client: tuple[str, int], local: tuple[str, int]) -> Account:
        """Whose credentials these are. Raises Failed; takes its time where passwords were wrong."""
        ...


@dataclass(slots=True)
class Heads:
    """Octets of header sections that are not complete, of all sessions of a worker: each is kept in memory, and slow
    clients from many addresses could fill it with them.
    """

    limit: int = 64 << 20
    held: int = 0


@dataclass(frozen=True, slots=True)
class SmtpParts:
    """One per worker and listener. `tls` None: STARTTLS is not offered, whatever the rules say."""

    directory: DirectoryView
    board: BoardView
    spool: SpoolPort
    levels: LevelReached
    clock: Clock
    trace: Trace
    count: Count
    tls: ssl.SSLContext | None = None
    authenticator: Authenticator | None = None
    links: LinkView = field(default_factory=NoLinks)
    crash: CrashPoints = field(default_factory=NoCrash)
    heads: Heads = field(default_factory=Heads)


@dataclass(frozen=True, slots=True)
class SmtpRules:
    """`cluster` names all our edges together in trace fields; `domain` is where `<Postmaster>` alone goes.

    `submission`: people log in, write to anyone, and as nobody but themselves unless `any_sender`. `expansion` and
    `targets` are the most that one recipient and one message may come to. Times in seconds: `idle` between commands and
    chunks; `level` how long 250 waits for primary and replica. `least_rate` in octets per second holds a body to a
    pace.
    """

    offer: Offer
    cluster: str
    domain: str
    submission: bool = False
    any_sender: bool = False
    xclient_trusted: tuple[Network, ...] = ()
    max_received: int = MAX_RECEIVED
    max_own: int = MAX_OWN
    expansion: int = 1000
    targets: int = 10_000
    idle: float = 300.0
    level: float = 20.0
    least_rate: float = 500.0
    name: str = field(default="smtp")

    def trusts(self, address: str) -> bool:
        """Whether the peer may say XCLIENT."""
        if not self.xclient_trusted:
            return False
        try:
            host = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(host in network for network in self.xclient_trusted)
