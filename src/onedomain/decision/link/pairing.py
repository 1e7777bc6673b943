"""Finding out which messages of a target are which of the source: after a crash, a restore, a wipe, a return.

Knows identities. Does not copy. The first pairing adds only: what has no partner stays. From then on nobody but the
link appends to a replica: what turns up there is an APPEND of ours that was carried out later than anybody thought,
perhaps of a message that has been moved or expunged since.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from onedomain.decision.link.actions import Alert, Identities, Plan, ReadIdentities
from onedomain.decision.link.compare import Difference
from onedomain.decision.link.uids import Pairs, paired
from onedomain.model.replica import FolderLink, Identity, Row, Side


@dataclass(frozen=True, slots=True)
class Paired:
    """`missing` still has to be copied; after that `surplus` (UIDs of the target) can go. `seen`: found there."""

    link: FolderLink
    missing: tuple[Row, ...]
    flags: tuple[tuple[int, frozenset[str]], ...]
    surplus: tuple[int, ...]
    fillers: tuple[int, ...]
    seen: tuple[Identity, ...]


def pair(
    link: FolderLink, source: tuple[Row, ...], found: Difference, target_uidnext: int, *, surplus: bool
) -> Plan[Paired]:
    """Gives every unknown row of the target a partner or a fate. `target_uidnext`: what the target says now."""
    there: Identities = yield ReadIdentities(Side.TARGET, link.target_name, tuple(row.uid for row in found.unknown))
    wanted = tuple(row.uid for row in found.missing) if there else ()
    here: Identities = yield ReadIdentities(Side.SOURCE, link.source_name, wanted, link.source.uidvalidity)
    rows = {row.uid: row for row in found.unknown if row.uid in there}
    missing = {row.uid: row for row in found.missing}
    fillers = tuple(uid for uid in rows if there[uid].filler)
    partners = _matched(here, {uid: there[uid] for uid in rows if not there[uid].filler})
    flags = list(found.flags)
    drop: list[int] = []
    seen: list[Identity] = []
    uidnext = max(target_uidnext, *(uid + 1 for uid in rows), 1)
    for source_uid, target_uid in sorted(partners.items()):
        row = rows.pop(target_uid)
        if source_uid != target_uid and source_uid >= uidnext:
            drop.append(target_uid)  # it can still be given its own UID: copied again, then the other one goes
            continue
        link = paired(link, source_uid, target_uid)
        if row.flags - link.untaken != missing[source_uid].flags - link.untaken:
            flags.append((target_uid, missing[source_uid].flags - link.untaken))
        del missing[source_uid]
        seen.append(there[target_uid])
    strangers = {uid: there[uid] for uid in rows if uid not in fillers}
    surplus = surplus or link.settled
    large = frozenset(uid for uid, it in strangers.items() if it.large)  # nowhere else, and nowhere to put it
    twice = (frozenset(strangers) if surplus else (yield from _twice(link, source, strangers))) - large
    for uid in strangers:
        if uid in twice:
            drop.append(uid)
        else:
            link = replace(link, kept=(*link.kept, uid))
            yield Alert(link.source_name, f"message {uid} is on the replica only; it is kept")
    if twice and link.settled:
        yield Alert(link.source_name, f"{len(twice)} messages came to the replica unasked; they are set aside")
    if uidnext != link.target.uidnext:
        # If the pass dies, it is not as the last one left it, whatever has come and gone till then: lists are compared.
        link = replace(link, target=replace(link.target, uidnext=uidnext, messages=-1))
    link = replace(link, settled=True)
    return Paired(link, tuple(missing.values()), tuple(flags), tuple(sorted(drop)), fillers, tuple(seen))


def _matched(here: Identities, there: Identities) -> dict[int, int]:
    """Source UID -> target UID, as multisets: a second copy needs a second partner. Equal UIDs first."""
    partners = {uid: uid for uid, it in here.items() if uid in there and there[uid].digest == it.digest}
    free: dict[str, list[int]] = defaultdict(list)
    for uid in sorted(there, reverse=True):
        if uid not in partners:
            free[there[uid].digest].append(uid)
    for uid in sorted(here):
        if uid not in partners and free[here[uid].digest]:
            partners[uid] = free[here[uid].digest].pop()
    return partners


def _twice(link: FolderLink, source: tuple[Row, ...], strangers: Identities) -> Plan[frozenset[int]]:
    """Those that say the same as a message which has its partner: an APPEND of ours whose answer was lost, and that
    was carried out later than we looked.
    """
    if not strangers:
        return frozenset()
    pairs = Pairs(link)
    settled = tuple(row.uid for row in source if pairs.target(row.uid))
    known: Identities = yield ReadIdentities(
        Side.SOURCE, link.source_name, settled, link.source.uidvalidity
    )
    digests = {it.digest for it in known.values()}
    return frozenset(uid for uid, it in strangers.items() if it.digest in digests)
