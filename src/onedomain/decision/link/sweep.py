"""One pass of a link: everything that the source has and the target lacks, account-wide.

Knows the order in which things become safe. Does not know when the next pass is due.

1. Both sides are listed. A side that was put back to an earlier time stops the link; it is paired again, adding only.
2. Folders are renamed and created on the target.
3. Changed folders of the source are read until a listing shows that nothing moved since: the reads are then one
   snapshot, in which a message that is being moved is in one folder and not in two or none.
4. What is going to be deleted is saved, then messages and flags are carried, then deletions, then the marks.

If the account doesn't hold still, only new deliveries and flags are carried; all else waits for the next pass.
"""

from __future__ import annotations

from dataclasses import replace

from onedomain.decision.link.actions import (
    Alert,
    Confirm,
    Identities,
    ListFolders,
    Look,
    Looked,
    Plan,
    Read,
    ReadIdentities,
    Rows,
    Save,
    Whole,
)
from onedomain.decision.link.calm import calm, only_grown
from onedomain.decision.link.carry import COPIES, copy, expunge, set_flags
from onedomain.decision.link.compare import Difference, changes, doomed, lists, lowest
from onedomain.decision.link.deleting import delete, spare
from onedomain.decision.link.folders import found_again, match, meant, spelt_of
from onedomain.decision.link.lending import give_back, lent
from onedomain.decision.link.order import Order, Report, Work
from onedomain.decision.link.pairing import Paired, pair
from onedomain.decision.link.put_back import forgotten, inbox_left, put_back, shape_of, shown_until
from onedomain.decision.link.shapes import Both, Shaped, shape
from onedomain.decision.link.uids import still_refused
from onedomain.model.replica import FolderLink, LinkState, Listing, Mark, Pass, Powers, Side
from onedomain.model.uids import NO_UIDS

ROUNDS = 5
SKEW = 86_400
"""Seconds by which a clock may be wrong. A date that differs by more is its sender's idea, and looked at each time."""


def sweep(state: LinkState, source: Powers, target: Powers, order: Order) -> Plan[Report]:
    guess = _guessed(state, source, order)
    looked: Looked = yield (
        Look(Read(Side.SOURCE, guess.source_name, guess.source.modseq), guess.source.uidnext) if guess else Look())
    here, there = looked.here, looked.there
    if source.changes and not order.audit and not order.commanded and calm(state, here, there):
        yield Whole()
        return Report(whole=True)
    matched = match(state, here, inbox_left=inbox_left(state, here, order))
    matched = replace(matched, links=found_again(matched.links, there))
    stopped = yield from put_back(state, matched, here, there, order)
    if stopped is not None:
        return Report(whole=False, stopped=stopped)
    owed = any((link.doomed or link.gone) and not link.braked for link in state.folders)
    shaped = yield from shape(state, matched, here, there, order.shown)
    work = _Sweep(shaped, source, target, order)
    if guess and looked.rows:
        work.take(guess, looked.rows)
    return (yield from lent(shaped.state, work.run(here, owed=owed)))


def _guessed(state: LinkState, source: Powers, order: Order) -> FolderLink | None:
    if order.audit or not source.changes:
        return None
    return next((link for link in state.folders
                 if link.source_name == order.guess and link.source.modseq and not link.gone), None)


def _begun(both: Both) -> Work:
    link = both.link
    if not link.target.uidvalidity:
        now = both.here.mark
        source, target = Mark(now.uidvalidity, 1), Mark(both.there.uidvalidity, 1)
        link = replace(link, source=source, target=target, shown=shown_until(link, now))
    return Work(link, link, both.here, both.there)


