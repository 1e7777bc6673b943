"""What a pass is told when it begins, and what it comes to; a folder as it stands during one.

Knows shapes. Does not know what a pass does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from onedomain.decision.link.actions import Rows
from onedomain.decision.link.brake import Brake
from onedomain.decision.link.compare import Difference
from onedomain.model.replica import Folder, FolderLink, Identity, Mark
from onedomain.model.validities import Validities


@dataclass(frozen=True, slots=True)
class Order:
    """`now` in seconds of any steady clock. `commanded`: folders of the source in which our relays saw a command that
    deletes, as clients spelt them; it may grow while the pass runs. So may `renamed`: of what they saw a RENAME.
    `audit`: compare lists of all folders, also of those that look unchanged. `awaiting`: deliveries that safety nets
    hold. `shown`: as what clients see the source's UIDVALIDITYs; targets that can be given them get those. `guess`: the
    folder of the source that has changed, as far as anybody was told.
    """

    now: float
    commanded: Collection[str] = frozenset()
    audit: bool = False
    awaiting: frozenset[str] = frozenset()
    brake: Brake = field(default_factory=Brake)
    shown: Validities = field(default_factory=Validities)
    guess: str = ""
    renamed: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Report:
    """`whole`: everything that the source had at one moment is on the target or set aside, and nothing waits.

    `confirmed`: delivery ids seen on the target. `stopped`: why the link has to be paired again, or "". `full`: why the
    target takes no more now, or makes no folder, or "". `missed`: all was carried but what left its folder meanwhile.
    `owed`: of what was commanded, as clients spelt it, where something that is to go stays for now.
    """

    whole: bool
    confirmed: frozenset[str] = frozenset()
    stopped: str = ""
    full: str = ""
    missed: bool = False
    owed: frozenset[str] = frozenset()


@dataclass(slots=True)
class Work:
    """A folder during a pass. `rows` None: unchanged, not read."""

    begun: FolderLink
    link: FolderLink
    here: Folder
    there: Mark
    rows: Rows | None = None
    compared: bool = False
    found: Difference = field(default_factory=Difference)
    surplus: tuple[int, ...] = ()
    arrived: list[Identity] = field(default_factory=list)
    disturbed: bool = False
    held: bool = False
    left: tuple[int, ...] = ()  # of the source, for which there was no room
