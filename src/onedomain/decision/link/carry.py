"""Carrying messages, flags and expunges of one folder to the target.

Knows numbering, refusals and the order of things. Does not know what has to be carried, nor other folders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from onedomain.decision.link.actions import (
    Alert,
    Append,
    Burn,
    Copied,
    Copy,
    Expunge,
    ExpungeDeleted,
    Identities,
    Lend,
    NotNow,
    Outcome,
    Plan,
    Raise,
    RaiseUidNext,
    Read,
    ReadIdentities,
    Refused,
    Rows,
    SetAside,
    SetFlags,
)
from onedomain.decision.link.lending import mark
from onedomain.decision.link.uids import paired
from onedomain.model.replica import FolderLink, Identity, Numbering, Powers, Row, Side

BATCH = 50
COPIES = 1000
"""Messages that are copied before it is saved that they are: what a pass that dies has copied is compared again."""
BURN_LIMIT = 1000
"""A wider gap is not burned: the folder then has runs, and another UIDVALIDITY after a promotion."""


@dataclass(frozen=True, slots=True)
class Carried:
    """`identities` of what was copied. `disturbed`: a UID came that was not expected: the target has to be read again
    before anything more is copied. `missed`: something was gone; its user may have moved it: it is nowhere yet.
    `full`: why there is no room now for those that are `left`, or "". Without, what is left is to be copied when the
    rest is saved.
    """

    link: FolderLink
    identities: tuple[Identity, ...] = ()
    disturbed: bool = False
    missed: bool = False
    full: str = ""
    left: tuple[int, ...] = ()


def copy(link: FolderLink, batch: Sequence[Row], powers: Powers) -> Plan[Carried]:
    """Rows with ascending UIDs; the target's UIDNEXT must be the one that `link` knows."""
    identities: list[Identity] = []
    left = list(batch)
    missed = False
    while left:
        stretch = _stretch(left, powers)
        start = stretch[0].uid
        if start > link.target.uidnext and powers.numbering is not Numbering.GIVEN:
            link, ready, full = yield from _advance(link, start, powers)
            if full:
                return Carried(link, tuple(identities), missed=missed, full=full, left=tuple(row.uid for row in left))
            if not ready:
                return Carried(link, tuple(identities), disturbed=True, missed=missed)
        seats = _seats(stretch, link.target.uidnext, powers)
        copies = tuple(
            Copy(row.uid, row.flags - link.untaken, row.date, seat if seat == row.uid else 0)
            for row, seat in zip(stretch, seats, strict=True)
        )
        answer: tuple[Outcome, ...] = yield Append(
            link.source_name, link.target_name, copies, link.source.uidvalidity
        )
        if any(isinstance(outcome, Copied) and not outcome.uid for outcome in answer):
            answer = yield from _named(link, answer)
        reached, following = link.source.uidnext, link.target.uidnext
        for done, (row, seat, outcome) in enumerate(zip(stretch, seats, answer, strict=False)):
            if isinstance(outcome, Refused) and outcome.for_now:
                rest = tuple(row.uid for row in left[done:])
                link = _moved_on(link, reached, following)
                return Carried(link, tuple(identities), missed=missed, full=outcome.reason, left=rest)
            if isinstance(outcome, Refused) and outcome.identity.large:
                yield Alert(link.source_name, f"message {row.uid} is not on the replica: {outcome.reason}")
                link = replace(link, refused=(*link.refused, row.uid), large=(*link.large, row.uid))
            elif isinstance(outcome, Refused):
                aside: tuple[int, ...] = yield SetAside(Side.SOURCE, link.source_name, (row.uid,), outcome.reason)
                yield Alert(link.source_name, f"message {row.uid} is refused by the replica: {outcome.reason}")
                link = replace(link, refused=(*link.refused, row.uid))
                missed = missed or not aside
                if outcome.identity.delivery and aside:  # else it was moved, perhaps, and is nowhere yet
                    identities.append(outcome.identity)
            elif isinstance(outcome, Copied):
                if outcome.uid != seat:
                    link = _moved_on(link, reached, following)
                    return Carried(link, tuple(identities), disturbed=True, missed=missed)
                link = paired(link, row.uid, outcome.uid)
                following = outcome.uid + 1
                identities.append(outcome.identity)
            else:
                missed = True
            reached = max(reached, row.uid + 1)
        link = _moved_on(link, reached, following)
        left = left[len(answer) :]
        if len(answer) < len(stretch) and isinstance(answer[-1], Copied):
            return Carried(link, tuple(identities), missed=missed, left=tuple(row.uid for row in left))
    return Carried(link, tuple(identities), missed=missed)


def _moved_on(link: FolderLink, reached: int, following: int) -> FolderLink:
    """Up to where the source is dealt with, and the next UID of the target."""
    return replace(
        link, source=replace(link.source, uidnext=reached), target=replace(link.target, uidnext=following)
    )


def set_flags(link: FolderLink, wanted: Iterable[tuple[int, frozenset[str]]], modseq: int = 0) -> Plan[FolderLink]:
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for uid, flags in wanted:
        groups[flags].append(uid)
    for flags, uids in groups.items():
        for start in range(0, len(uids), BATCH):
            some = tuple(uids[start : start + BATCH])
            untaken: frozenset[str] = yield SetFlags(link.target_name, some, flags, modseq)
            if untaken - link.untaken:
                yield Alert(link.source_name, f"keywords not kept by the replica: {' '.join(sorted(untaken))}")
                link = replace(link, untaken=link.untaken | untaken)
    return link


