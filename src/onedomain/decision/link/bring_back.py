"""The return of an old primary: what only it has is added to the new one, and then it is a replica like any other.

Knows what was carried before the promotion, and what has come to the new primary since. Here the *source* is the old
primary and the *target* the new one: writing happens on the target only, as in every plan, and only by adding.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
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
from onedomain.decision.link.folders import INBOX, inbox_now, match, plain_name, restored, target_name
from onedomain.decision.link.uids import Pairs
from onedomain.model.replica import Folder, FolderLink, Identity, LinkState, Listing, Mark, Promotion, Row, Run, Side

AT_ONCE = 25
"""Messages between a question and their appends: safety nets put theirs onto the new primary meanwhile."""


@dataclass(frozen=True, slots=True)
class Brought:
    """`added`: messages of the tail that the new primary did not have; `aside`: moved or expunged too late. `even`: the
    old primary has all that the new one had when it became one, so what it lacks has come since.
    """

    state: LinkState
    added: int
    aside: int
    even: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """A folder that was linked, by the names that it has now. `new`: on the new primary; None: it is there no more.
    `arrived`: what the promotion found to be on its way.
    """

    link: FolderLink
    new: Folder | None
    arrived: tuple[Identity, ...]


def bring_back(state: LinkState, promotion: Promotion, known: Collection[str]) -> Plan[Brought]:
    """`state` is the old link's, as it was at the promotion. `known`: delivery ids that the new primary has had since,
    also those whose messages its user has deleted again. May be repeated after an interruption.
    """
    here: Listing = yield ListFolders(Side.SOURCE)
    there: Listing = yield ListFolders(Side.TARGET)
    folders = tuple(_found(state, promotion, here, there))
    links = {each.link.source_name: each.link for each in folders if not each.link.gone}
    linked = {each.new.name: each for each in folders if each.new is not None and not each.link.gone}
    tails: dict[str, tuple[Row, ...]] = {}
    late: Counter[str] = Counter()
    fresh: dict[str, Counter[str]] = defaultdict(Counter)
    deliveries: Counter[str] = Counter()
    for folder in here.folders:
        link = links.get(folder.name)
        tails[folder.name] = yield from rows_from(Side.SOURCE, folder, link.source.uidnext if link else 1)
    if not any(tails.values()):  # nothing to compare: neither what else is here nor what has come there since is read
        even = _even(state, promotion, folders, here, defaultdict(Counter))
        return Brought(_turned(folders, promotion.epoch, here), 0, 0, even)
    for name in tails:
        link = links.get(name)
        if link is not None and link.target_name in linked and linked[link.target_name].link is link:
            if _as_left(link, here.find(name)):
                continue  # nothing was expunged there
            every: Rows = yield Read(Side.SOURCE, name)
            expunged = yield from _expunged(link, every.rows)
            late.update(it.digest for it in expunged.values())
    for folder in there.folders:
        known_as = linked.get(folder.name)
        rows = yield from rows_from(Side.TARGET, folder, known_as.link.target.uidnext if known_as is not None else 1)
        new = tuple(row.uid for row in rows)
        ids: Identities = (yield ReadIdentities(Side.TARGET, folder.name, new)) if new else {}
        # `arrived` counts also if its message has been deleted since.
        came = Counter(it.digest for it in known_as.arrived) if known_as is not None else Counter()
        fresh[folder.name] = Counter(it.digest for it in ids.values()) | came
        deliveries.update({it.delivery for it in ids.values() if it.delivery})
    deliveries.update(set(known) - deliveries.keys())  # those that are there count as often as they are there
    own: dict[str, Counter[str]] = defaultdict(Counter)
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
                own[name][it.digest] += 1
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
    return Brought(_turned(folders, promotion.epoch, here), added, aside, _even(state, promotion, folders, here, own))


def rows_from(side: Side, folder: Folder, first: int) -> Plan[tuple[Row, ...]]:
    """What is in a folder from UID `first` on. It is not read where it has never had any: each question is a round
    trip, and until all are answered nobody can follow if the new primary dies.
    """
    if 0 < folder.mark.uidnext <= max(first, 1):
        return ()
    read: Rows = yield Read(side, folder.name, first=max(first, 1))
    return read.rows


def _as_left(link: FolderLink, now: Folder | None) -> bool:
    """The source's folder is to the last flag what the last pass saw."""
    return now is not None and bool(now.mark.modseq) and (now.identity, now.mark) == (link.identity, link.source)


