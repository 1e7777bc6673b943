"""What the drill needs of a stage: players that can be taken away, doors that clients knock at, mailboxes to look into.

Shapes only. A stage of the demonstration, a cluster of the tests and an operator's own servers all fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from onedomain.ledger.verify import Mailbox


class Player(Protocol):
    """One process tree. Each returns when it is done; `start` when it answers."""

    def kill(self) -> None: ...
    def start(self) -> object: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Cable(Protocol):
    """A server's network: between `cut` and `mend` no packet passes, and nobody is told."""

    def cut(self, name: str) -> None: ...
    def mend(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Door:
    """An edge's ports, where clients come in."""

    edge: str
    host: str
    smtp: int
    imap: int
    pop3: int


class Theatre(Protocol):
    servers: Mapping[str, Player]
    edges: Mapping[str, Player]
    cable: Cable | None
    doors: Sequence[Door]
    people: Sequence[str]
    password: str

    def homes(self) -> dict[str, str]:
        """Where each account's mail lives now, as the directory says."""
        ...

    def mailboxes(self) -> list[Mailbox]:
        """Every account at its home as it is now, reached directly, never through an edge."""
        ...

    def waiting(self) -> int | None:
        """Messages in all queues; None while an edge does not answer."""
        ...