class _Sweep:
    def __init__(self, shaped: Shaped, source: Powers, target: Powers, order: Order) -> None:
        self._state = shaped.state
        self._source = source
        self._target = target
        self._order = order
        self._work = [_begun(both) for both in shaped.both]
        self._gone = list(shaped.gone)
        self._waiting = shaped.waiting
        self._confirmed: set[str] = set()
        self._missed = False  # something that was read could not be copied any more
        self._full = shaped.refusal
        self._late = shaped.late
        self._awaiting = set(order.awaiting)
        self._separator = ""

    def take(self, known: FolderLink, rows: Rows) -> None:
        """What was read before anything was listed. Where it is the same folder still, and has changed, it need not be
        read again.
        """
        for work in self._work:
            link = work.link
            same = (link.source_name, link.identity, link.source) == (known.source_name, known.identity, known.source)
            if same and self._incremental(work) and rows.before != link.source:
                work.rows = rows

    def run(self, here: Listing, *, owed: bool) -> Plan[Report]:
        """`owed`: an earlier pass has left something to delete."""
        self._separator = here.separator
        for work in self._work:
            work.begun = work.link = yield from give_back(work.link)
        settled = {work.link.source_name for work in self._work if work.link.settled}
        stable = yield from self._snapshot(here)
        for work in self._work:
            if work.rows is not None:
                yield from self._differ(work)
        if any(work.disturbed for work in self._work):  # one side was restored and has used UIDs again
            again = tuple(forgotten(link) for link in self._state.folders)
            yield Save(replace(self._state, folders=again, whole=False))
            return Report(whole=False, stopped="equal UIDs, different messages")
        if not stable:
            for work in self._work:
                if work.rows is not None:
                    yield from self._hold_back(work)
        doomed = any(work.found.doomed for work in self._work) or any(not link.braked for link in self._gone)
        if doomed:
            for work in self._work:
                # What an earlier pass copied, and died before it deleted, still counts.
                resumed = work.link.resumed if owed else work.begun.target.uidnext
                pending = work.found.doomed if work.rows is not None else work.link.doomed
                work.link = replace(work.link, doomed=pending, resumed=resumed)
        surplus = any(work.surplus for work in self._work)
        if doomed or surplus or {work.link.source_name for work in self._work if work.link.settled} - settled:
            yield from self._save()
        for work in self._work:
            if work.rows is not None:
                yield from self._carry(work)
        braked = False
        if self._full:
            yield from spare(self._work, [both.here for both in self._waiting])
        for work in self._work:
            if work.surplus and not work.disturbed:
                yield from self._drop(work)
        if stable:
            # Not sooner: deletions are seen on the server before their answers have been told.
            commanded = meant(self._order.commanded, self._state.folders, self._separator)
            braked = yield from delete(
                self._work, self._gone, self._target, self._order, commanded, folders=not self._full)
        disturbed = any(work.disturbed for work in self._work)
        # What is braked is too much on the target, not too little.
        whole = stable and not (disturbed or self._missed or self._full or (braked and not self._order.audit))
        self._state = replace(self._state, whole=self._state.whole or whole)
        if whole:
            yield Whole()
        yield from self._finish(stable)
        missed = self._missed and stable and not disturbed
        return Report(whole, frozenset(self._confirmed), full=self._full, missed=missed, owed=self._owed())

    def _owed(self) -> frozenset[str]:
        """It is known only now that somebody wants it, and a later pass is to know that, too."""
        links = (*(work.link for work in self._work if work.found.doomed and work.link.doomed), *self._gone)
        names = [link.source_name for link in links if not link.braked]
        return spelt_of(names, self._order.commanded, self._separator) if names else frozenset()

    def _snapshot(self, listed: Listing) -> Plan[bool]:
        """What was read before a listing, and is in it as it was read, is one moment with all that it shows unchanged.
        So is what was read between two listings from one to the other of which no message has left any folder.

        Folders that have come, gone or changed names since they were matched are for the next pass: this one would
        take a folder for another that had its name, or a message that was moved into a new one for a deleted one.
        """
        matched = shape_of(listed)
        earlier: Listing | None = None
        read: set[str] = set()  # since the earlier one
        for rounds in range(ROUNDS + 1):
            changed = []
            for work in self._work:
                folder = listed.find(work.link.source_name)
                if folder is None:
                    return False
                if work.rows is None and not self._changed(work, folder.mark):
                    continue
                if work.rows is None or work.rows.before != folder.mark:
                    changed.append(work)
            # A list is not made in one moment: what a folder lost before it went may be in one that was listed earlier.
            if not changed and (rounds or not self._gone):
                return True
            names = {work.link.source_name for work in changed}
            # One that was not read meanwhile may have got, before the earlier list was through, what another lost.
            sure = self._source.changes and names <= read and (rounds > 1 or not self._gone)
            if earlier is not None and sure and only_grown(earlier, listed):
                return True
            if rounds == ROUNDS:
                return False
            for work in changed:
                rows = yield from self._read(work)
                if rows.before.uidvalidity != work.here.mark.uidvalidity:
                    return False
                work.rows = rows
            earlier, read = listed, names
            listed = yield ListFolders(Side.SOURCE)
            if shape_of(listed) != matched:
                return False
        return False

    def _read(self, work: Work) -> Plan[Rows]:
        """At first all that a pass has to look at; of a list, after that, what has changed since: where mail flows, a
        large folder would have changed again each time that it is listed anew.
        """
        name, known = work.link.source_name, work.rows
        if known is None:
            work.compared = not self._incremental(work)
        listed = known.before.modseq if known is not None and self._source.changes else 0
        since = listed if work.compared else work.link.source.modseq
        rows: Rows = yield Read(Side.SOURCE, name, since)
        if known is None or not work.compared or not since:
            return rows
        if rows.before.uidnext < known.before.uidnext or rows.before.modseq < since:  # restored just now
            again: Rows = yield Read(Side.SOURCE, name)
            return again
        there = {row.uid: row for row in (*known.rows, *rows.rows) if row.uid not in rows.vanished}
        return replace(rows, rows=tuple(there[uid] for uid in sorted(there)), vanished=NO_UIDS)

    def _changed(self, work: Work, now: Mark) -> bool:
        if self._order.audit or not self._source.changes or not work.link.source.modseq:
            return True
        return now != work.link.source or self._touched(work)

    def _touched(self, work: Work) -> bool:
        """The target is not as the last pass left it."""
        return work.there != work.link.target

    def _incremental(self, work: Work) -> bool:
        known = self._source.changes and bool(work.link.source.modseq)
        return known and not self._touched(work) and not self._order.audit

    def _differ(self, work: Work) -> Plan[None]:
        rows = work.rows
        assert rows is not None
        if not work.compared:
            work.found = changes(work.link, rows.rows)
            if first := lowest(work.link, rows.vanished):
                present: Rows = yield Read(Side.TARGET, work.link.target_name, first=first)
                there = (row.uid for row in present.rows)
                work.found = replace(work.found, doomed=doomed(work.link, there, rows.vanished))
            return
        target: Rows = yield Read(Side.TARGET, work.link.target_name)
        work.there = target.before
        work.found = lists(work.link, rows.rows, target.rows)
        if work.found.strange:
            if (yield from self._differ_in_bytes(work)):
                yield Alert(work.link.source_name, "equal UIDs, different messages: pairing again")
                work.disturbed = True
                return
            skew = max((skew for _, _, skew in work.found.strange if skew <= SKEW), default=0)
            work.link = replace(work.link, skew=max(work.link.skew, skew))
        result: Paired = yield from pair(
            work.link, rows.rows, work.found, target.before.uidnext, surplus=self._state.surplus
        )
        # Before anything is saved: behind the mark nobody would know them for what they are.
        yield from expunge(work.link.target_name, result.fillers, self._target, keep_bodies=False)
        work.surplus = (*work.found.dropped, *result.surplus)
        work.link = replace(result.link, surplus=work.surplus)
        work.arrived.extend(result.seen)
        work.found = replace(work.found, missing=result.missing, flags=result.flags)

    def _differ_in_bytes(self, work: Work) -> Plan[bool]:
        source = tuple(uid for uid, _, _ in work.found.strange)
        target = tuple(uid for _, uid, _ in work.found.strange)
        validity = work.link.source.uidvalidity
        here: Identities = yield ReadIdentities(Side.SOURCE, work.link.source_name, source, validity)
        there: Identities = yield ReadIdentities(Side.TARGET, work.link.target_name, target)
        return any(
            here[one].digest != there[other].digest
            for one, other, _ in work.found.strange
            if one in here and other in there
        )

    def _hold_back(self, work: Work) -> Plan[None]:
        """Without a snapshot a message may be read in two folders, and a copy of the second may never be taken back.
        Deliveries that no replica has yet can't be such copies; what is placed after one that may has to wait with it.
        """
        if work.compared:
            work.rows = None
            work.link = work.begun
            work.surplus = ()
            work.found = Difference()
            return
        missing = tuple(row.uid for row in work.found.missing)
        name, validity = work.link.source_name, work.link.source.uidvalidity
        known: Identities = (yield ReadIdentities(Side.SOURCE, name, missing, validity)) if missing else {}
        safe = 0
        for uid in missing:
            delivery = known[uid].delivery if uid in known else ""
            if delivery not in self._awaiting:
                break
            self._awaiting.discard(delivery)
            safe += 1
        work.held = safe < len(missing)
        work.found = replace(work.found, missing=work.found.missing[:safe])

    def _carry(self, work: Work) -> Plan[None]:
        missing = work.found.missing
        if missing and not work.compared and work.link.target.uidnext != work.there.uidnext:
            work.disturbed = True
            return
        while missing:
            batch, missing = missing[:COPIES], missing[COPIES:]
            carried = yield from copy(work.link, batch, self._target)
            work.link = carried.link
            self._missed = self._missed or carried.missed
            work.arrived.extend(carried.identities)
            if carried.disturbed:
                work.disturbed = True
                return
            yield from self._confirm(work)
            missing = (*batch[len(batch) - len(carried.left) :], *missing)
            if carried.full:
                self._full = carried.full
                work.held = True
                work.left = tuple(row.uid for row in missing)
                break
            if missing:  # after the last one it is saved with the end of the pass
                yield from self._save()
        yield from self._confirm(work)
        seen = work.rows.after if work.rows is not None else 0
        work.link = yield from set_flags(work.link, work.found.flags, seen)

    def _drop(self, work: Work) -> Plan[None]:
        """Their content has been carried or found under another UID, or a return has dealt with it."""
        seen = work.rows.after if work.rows is not None else 0
        stay = yield from expunge(work.link.target_name, work.surplus, self._target, modseq=seen)
        left = tuple(uid for uid in work.link.surplus if uid not in work.surplus or uid in stay)
        work.link = replace(work.link, surplus=left)

    def _confirm(self, work: Work) -> Plan[None]:
        """Before the marks are saved: a message that is behind the mark is never looked at again."""
        ids = tuple(sorted({it.delivery for it in work.arrived if it.delivery} - self._confirmed))
        if ids:
            yield Confirm(ids)
            self._confirmed.update(ids)

    def _finish(self, stable: bool) -> Plan[None]:
        marks: dict[str, Mark] = {}
        if any(work.rows is not None for work in self._work):
            there: Listing = yield ListFolders(Side.TARGET)
            marks = {folder.name: folder.mark for folder in there.folders}
        for work in self._work:
            if work.disturbed or work.rows is None:
                continue
            now = marks.get(work.link.target_name, Mark())
            link = work.link
            if link.refused or link.large:
                listed = frozenset(row.uid for row in work.rows.rows)
                known_refused = frozenset((*link.refused, *link.large))
                link = still_refused(link, known_refused - listed if work.compared else work.rows.vanished)
            seen = work.rows.before
            reached = link.source.uidnext if work.held else max(link.source.uidnext, seen.uidnext)
            # Without a snapshot, or room, something is still owed, so the next pass has to hear of it again.
            told = stable and not work.held
            modseq = seen.modseq if told else link.source.modseq
            source = Mark(seen.uidvalidity, reached, modseq, seen.messages)
            known = link.target.uidnext
            target = Mark(now.uidvalidity, known, now.modseq if now.uidnext == known else 0, now.messages)
            if (work.left and work.compared) or link.surplus:
                target = replace(target, messages=-1)  # never so: lists are compared again
            last = Pass(seen.modseq, work.rows.after) if told and seen.modseq and target.modseq else link.last
            work.link = replace(link, source=source, target=target, last=last)
        if stable and not (self._full or self._late or any(work.disturbed for work in self._work)):
            self._state = replace(self._state, surplus=False)
        yield from self._save()

    def _save(self) -> Plan[None]:
        links = {work.link.source_name: work.link for work in self._work}
        waiting = (both.link for both in self._waiting)
        self._state = replace(self._state, folders=(*links.values(), *waiting, *self._gone))
        yield Save(self._state)