def expunge(
    folder: str, uids: Iterable[int], powers: Powers, *, keep_bodies: bool = True, modseq: int = 0
) -> Plan[frozenset[int]]:
    """-> those that stay for now, as there is no room on our side for their bodies."""
    doomed = tuple(sorted(uids))
    if not doomed:
        return frozenset()
    if powers.names_uids:
        for start in range(0, len(doomed), BATCH):
            if (yield Expunge(folder, doomed[start : start + BATCH], keep_bodies, modseq)):
                return frozenset(doomed[start:])  # the next one is not asked about: it would be read in vain
        return frozenset()
    # Plain EXPUNGE takes everything that is \Deleted: what users marked and did not expunge loses the mark meanwhile.
    stay: tuple[int, ...] = ()
    if keep_bodies:
        doomed, stay = yield from _set_aside(folder, doomed)
        if not doomed:
            return frozenset(stay)
    present: Rows = yield Read(Side.TARGET, folder)
    going = frozenset(doomed)
    others = [row for row in present.rows if "\\Deleted" in row.flags and row.uid not in going]
    ours = [row for row in present.rows if "\\Deleted" not in row.flags and row.uid in going]
    if others or ours:
        yield Lend(folder, tuple(row.uid for row in others), tuple(row.uid for row in ours))
    yield from mark(folder, others, deleted=False)
    yield from mark(folder, ours, deleted=True)
    yield ExpungeDeleted(folder)
    yield from mark(folder, others, deleted=True)
    if others or ours:
        yield Lend(folder)
    return frozenset(stay)


def _set_aside(folder: str, doomed: tuple[int, ...]) -> Plan[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Those that may go now, and those for which there is no room. One that is larger than our own store takes is
    neither: it stays, as everywhere.
    """
    done: list[int] = []
    for start in range(0, len(doomed), BATCH):
        kept: tuple[int, ...] | NotNow = yield SetAside(
            Side.TARGET, folder, doomed[start : start + BATCH], "deleted", may_wait=True)
        if isinstance(kept, NotNow):
            return tuple(done), doomed[start:]
        done += kept
    return tuple(done), ()


@dataclass(frozen=True, slots=True)
class Burned:
    """`uidnext` after it; 0: UIDs came that were not expected. `refused`: why there are not as many as wanted."""

    uidnext: int
    refused: Refused | None = None


def burn(folder: str, first: int, count: int, powers: Powers) -> Plan[Burned]:
    """Makes and expunges fillers from UID `first` on."""
    answer: tuple[Outcome, ...] = yield Burn(folder, first, count)
    made = [outcome.uid for outcome in answer if isinstance(outcome, Copied)]
    if not all(made):
        there: Rows = yield Read(Side.TARGET, folder, first=first)
        known: Identities = yield ReadIdentities(Side.TARGET, folder, tuple(row.uid for row in there.rows))
        made = sorted(uid for uid, identity in known.items() if identity.filler)
    yield from expunge(folder, made, powers, keep_bodies=False)
    refused = next((outcome for outcome in answer if isinstance(outcome, Refused)), None)
    reached = first + len(made)
    expected = made == list(range(first, reached)) and (refused is not None or len(made) == count)
    return Burned(reached if expected else 0, refused)


def _advance(link: FolderLink, uid: int, powers: Powers) -> Plan[tuple[FolderLink, bool, str]]:
    """Whether the target is where it should be; why there is no room for it, or ""."""
    following = uid
    if powers.numbering is Numbering.RAISED:
        yield RaiseUidNext((Raise(link.target_name, uid),))
    elif uid - link.target.uidnext > BURN_LIMIT:
        return link, True, ""
    else:
        burned = yield from burn(link.target_name, link.target.uidnext, uid - link.target.uidnext, powers)
        if burned.refused is not None and burned.refused.for_now:
            return link, False, burned.refused.reason
        if not burned.uidnext:
            return link, False, ""
        following = burned.uidnext  # where fillers are refused for good: as with a gap that is too wide
    return replace(link, target=replace(link.target, uidnext=following)), True, ""


def _seats(rows: Sequence[Row], following: int, powers: Powers) -> tuple[int, ...]:
    """The UIDs that these will get. Below UIDNEXT nothing can be placed, nor beyond a gap too wide to burn."""
    seats = []
    for row in rows:
        seat = row.uid if row.uid > following and powers.numbering is Numbering.GIVEN else following
        seats.append(seat)
        following = seat + 1
    return tuple(seats)


def _stretch(rows: Sequence[Row], powers: Powers) -> Sequence[Row]:
    """The rows that one Append can place: all where UIDs are given, else those before the first gap."""
    if powers.numbering is Numbering.GIVEN:
        return rows
    end = next((i for i in range(1, len(rows)) if rows[i].uid != rows[i - 1].uid + 1), len(rows))
    return rows[:end]


def _named(link: FolderLink, answer: tuple[Outcome, ...]) -> Plan[tuple[Outcome, ...]]:
    """The answer with UIDs, found by looking at what is new. Nobody else appends to a replica."""
    there: Rows = yield Read(Side.TARGET, link.target_name, first=max(link.target.uidnext, 1))
    known: Identities = yield ReadIdentities(Side.TARGET, link.target_name, tuple(row.uid for row in there.rows))
    unclaimed = dict(sorted(known.items()))
    named: list[Outcome] = []
    for outcome in answer:
        if isinstance(outcome, Copied):
            uid = next((uid for uid, it in unclaimed.items() if it.digest == outcome.identity.digest), 0)
            unclaimed.pop(uid, None)
            named.append(replace(outcome, uid=uid))
        else:
            named.append(outcome)
    return tuple(named)
