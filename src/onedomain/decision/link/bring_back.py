"""The return of an old primary: what only it has is added to the new one, and then it is a replica like any other.

Knows what was carried before the promotion, and what has come to the new primary since. Here the *source* is the old
primary and the *target* the new one: writing happens on the target only, as in every plan, and only by adding.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from onedomain.decision.link.actions import (
    Append,
    Copied,
    Copy,
    CreateFolder,
    Find,
    Identities,
    ListFolders,
    Outcome,
    Plan,
    Read,
    ReadIdentities,
    Refused,
    Rows,
    SetAside,
)
from onedomain.decision.link.folders import INBOX, inbox_now, match, plain_name, target_name
from onedomain.decision.link.uids import Pairs
from onedomain.model.replica import Folder, FolderLink, Identity, LinkState, Listing, Mark, Promotion, Row, Side

AT_ONCE = 25
"""Messages between a question and their appends: safety nets put theirs onto the new primary meanwhile."""


@dataclass(frozen=True, slots=True)
class Brought:
    """`added`: messages of the tail that the new primary did not have; `aside`: moved or expunged too late."""

    state: LinkState
    added: int
    aside: int


def bring_back(state: LinkState, promotion: Promotion, known: Collection[str]) -> Plan[Brought]:
    """`state` is the old link's, as it was at the promotion. `known`: delivery ids that the new primary has had since,
    also those whose messages its user has deleted again. May be repeated after an interruption.
    """
    here: Listing = yield ListFolders(Side.SOURCE)
    there: Listing = yield ListFolders(Side.TARGET)
    state = replace(state, folders=tuple(_followed(state, here)))
    links = {link.source_name: link for link in _now(state, there) if not link.gone}
    every: dict[str, tuple[Row, ...]] = {}
    tails: dict[str, tuple[Row, ...]] = {}
    late: Counter[str] = Counter()
    fresh: dict[str, Counter[str]] = defaultdict(Counter)
    deliveries: Counter[str] = Counter()
    arrived = {shown.target_name: shown.arrived for shown in promotion.folders}
    for folder in here.folders:
        link = links.get(folder.name)
        read: Rows = yield Read(Side.SOURCE, folder.name)
        every[folder.name] = read.rows
        tails[folder.name] = tuple(row for row in read.rows if link is None or row.uid >= link.source.uidnext)
    if not any(tails.values()):  # nothing to compare: what has come to the new primary since is not read
        return Brought(turned(state, promotion, here, there), 0, 0)
    for name, all_rows in every.items():
        link = links.get(name)
        if link is not None and _is(link, there.find(link.target_name)):
            expunged = yield from _expunged(link, all_rows)
            late.update(it.digest for it in expunged.values())
    for folder in there.folders:
        linked = (link for link in links.values() if link.target_name == folder.name and _is(link, folder))
        first = next((link.target.uidnext for link in linked), 1)
        rows: Rows = yield Read(Side.TARGET, folder.name, first=max(first, 1))
        new = tuple(row.uid for row in rows.rows)
        ids: Identities = (yield ReadIdentities(Side.TARGET, folder.name, new)) if new else {}
        # `arrived` counts also if its message has been deleted since.
        present = Counter(it.digest for it in ids.values()) | Counter(it.digest for it in arrived.get(folder.name, ()))
        fresh[folder.name] = present
        deliveries.update({it.delivery for it in ids.values() if it.delivery})
    deliveries.update(set(known) - deliveries.keys())  # those that are there count as often as they are there
    added = aside = 0
    for name, rows_left in tails.items():
        if not rows_left:
            continue
        link = links.get(name)
        target = link.target_name if link else target_name(name, here, there, ())
        missing = there.find(target) is None and (link is None or link.target_name == target)
        if missing and (yield CreateFolder(target, 0)) is None:
            target = plain_name(name, there, ())
            yield CreateFolder(target, 0, must=True)
        for start in range(0, len(rows_left), AT_ONCE):
            some = rows_left[start : start + AT_ONCE]
            bodies: Identities = yield ReadIdentities(Side.SOURCE, name, tuple(row.uid for row in some))
            unknown = tuple(sorted({it.delivery for it in bodies.values() if it.delivery} - deliveries.keys()))
            if unknown:
                deliveries.update((yield Find(unknown)))
            for row in some:
                it = bodies[row.uid]
                if _taken(it, fresh[target], deliveries):
                    continue
                if late[it.digest]:
                    late[it.digest] -= 1
                    yield SetAside(Side.SOURCE, name, (row.uid,), "moved too late")
                    aside += 1
                    continue
                deliveries.setdefault(it.delivery, 0)  # ours: a second copy of it is not looked for
                answer: tuple[Outcome, ...] = yield Append(name, target, (Copy(row.uid, row.flags, row.date),))
                if isinstance(answer[0], Refused):
                    yield SetAside(Side.SOURCE, name, (row.uid,), answer[0].reason)
                added += isinstance(answer[0], Copied)
    return Brought(turned(state, promotion, here, there), added, aside)


def turned(state: LinkState, promotion: Promotion, here: Listing, there: Listing) -> LinkState:
    """The link of the new primary to the old one. Where UIDs were equal they still pair, so nothing has to be read
    again; elsewhere, and where the old primary renamed folders too late, everything is looked at once. What only the
    old primary has is surplus: all of it has been added, set aside, or deleted by its user since.
    """
    folders = []
    for link in _now(state, there):
        old, new = here.find(link.source_name), there.find(link.target_name)
        if link.gone or not _is(link, new) or (link.source_name == INBOX) != (link.target_name == INBOX):
            continue  # it goes from the old primary, too; or is copied anew, as INBOX can't be renamed everywhere
        identity = new.identity if new is not None else ""  # without it the folder would pass for another one
        known = (link.identity, link.source.uidvalidity)
        same = old is not None and (old.identity, old.mark.uidvalidity) == known
        if same and link.aligned and not link.refused:
            source = Mark(link.target.uidvalidity, link.target.uidnext)
            target = Mark(link.source.uidvalidity, link.source.uidnext)
            shown = new.mark if new is not None else Mark()  # far above the marks: since the promotion there is a gap
            folders.append(FolderLink(link.target_name, link.source_name, identity, source=source, target=target,
                                      shown=shown, renamed=link.renamed))
        else:
            folders.append(FolderLink(link.target_name, link.source_name, identity, renamed=link.renamed))
    return LinkState(promotion.epoch, tuple(folders), surplus=True)


def _followed(state: LinkState, here: Listing) -> Iterator[FolderLink]:
    """The links with the names that their folders have on the old primary: they may have been renamed too late, and
    what was carried from them under the old names is no tail.
    """
    for link, found in zip(state.folders, match(state, here).links, strict=True):
        if link.source_name == INBOX:
            yield replace(link, source_name=inbox_now(link, here))
        else:
            yield link if found.gone else replace(link, source_name=found.source_name)


def _now(state: LinkState, there: Listing) -> Iterator[FolderLink]:
    """The links with the names that their folders have on the new primary now: its clients may have renamed them since,
    and given the old names to others.
    """
    for link in state.folders:
        same = [folder.name for folder in there.folders if folder.mark.uidvalidity == link.target.uidvalidity]
        if link.target_name != INBOX and INBOX in same:
            same.remove(INBOX)
        if link.target_name not in same and len(same) == 1:
            link = replace(link, target_name=same[0])
        yield link


def _is(link: FolderLink, folder: Folder | None) -> bool:
    """Whether the target's folder is the one that the link knows."""
    if folder is None:
        return False
    return folder.name == link.target_name == INBOX or folder.mark.uidvalidity == link.target.uidvalidity


def _expunged(link: FolderLink, rows: tuple[Row, ...]) -> Plan[Identities]:
    """What was carried, is still on the new primary, and that the old one has no longer: late expunges."""
    pairs = Pairs(link)
    present = {pairs.target(row.uid) for row in rows}
    there: Rows = yield Read(Side.TARGET, link.target_name)
    lost = tuple(row.uid for row in there.rows if row.uid < link.target.uidnext and row.uid not in present)
    if not lost:
        return {}
    known: Identities = yield ReadIdentities(Side.TARGET, link.target_name, lost)
    return known


def _taken(it: Identity, present: Counter[str], deliveries: Counter[str]) -> bool:
    """The new primary has it: the same bytes in the same folder, or the same delivery in whatever folder."""
    if present[it.digest]:
        present[it.digest] -= 1
        if deliveries[it.delivery]:
            deliveries[it.delivery] -= 1
        return True
    if it.delivery and deliveries[it.delivery]:
        deliveries[it.delivery] -= 1
        return True
    return False
