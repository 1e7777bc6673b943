"""Making the replica the primary: what has to be done to one account's folders before anybody may write there.

Knows the last saved state of the link. Does not know whether the old primary is really gone (succession.py). The link's
own connections are closed and timed out first: an APPEND of ours must not arrive afterwards. May be repeated: what it
does depends on the saved state, and on the target only in ways that repeating doesn't change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from onedomain.decision.link.actions import (
    DeleteFolder,
    Identities,
    ListFolders,
    Plan,
    Raise,
    RaiseUidNext,
    Read,
    ReadIdentities,
    Rows,
)
from onedomain.decision.link.carry import BURN_LIMIT, burn, expunge
from onedomain.decision.link.folders import INBOX, found_again, wiped
from onedomain.decision.link.lending import give_back, lent
from onedomain.decision.link.marks import modseqs_go_on
from onedomain.decision.link.validities import settled
from onedomain.model.replica import (
    FolderLink,
    Identity,
    LinkState,
    Listing,
    Mark,
    Numbering,
    Powers,
    Promotion,
    Row,
    Shown,
    Side,
)
from onedomain.model.validities import Validities

GAP = 100_000
"""UIDs that an old primary may have shown above the last one that was carried."""

MODSEQ_GAP = 1_000_000
"""MODSEQs, likewise: every change takes one, and there are 2^63."""


def promote(
    state: LinkState,
    powers: Powers,
    allowed: Mapping[str, int] | None = None,
    before: Validities | None = None,
    was: LinkState | None = None,
    now: int = 0,
    sent: Mapping[str, Mapping[int, str]] = MappingProxyType({}),
) -> Plan[Promotion]:
    """`allowed`: how many UIDs of each source folder the commands since the last pass can have used at most. Where UIDs
    can only be burned, a folder that isn't in it takes another UIDVALIDITY; elsewhere the gap is wide enough, and 0
    means that none is needed. `before`: as what the source's UIDVALIDITYs were shown. `was`: the link's state when the
    target was the primary before, as its source. `sent`: by target folder and UID, the digests of what passes have sent
    and not saved, as far as that is known. `now` in seconds since 1970.
    """
    there: Listing = yield ListFolders(Side.TARGET)
    state = replace(state, folders=found_again(state.folders, there))
    plan = _promote(state, there, powers, allowed or {}, before or Validities(), was, now, sent)
    return (yield from lent(state, plan))


def _promote(
    state: LinkState, there: Listing, powers: Powers, allowed: Mapping[str, int], before: Validities,
    was: LinkState | None, now: int, sent: Mapping[str, Mapping[int, str]],
) -> Plan[Promotion]:
    marks = {folder.name: folder.mark for folder in there.folders}
    identities = {folder.name: folder.identity for folder in there.folders}
    links = [
        link for link in state.folders
        if link.target_name in marks or (_is_carried(link) and not link.gone)
    ]
    seen = [before.shown(link.source.uidvalidity) for link in state.folders if link.source.uidvalidity]
    # A folder that was being copied for the first time: nobody knows what clients were shown under its value.
    seen += [marks[link.target_name].uidvalidity for link in links if not _is_carried(link)]
    highest = max([before.floor, *before.pairs.values(), *seen])
    if reason := _unfit(links, marks):
        # Whoever wanted it all the same shows what is there, and no UID as one that was another message's.
        strange = [_renumbered(folder.name, folder.mark) for folder in there.folders]
        return Promotion(state.epoch, settled(strange, highest, now), reason, highest)
    arrived: dict[str, dict[int, Identity]] = {}
    rows: dict[str, tuple[Row, ...]] = {}
    links = yield from _given_back(links)
    for link in links:
        nothing_came = marks[link.target_name].uidnext == link.target.uidnext != 0
        if nothing_came and not (link.gone or link.surplus):
            # Its list is not asked for: with 2,000 accounts of 20 folders that is most of what there is to do.
            arrived[link.target_name], rows[link.target_name] = {}, ()
            continue
        read: Rows = yield Read(Side.TARGET, link.target_name)
        rows[link.target_name] = read.rows
        new = tuple(row.uid for row in read.rows if row.uid >= link.target.uidnext)
        known: Identities = (yield ReadIdentities(Side.TARGET, link.target_name, new)) if new else {}
        arrived[link.target_name] = dict(known)
    links = [replace(link, doomed=_all(link, rows[link.target_name])) if link.gone else link for link in links]
    yield from _finish_moves(links, arrived, powers)
    misplaced: set[str] = set()  # folders in which a message lies under a UID that clients may know as another's
    for link in links:
        if link.surplus:
            moved: set[str] = set()
            for other in links:
                if other is not link:
                    carried = yield from _recent(other, arrived[other.target_name])
                    moved.update(it.digest for it in carried)
            if (yield from _drop_twins(link, rows[link.target_name], moved, powers)):
                misplaced.add(link.target_name)
    there_still = []
    for link in links:
        if link.gone:
            left: Rows = yield Read(Side.TARGET, link.target_name)
            if not left.rows:
                yield DeleteFolder(link.target_name)
                continue
        fillers = [uid for uid, it in arrived[link.target_name].items() if it.filler]
        yield from expunge(link.target_name, fillers, powers, keep_bodies=False)
        there_still.append(link)
    linked = {link.target_name for link in links}
    others = {name: mark for name, mark in marks.items() if name not in linked}
    raised = yield from _gaps(there_still, marks, powers, allowed, others)
    shown = []
    for link in there_still:
        came = {uid: it for uid, it in arrived[link.target_name].items() if not it.filler}
        # Where a message came and was not saved, only who sent it knows whether its UID is the one that was wanted.
        ours = sent.get(link.target_name, {})
        known_as = all(ours.get(uid) == it.digest for uid, it in came.items())
        known_as = known_as and link.target_name not in misplaced
        aligned = link.aligned and _is_carried(link) and raised[link.target_name] > 0 and known_as
        shown.append(
            Shown(
                link.target_name if link.gone else link.source_name,
                link.target_name,
                before.shown(link.source.uidvalidity),
                tuple(came.values()),
                renumbered=not aligned,
                special_use=link.special_use,
                at_server=marks[link.target_name].uidvalidity,
                identity=identities[link.target_name],
            )
        )
    shown += [_renumbered(name, mark) for name, mark in others.items()]
    again = was is not None and modseqs_go_on(was, there)
    return Promotion(state.epoch + 1, settled(shown, highest, now), highest=highest, modseqs_again=again)


def _given_back(links: Sequence[FolderLink]) -> Plan[list[FolderLink]]:
    whole = []
    for link in links:
        whole.append((yield from give_back(link)))
    return whole


def _unfit(links: Sequence[FolderLink], marks: Mapping[str, Mark]) -> str:
    if not links:
        return "nothing has been copied yet"
    if not any(link.target_name == INBOX and _is_carried(link) for link in links):
        return f"{INBOX} has never been carried whole"
    for link in links:
        if not link.gone and (reason := wiped(link, marks.get(link.target_name))):
            return reason
    return ""


def _is_carried(link: FolderLink) -> bool:
    """Whether a pass has ever come to the end of it, or of its first messages."""
    return bool(link.source.uidnext and link.target.uidvalidity)


def _renumbered(name: str, mark: Mark) -> Shown:
    """A folder of which nothing is known."""
    return Shown(name, name, 0, renumbered=True, at_server=mark.uidvalidity)


def _all(link: FolderLink, rows: tuple[Row, ...]) -> tuple[int, ...]:
    return tuple(row.uid for row in rows if row.uid < link.target.uidnext)


def _finish_moves(
    links: list[FolderLink], arrived: Mapping[str, Mapping[int, Identity]], powers: Powers
) -> Plan[None]:
    """A message that was carried to its new folder and not yet deleted from its old one is not there twice."""
    pending = [link for link in links if link.doomed and not link.braked]
    if not pending:
        return
    elsewhere: Counter[str] = Counter()
    for link in links:
        carried = yield from _recent(link, arrived[link.target_name])
        elsewhere.update(it.digest for it in carried)
    for link in pending:
        known: Identities = yield ReadIdentities(Side.TARGET, link.target_name, link.doomed)
        done = []
        for uid, it in known.items():
            if elsewhere[it.digest]:
                elsewhere[it.digest] -= 1
                done.append(uid)
        yield from expunge(link.target_name, done, powers)


def _drop_twins(link: FolderLink, rows: tuple[Row, ...], moved: set[str], powers: Powers) -> Plan[frozenset[int]]:
    """What a pass found to be there twice, or to have come late, and did not come to delete. `moved`: digests of what
    the same pass had carried to other folders. Returns those that stay, as they are nowhere else.
    """
    known: Identities = yield ReadIdentities(Side.TARGET, link.target_name, tuple(row.uid for row in rows))
    others = {it.digest for uid, it in known.items() if uid not in link.surplus}
    there = {uid: known[uid] for uid in link.surplus if uid in known}
    # A large one can't be set aside, so it would stay, too.
    twins = frozenset(uid for uid, it in there.items() if it.digest in others | moved and not it.large)
    stay = yield from expunge(link.target_name, twins, powers)
    return (frozenset(there) - twins) | stay


def _recent(link: FolderLink, arrived: Mapping[int, Identity]) -> Plan[tuple[Identity, ...]]:
    """What the pass that was interrupted had carried."""
    rows: Rows = yield Read(Side.TARGET, link.target_name, first=max(link.resumed, 1))
    uids = tuple(row.uid for row in rows.rows)
    known: Identities = (yield ReadIdentities(Side.TARGET, link.target_name, uids)) if uids else {}
    return tuple({**known, **arrived}.values())


def _gaps(
    links: Sequence[FolderLink], marks: Mapping[str, Mark], powers: Powers, allowed: Mapping[str, int],
    strange: Mapping[str, Mark],
) -> Plan[dict[str, int]]:
    """UIDNEXT after it by target folder; 0: there is no gap, so UIDs may come again. `strange`: folders without a link;
    one may have been made by a pass that did not come to save it, with the UIDVALIDITY that clients know.
    """
    found: dict[str, int] = {}
    if powers.numbering is not Numbering.BURNED:
        calm = bool(allowed) and not any(allowed.values())  # the old primary answers: nothing else was shown
        gaps = {link.source_name: 0 if allowed.get(link.source_name) == 0 else GAP for link in links}
        raises = (
            *(_raise(link, marks[link.target_name], gaps[link.source_name]) for link in links),
            *(Raise(name, mark.uidnext + GAP) for name, mark in strange.items() if not calm),
        )
        if raises:
            yield RaiseUidNext(raises)
        return {each.folder: each.uidnext for each in raises}
    for link in links:
        found[link.target_name] = yield from _burnt(link, marks[link.target_name], powers, allowed)
    return found


def _raise(link: FolderLink, mark: Mark, gap: int) -> Raise:
    # Also where no pass came to say what was shown: the old primary may have shown more than is known here.
    shown = max(link.source.modseq, link.shown.modseq, link.last.after, mark.modseq)
    modseq = shown + MODSEQ_GAP if shown else 0
    base = _base(link) if _is_carried(link) else mark.uidnext
    return Raise(link.target_name, base + gap, modseq, link.last.before)


def _burnt(link: FolderLink, mark: Mark, powers: Powers, allowed: Mapping[str, int]) -> Plan[int]:
    if link.source_name not in allowed:
        return 0
    goal = _base(link) + allowed[link.source_name]
    if goal - mark.uidnext > BURN_LIMIT:
        return 0
    if goal > mark.uidnext:
        burned = yield from burn(link.target_name, mark.uidnext, goal - mark.uidnext, powers)
        if burned.refused is not None or burned.uidnext != goal:
            return 0  # a replica that is full can follow all the same
    return max(goal, mark.uidnext)


def _base(link: FolderLink) -> int:
    return max(link.source.uidnext, link.target.uidnext, link.shown.uidnext)
