"""One account's link between passes: what happened since, what its safety nets hold, how the last passes went.

Knows events, tickets and delivery ids. Does not know servers, plans, nor when it is this account's turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from onedomain.decision.link.folders import INBOX
from onedomain.decision.link.growth import Growth
from onedomain.decision.link.release import Released, release
from onedomain.model.account import Account
from onedomain.model.replica import LinkState
from onedomain.replica.sent import Sent
from onedomain.replica.stops import Stop

DELETING = frozenset({"EXPUNGE", "MOVE", "CLOSE", "DELETE", "REPLACE", "UNKNOWN", "RENAME"})
"""Commands after which messages may be gone from a folder because somebody wanted it so."""
MAX_NET = 20_000
"""Delivery ids of one account that are watched; what is above waits in its safety net until these are released."""

MAX_NAMES = 2_000
"""Folders of one account, as clients spelt them, of which it is known that somebody asked for deletions there. Of more,
while its link stands still, the brake may have to be let go of by hand.
"""

ACCEPTED_FOR = 86_400.0
"""Seconds for which a linker that begins goes by what a person has accepted: he saw it as it was then."""

Place = tuple[str, int]
"""An edge and one of its workers."""


class Phase(Enum):
    NEW = "first copy"     # never whole since we know it
    WHOLE = "whole"
    BEHIND = "behind"      # the last pass left something
    STOPPED = "stopped"    # passes fail


@dataclass(frozen=True, slots=True)
class Taken:
    """What a pass that begins now may cover. `folder`: where something happened last, or ""."""

    tickets: Mapping[Place, int]
    commanded: frozenset[str]
    renamed: frozenset[str]
    awaiting: frozenset[str]
    since: float | None
    folder: str = ""


@dataclass(slots=True)
class Linked:
    """`since`: monotonic time of the oldest event that is not covered. `failures` in a row; `trouble`: why, or "".

    `state` None: not read yet. `stopped_since`: wall clock, 0 while passes succeed. `growth`: what was told since the
    last whole pass began, at `whole_from` (wall clock, 0: we saw none); what comes while a pass runs: `growing`.
    `even`: the target had all that the source had, at a moment since which all was told here. `unheld`: workers have
    not been told for long enough that an OK has to wait for this link.
    """

    account: Account
    state: LinkState | None = None
    sent: Sent = field(default_factory=Sent)
    was_whole: bool = False
    large: int = 0            # messages that links don't carry, so that only the source has them
    returned: bool = False    # the target was the primary, and has nearly all
    even: bool = False
    unheld: bool = True
    let_go: bool = True       # nobody waits for it, as workers were told the last time
    copied: bool = False      # all but what left its folder meanwhile, since it was paired the last time
    behind: bool = False
    failures: int = 0
    trouble: str = ""
    stop: Stop = Stop.OTHER   # what kind of trouble
    stopped_since: float = 0.0
    pending: dict[Place, int] = field(default_factory=dict)
    events: int = 0
    growth: Growth = field(default_factory=Growth)
    growing: Growth = field(default_factory=Growth)
    whole_from: float = 0.0
    since: float | None = None
    later: float | None = None  # of events that came during a pass
    commanded: set[str] = field(default_factory=set)
    renamed: set[str] = field(default_factory=set)
    folder: str = ""  # of the last event
    net: dict[str, int] = field(default_factory=dict)  # delivery id -> passes that missed it
    where: dict[str, Place] = field(default_factory=dict)
    # the scheduler's
    queued: str = ""
    running: bool = False
    again: bool = False       # an event came while a pass ran
    not_before: float = 0.0
    told_from: float = 0.0    # something that is told brings it from then on, if that is sooner
    due: float = 0.0
    audit_at: float = 0.0
    last_pass: float = 0.0    # wall clock
    last_whole: float = 0.0
    lag: float | None = None  # seconds, of the last change that was covered
    alerts: list[str] = field(default_factory=list)
    to_go: Callable[[], int] = lambda: 0  # messages that the pass which runs has still to copy, as far as is known

    @property
    def address(self) -> str:
        return self.account.address

    @property
    def source(self) -> str:
        return self.account.home.primary

    @property
    def target(self) -> str:
        return self.account.home.replicas[0]

    @property
    def epoch(self) -> int:
        return self.account.home.epoch

    def phase(self, trouble: str) -> Phase:
        """`trouble`: why its passes can't succeed now, or ""."""
        if trouble:
            return Phase.STOPPED
        if not self.was_whole:
            return Phase.NEW
        return Phase.BEHIND if self.behind else Phase.WHOLE

    @property
    def braked(self) -> tuple[str, ...]:
        return braked(self.state) if self.state else ()

    @property
    def accepted(self) -> bool:
        return self.state is not None and self.accepts(self.state)

    def accepts(self, state: LinkState) -> bool:
        """A person, or the people themselves, want what is braked."""
        names = braked(state)
        return bool(names) and self.commanded.issuperset(names)

    @property
    def refused(self) -> int:
        return sum(len(each.refused) for each in self.state.folders) if self.state else 0

    def noted(self, state: LinkState | None) -> None:
        """What has to be known of it also when it is in memory no more."""
        if state is not None:
            self.large = sum(len(each.large) for each in state.folders)

    @property
    def uncovered(self) -> int:
        """Events and deliveries that are not known to be on the replica."""
        return max(self.events, len(self.net))

    # -- what happens

    def touched(
        self, place: Place, ticket: int, what: str, folder: str, deliveries: Collection[str], now: float
    ) -> None:
        self.pending[place] = max(ticket, self.pending.get(place, 0))
        self.events += 1
        (self.growing if self.running else self.growth).told(what, folder, deliveries)
        if what in DELETING and folder:
            _note(self.commanded, folder)
            if what == "RENAME":
                _note(self.renamed, folder)
        self.hold(place, deliveries)
        self.folder = INBOX if deliveries or folder.upper() == INBOX else folder or self.folder
        if self.since is None and not self.running:
            self.since = now
        elif self.running and self.later is None:
            self.later = now

    def hold(self, place: Place, deliveries: Iterable[str]) -> None:
        for each in deliveries:
            if each in self.net or len(self.net) < MAX_NET:
                self.net.setdefault(each, 0)
                self.where[each] = place

    def lost(self) -> None:
        """A worker is gone, or could not be heard: not all of what it has done was told."""
        (self.growing if self.running else self.growth).lost(waited=not self.unheld)

    @property
    def brought(self) -> int:
        """How often clients were told that something is stored that the target may lack."""
        return sum(each.brought + each.unheard for each in (self.growth, self.growing))

    # -- a pass

    def begin(self) -> Taken:
        self.running, self.again, self.later = True, False, None
        self._grow()
        folder = self.folder if self.pending else ""
        return Taken(dict(self.pending), frozenset(self.commanded), frozenset(self.renamed), frozenset(self.net),
                     self.since, folder)

    def confirmed(self, deliveries: Iterable[str]) -> tuple[str, ...]:
        """Those that were held; they are no more."""
        found = tuple(each for each in deliveries if each in self.net)
        for each in found:
            del self.net[each]
        return found

    def ended(self, taken: Taken, *, whole: bool, owed: frozenset[str] = frozenset()) -> Released:
        """After a pass that was not cut off. The ids that a filter has consumed are let go of. `owed`: commanded, and
        not done.
        """
        released = release(self.net, (), taken.awaiting, whole=whole)
        self.net = dict(released.waiting)
        if whole:
            self.growth, self.growing, self.whole_from = self.growing, Growth(), self.last_pass
            for place, ticket in taken.tickets.items():
                if self.pending.get(place) == ticket:
                    del self.pending[place]
            self.commanded -= taken.commanded - owed
            self.renamed -= taken.renamed
            self.events = len(self.pending) if self.again else 0
            self.since = self.later
        elif self.since is None:
            self.since = self.later
        self.later = None
        return released

    def allowed(self, folders: Iterable[str]) -> dict[str, int]:
        """How many UIDs each folder of the source may have given since: see decision/link/growth.py."""
        self._grow()
        return self.growth.allowed(folders, len(self.net)) if len(self.net) < MAX_NET else {}

    def _grow(self) -> None:
        self.growth.add(self.growing)
        self.growing = Growth()

    def placed(self, deliveries: Iterable[str]) -> dict[Place | None, list[str]]:
        """By the worker whose net holds them; None: not known."""
        found: dict[Place | None, list[str]] = {}
        for each in deliveries:
            found.setdefault(self.where.pop(each, None), []).append(each)
        return found


def braked(state: LinkState) -> tuple[str, ...]:
    return tuple(each.source_name for each in state.folders if each.braked)


def _note(names: set[str], folder: str) -> None:
    if len(names) < MAX_NAMES:
        names.add(folder)
