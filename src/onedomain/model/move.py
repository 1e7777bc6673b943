"""One account on its way to another server, at an operator's wish.

Knows shapes only. What comes next is decision/move's, where it is kept directory/moves's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Stage(Enum):
    COPYING = "copying"      # the link carries it; people go on where they are
    SWITCHING = "switching"  # the home is the new one, its plan is being carried out
    FINISHING = "finishing"  # people are there; what came late at the old one is brought
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        return self in (Stage.COPYING, Stage.SWITCHING, Stage.FINISHING)


@dataclass(frozen=True, slots=True)
class Move:
    """`keep`: the old server stays, as a replica. `cause` "drain": a return of the server undoes it. `why` is for
    people. `at`, `ended`: seconds since 1970, `ended` 0 while it is open. `force`: the old server is let go of whatever
    differs. `differ`: how many messages do, of its Report; None: there is none yet. `before`: the replicas when it
    began; None: not known.
    """

    account: str
    source: str
    target: str
    keep: bool = True
    cause: str = "move"
    stage: Stage = Stage.COPYING
    why: str = ""
    at: float = 0.0
    ended: float = 0.0
    force: bool = False
    differ: int | None = None
    before: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One message that is not the same on both sides: its UID at the home and at the old server, 0 where it is not."""

    folder: str
    uid: int
    old_uid: int
    verdict: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    verdict: str
    messages: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a comparison of both copies, message by message and byte by byte, came to. `differ`: messages that would be
    lost, or be others than they were. `entries`: all that are not the same, the first ones if there are very many.
    """

    at: float
    folders: int
    counts: tuple[Count, ...]
    differ: int = 0
    entries: tuple[Entry, ...] = ()
    cut: bool = False
