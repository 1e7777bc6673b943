"""What the drill needs of a stage: players that can be taken away, doors that clients knock at, mailboxes to look into.

Shapes only. A stage of the demonstration, a cluster of the tests and an operator's own servers all fit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from onedomain.drill.filters import Filters, Left
from onedomain.drill.plan import Way
from onedomain.ledger.verify import Mailbox


class Player(Protocol):
    """A server or an edge: one process tree, or more. `ways`: how it can be taken away."""

    @property
    def ways(self) -> Collection[Way]: ...

    def take(self, way: Way) -> None: ...

    def give(self, way: Way) -> None:
        """Returns when it answers again."""
        ...


@dataclass(frozen=True, slots=True)
class Door:
    """An edge's ports, where clients come in."""

    edge: str
    host: str
    smtp: int
    imap: int
    pop3: int


class Theatre(Protocol):
    """`filters`: what servers' own filters do with what is delivered."""

    servers: Mapping[str, Player]
    edges: Mapping[str, Player]
    doors: Sequence[Door]
    people: Sequence[str]
    password: str
    filters: Filters

    def homes(self) -> dict[str, str]:
        """Where each account's mail lives now, as the directory says."""
        ...

    def mailboxes(self) -> list[Mailbox]:
        """Every account at its home as it is now, reached directly, never through an edge."""
        ...

    def waiting(self) -> int | None:
        """Messages in all queues; None while an edge does not answer."""
        ...

    def ages(self) -> Mapping[str, float]:
        """By account: what was answered more than so many seconds ago is on its replica. Nobody's, if nobody can be
        asked.
        """
        ...

    def world(self) -> list[Left]:
        """What filters have sent out of the domain."""
        ...
