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
    people. `at`, `ended`: seconds since 1970, `ended` 0 while it is open.
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