def _turned(found: Iterable[_Found], epoch: int, here: Listing) -> LinkState:
    """The link of the new primary to the old one. Where it is known which is which nothing has to be read again;
    elsewhere, and where the old primary renamed folders too late, everything is looked at once. What only the old
    primary has is surplus: all of it has been added, set aside, or deleted by its user since.
    """
    folders = []
    for each in found:
        link, new = each.link, each.new
        old = here.find(link.source_name)
        if link.gone or new is None or (link.source_name == INBOX) != (link.target_name == INBOX):
            continue  # it goes from the old primary, too; or is copied anew, as INBOX can't be renamed everywhere
        identity = new.identity  # without it the folder would pass for another one
        known = (link.identity, link.source.uidvalidity)
        same = old is not None and (old.identity, old.mark.uidvalidity) == known and link.target.uidvalidity > 0
        runs = tuple(Run(run.target, run.source, run.count) for run in link.runs)
        # One that can still be given its own UID by the old primary is better copied again.
        stay = old is not None and all(run.source + run.count <= old.mark.uidnext for run in runs)
        if same and stay and not link.kept and not link.refused:
            source = Mark(link.target.uidvalidity, link.target.uidnext)
            target = Mark(link.source.uidvalidity, link.source.uidnext)
            owed = link.braked or link.doomed or link.surplus
            equal = not owed and link.source.messages == link.target.messages
            left = equal and _as_left(link, old) and 0 < link.target.modseq <= new.mark.modseq
            if left:  # only what has changed at the new primary since then has to be looked at
                source, target = link.target, link.source
            # `shown` is far above the marks: since the promotion there is a gap.
            folders.append(FolderLink(link.target_name, link.source_name, identity, source=source, target=target,
                                      runs=runs, shown=new.mark, renamed=link.renamed, settled=left))
        else:
            # Without identities its UIDVALIDITY says where it has gone, if it is renamed before it is carried.
            source = Mark(new.mark.uidvalidity)
            folders.append(FolderLink(link.target_name, link.source_name, identity, source, renamed=link.renamed))
    return LinkState(epoch, tuple(folders), surplus=True)


def _even(
    state: LinkState, promotion: Promotion, found: Iterable[_Found], here: Listing, tails: Mapping[str, Counter[str]]
) -> bool:
    """Nothing of the old primary's was lost or put back, and the new one had nothing but what came from there, as far
    as was known. What it lacked does not matter. `tails`: digests of what the old one has behind the marks.
    """
    targets = {link.target_name for link in state.folders}
    if promotion.refused or not state.folders or any(shown.target_name not in targets for shown in promotion.folders):
        return False
    for each in found:
        link, old = each.link, here.find(each.link.source_name)
        if link.gone:
            continue
        known = (link.identity, link.source.uidvalidity)
        if old is None or (old.identity, old.mark.uidvalidity) != known or restored(link, old.mark):
            return False
        # What was on its way lies here behind the mark, and no safety net may hold it any more.
        if link.kept or link.braked or Counter(it.digest for it in each.arrived) - tails[link.source_name]:
            return False
    return True


def _found(state: LinkState, promotion: Promotion, here: Listing, there: Listing) -> Iterator[_Found]:
    """The old primary's may have been renamed too late, and what was carried from them under the old names is no tail;
    the new one's clients may have renamed theirs since, and given the old names to others.
    """
    promoted = {shown.name: shown for shown in promotion.folders}
    names: dict[str | int, list[str]] = defaultdict(list)
    for folder in there.folders:
        names[folder.identity].append(folder.name)
        names[folder.mark.uidvalidity].append(folder.name)
    used = {folder.name for folder in here.folders}
    for link, matched in zip(state.folders, match(state, here).links, strict=True):
        shown = None if link.gone else promoted.get(link.source_name)
        name = shown.target_name if shown is not None else link.target_name
        if shown is not None and shown.identity:
            same = names[shown.identity]
        else:
            same = list(names[link.target.uidvalidity])
            if name != INBOX and INBOX in same:
                same.remove(INBOX)
        if name not in same and len(same) == 1:
            name = same[0]
        if link.source_name == INBOX:
            old = inbox_now(link, here)
        elif not matched.gone:
            old = matched.source_name
        else:  # another one may have its name by now
            old = target_name(link.source_name, here, here, used)
            used.add(old)
        new = there.find(name) if name in (*same, INBOX) else None
        yield _Found(replace(link, source_name=old, target_name=name, becoming=""), new, shown.arrived if shown else ())


def _expunged(link: FolderLink, rows: tuple[Row, ...]) -> Plan[Identities]:
    """What was carried, is still on the new primary, and that the old one has no longer: late expunges."""
    pairs = Pairs(link)
    present = {pairs.target(row.uid) for row in rows if row.uid < link.source.uidnext}
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
