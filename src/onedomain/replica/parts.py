"""What links are made of, and how often they run.

Knows ports. Does not know what a pass does, nor whose turn it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from onedomain.backend.link.base import LinkServer
from onedomain.model.account import Account
from onedomain.model.ports import Clock, Count, Trace
from onedomain.model.replica import LinkState
from onedomain.replica.aside import Aside
from onedomain.replica.linked import Place
from onedomain.replica.pace import Pauses
from onedomain.replica.saving import Saver


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Seconds. `sweep`: an account without events is looked at so often; `audit`: and compared whole, with lists.

    `net`: until the next look for deliveries that a pass did not find. `refused`: after a server said no for good.
    `share`: a pass that has carried for longer goes on later if others wait for its place.
    """

    sweep: float = 300.0
    audit: float = 86400.0
    net: float = 1.0
    refused: float = 300.0
    share: float = 5.0
    unstable: Pauses = field(default_factory=lambda: Pauses(0.02, 5.0))
    failed: Pauses = field(default_factory=lambda: Pauses(0.2, 120.0))


class Outlet(Protocol):
    """Where workers are told; see app/hub.py. Never blocks."""

    def covered(self, place: Place, account: str, ticket: int) -> None: ...
    def released(
        self, place: Place | None, account: str, confirmed: Collection[str], consumed: Collection[str], epoch: int
    ) -> None: ...
    def alert(self, account: str, folder: str, text: str) -> None: ...


class States(Protocol):
    """Where link states are read from; None: there is none for this home."""

    async def load(self, account: Account) -> LinkState | None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """`servers(name)` raises KeyError for one that is not configured; `usable(name)`: what the board says. `may_write`:
    whether the links run here still.
    """

    servers: Callable[[str], LinkServer]
    states: States
    saver: Saver
    aside: Aside
    outlet: Outlet
    usable: Callable[[str], bool]
    clock: Clock
    dice: Callable[[], float]
    trace: Trace
    count: Count
    may_write: Callable[[], bool]
