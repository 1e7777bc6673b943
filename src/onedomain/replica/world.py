"""What a failover is told of the world, what it asks of the database, and by which rules it goes.

Knows shapes and ports. Does not decide anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from onedomain.decision.link.succession import Waits
from onedomain.directory.leases import EdgeLease
from onedomain.directory.promotions import Choose, Promoted
from onedomain.model.account import Account
from onedomain.model.health import Verdict
from onedomain.replica import promoting, returning


@dataclass(frozen=True, slots=True)
class Rules:
    """`automatic` False: only by hand. `max_lag` in seconds."""

    automatic: bool = False
    waits: Waits = field(default_factory=Waits)
    max_lag: float = 60.0


@dataclass(frozen=True, slots=True)
class Copy:
    """How an account's replica stands. `since`: monotonic time of the oldest event that it lacks, None if it lacks
    nothing. `held`: how many deliveries that it lacks each edge's safety nets hold. `even`: it has been the primary, it
    has what it had then, and all that has come to the new one since was told here. `brought`: how often
    clients were told that something is stored which it may lack.
    """

    whole: bool
    since: float | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    even: bool = False
    brought: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """What the edges say of a server. `seen`: by those that answered. `told`: edges that tell us what happens."""

    live: frozenset[str]
    seen: Mapping[str, Verdict]
    told: frozenset[str] = frozenset()

    @property
    def sure(self) -> bool:
        """Nobody has anything to tell that has not come here."""
        return self.live | self.told <= self.seen.keys() and self.live <= self.told


@dataclass(frozen=True, slots=True)
class Asked:
    """What a promotion by hand comes to for one account; `reason`: why not, or ""."""

    account: str
    to: str
    reason: str


class Store(promoting.Store, returning.Store, Protocol):
    """directory/promotions.py under this linker's lease. Each raises Failed where the database is away or the lease is
    lost.
    """

    async def promote_server(self, dead: str, choose: Choose, cause: str) -> tuple[list[Promoted], int]: ...
    async def promote_accounts(
        self, addresses: Collection[str], choose: Choose, cause: str
    ) -> tuple[list[Promoted], int]: ...
    async def take_back(self, olds: Mapping[str, str], cause: str) -> list[Promoted]: ...
    async def pending(self) -> list[Promoted]: ...
    async def unreturned(self) -> list[Promoted]: ...
    async def recent(self, since: float) -> list[Promoted]: ...
    async def edges(self) -> Sequence[EdgeLease]: ...
    async def last(self) -> int:
        """The number of the directory's last change."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """`accounts` whose primary is a server; `copy` of an account; `held`: its deliveries that safety nets hold, and at
    which edge; `observe` a server; `down_since`: when it was last usable, by the monotonic clock, None if it is now;
    `applied(seq)`: whether all of this edge goes by that change; `promoted` an account, at this moment;
    `relink(account, even)`: its link may run now, `even` as in Copy; "": everybody's, as far as `may_link` says so.
    """

    accounts: Callable[[str], Sequence[Account]]
    primaries: Callable[[], Collection[str]]
    copy: Callable[[str], Copy | None]
    held: Callable[[str], Mapping[str, str]]
    observe: Callable[[str], Awaitable[Sight]]
    down_since: Callable[[str], float | None]
    applied: Callable[[int], Awaitable[bool]]
    promoted: Callable[[str], None]
    relink: Callable[[str, bool], None]
