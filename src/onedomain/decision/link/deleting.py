"""What the source has lost goes from the target, at the end of a pass: as far as it was not moved to where there is no
room, and no brake holds it.

Knows what a pass found and carried. Does not know how it was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from onedomain.decision.link.actions import (
    Alert,
    DeleteFolder,
    Identities,
    ListFolders,
    Plan,
    Read,
    ReadIdentities,
    Rows,
)
from onedomain.decision.link.carry import expunge
from onedomain.decision.link.order import Order, Work
from onedomain.decision.link.uids import Pairs, unpaired
from onedomain.model.replica import Folder, FolderLink, Listing, Powers, Side


def spare(works: Sequence[Work], waiting: Sequence[Folder]) -> Plan[None]:
    """What was moved into a folder that has no room now stays where it was; the next pass hears of it again. So does
    what was to be dropped, as it is there or should be under another UID. All else that is deleted makes room.
    `waiting`: folders of the source that the target does not make now.
    """
    left: Counter[str] = Counter()
    for work in works:
        if work.left:
            name, validity = work.link.source_name, work.link.source.uidvalidity
            wanted: Identities = yield ReadIdentities(Side.SOURCE, name, work.left, validity)
            left.update(it.digest for it in wanted.values())
    if any(work.found.doomed or work.surplus for work in works):
        for folder in waiting:
            there: Rows = yield Read(Side.SOURCE, folder.name)
            uids = tuple(row.uid for row in there.rows)
            known_there: Identities = yield ReadIdentities(Side.SOURCE, folder.name, uids, folder.mark.uidvalidity)
            left.update(it.digest for it in known_there.values())
            if there.before != folder.mark:  # something has come or gone since: nobody can tell what was moved where
                for work in works:
                    work.held = work.held or bool(work.found.doomed or work.surplus)
                    work.found = replace(work.found, doomed=())
                    work.surplus = ()
                return
    for work in works:
        going = (*work.found.doomed, *work.surplus)
        if going:
            known: Identities = yield ReadIdentities(Side.TARGET, work.link.target_name, going)
            moved = {uid for uid, it in known.items() if left[it.digest]}
            work.held = work.held or bool(moved)
            doomed = tuple(uid for uid in work.found.doomed if uid not in moved)
            work.found = replace(work.found, doomed=doomed)
            work.surplus = tuple(uid for uid in work.surplus if uid not in moved)


def delete(
    works: Sequence[Work], gone: list[FolderLink], powers: Powers, order: Order, commanded: Collection[str], *,
    folders: bool,
) -> Plan[bool]:
    """Returns whether any folder is braked. `gone`: links of folders that the source has no longer; those whose folders
    are deleted leave it, but only if `folders` may be. `powers`: the target's.
    """
    braked = False
    arrived = Counter(it.digest for work in works for it in work.arrived)
    for work in works:
        doomed = work.found.doomed
        if not doomed:
            if work.link.source_name in commanded:
                work.link = replace(work.link, braked=False, deleted=0)
            if work.rows is not None and not work.held:  # a pass that was cut off had done what it saved
                work.link = replace(work.link, doomed=())
            continue
        link = yield from _count(work.link, doomed, work.there.messages, arrived, order, commanded)
        if link.braked:
            braked = True
            work.link = replace(link, doomed=())
            continue
        seen = work.rows.after if work.rows is not None else 0
        stay = yield from expunge(link.target_name, doomed, powers, modseq=seen)
        # Our own side has no room for their bodies: the next pass hears of them again, and they are counted then.
        work.held = work.held or bool(stay)
        pairs = Pairs(link)
        link = replace(link, doomed=tuple(sorted(stay)), deleted=max(0, link.deleted - len(stay)))
        work.link = unpaired(link, (pairs.source(uid) for uid in doomed if uid not in stay))
    if not folders:
        return braked  # messages of folders that are gone may have been moved
    names: Listing = (yield ListFolders(Side.TARGET)) if gone else Listing(())
    for number, link in enumerate(gone):
        there: Rows | None = None
        if names.find(link.target_name) is not None:
            there = yield Read(Side.TARGET, link.target_name)
            counted = yield from _count(
                link, tuple(r.uid for r in there.rows), len(there.rows), arrived, order, commanded)
            gone[number] = counted
            if counted.braked:
                braked = True
                continue
            if (yield DeleteFolder(link.target_name)) is False:
                gone[number] = link  # for now: see above
                continue
        gone[number] = replace(link, target_name="")
    gone[:] = [link for link in gone if link.target_name]
    return braked


def _count(
    link: FolderLink, doomed: tuple[int, ...], present: int, arrived: Counter[str], order: Order,
    commanded: Collection[str],
) -> Plan[FolderLink]:
    if link.source_name in commanded:
        # What passes have counted may have been somebody's will, too, and told too late for them.
        return replace(link, braked=False, deleted=0)
    if link.braked:
        return link
    counted = order.brake.applied(link, len(doomed), present, order.now)
    if counted.braked and arrived:
        # They may have been moved: those that turned up in another folder don't count.
        known: Identities = yield ReadIdentities(Side.TARGET, link.target_name, doomed)
        moved = sum((Counter(it.digest for it in known.values()) & arrived).values())
        counted = order.brake.applied(link, len(doomed) - moved, present, order.now)
    if counted.braked:
        yield Alert(link.source_name, f"{len(doomed)} of {present} messages are gone at once: not deleted here")
    return counted
