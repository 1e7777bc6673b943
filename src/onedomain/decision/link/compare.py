"""What a target lacks, has otherwise, and has too much, out of lists or out of the changes since a mark.

Knows one folder's rows. Does not know what is done about the difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onedomain.decision.link.folders import ANOTHER
from onedomain.decision.link.uids import Pairs
from onedomain.model.replica import FolderLink, Row
from onedomain.model.uids import UidSet


@dataclass(frozen=True, slots=True)
class Difference:
    """`missing`: rows of the source, ascending. `flags`: UIDs of the target and what their flags should be.

    `doomed`: UIDs of the target whose partner is gone. `dropped`: those that an earlier pass meant to drop, and that
    are there still; nobody has deleted them. `unknown`: rows of the target that this link has not confirmed.
    `strange`: pairs (source, target, seconds) whose dates differ by so much: a side may have been restored, and have
    used UIDs again.
    """

    missing: tuple[Row, ...] = ()
    flags: tuple[tuple[int, frozenset[str]], ...] = ()
    doomed: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    unknown: tuple[Row, ...] = ()
    strange: tuple[tuple[int, int, int], ...] = ()


def lists(link: FolderLink, source: Iterable[Row], target: Iterable[Row]) -> Difference:
    """Where a pass has paired what is there, and died before it had copied the rest, messages of the source that have
    their partners lie above `source.uidnext`, among those that have none.
    """
    pairs = Pairs(link)
    another = ANOTHER in link.kept
    unknown = tuple(row for row in target if row.uid >= link.target.uidnext)
    there = {row.uid: row for row in target if row.uid < link.target.uidnext}
    dropped = tuple(uid for uid in link.surplus if there.pop(uid, None) is not None)
    missing: list[Row] = []
    flags: list[tuple[int, frozenset[str]]] = []
    strange: list[tuple[int, int, int]] = []
    for row in source:
        if pairs.refused(row.uid):
            continue
        known = row.uid < link.source.uidnext or not another
        partner = there.pop(pairs.target(row.uid), None) if known else None
        if partner is None:
            missing.append(row)
            continue
        skew = abs(row.date - partner.date)
        if skew > link.skew:
            strange.append((row.uid, partner.uid, skew))
        wanted = row.flags - link.untaken
        if partner.flags - link.untaken != wanted:
            flags.append((partner.uid, wanted))
    doomed = tuple(uid for uid in sorted(there) if uid not in link.kept)
    return Difference(tuple(missing), tuple(flags), doomed, dropped, unknown, tuple(strange))


def changes(link: FolderLink, rows: Iterable[Row]) -> Difference:
    """For a target that is as the last pass left it. Flags are set without looking; nothing is `doomed` yet."""
    pairs = Pairs(link)
    missing: list[Row] = []
    flags: list[tuple[int, frozenset[str]]] = []
    for row in rows:
        if pairs.refused(row.uid):
            continue
        if row.uid >= link.source.uidnext:
            missing.append(row)
        elif partner := pairs.target(row.uid):
            flags.append((partner, row.flags - link.untaken))
    return Difference(tuple(missing), tuple(flags))


def lowest(link: FolderLink, vanished: UidSet) -> int:
    """From where on the target may have partners of what vanished at the source; 0: it has none."""
    known = vanished.within(1, link.source.uidnext - 1)
    if not known:
        return 0
    others = (run.target + max(0, low - run.source) for run in link.runs for low, high in known.ranges
              if low < run.source + run.count and run.source <= high)
    first = min((known.ranges[0][0], *others))
    return first if first < link.target.uidnext else 0


def doomed(link: FolderLink, there: Iterable[int], vanished: UidSet) -> tuple[int, ...]:
    """Of the UIDs that the target has, those whose partners vanished, ascending."""
    pairs = Pairs(link)
    known = vanished.within(1, link.source.uidnext - 1)
    return tuple(sorted(uid for uid in there if uid < link.target.uidnext and pairs.source(uid) in known))
