"""The running links of all accounts: events make passes due, passes cover events and let safety nets go.

Knows when a pass begins and what its end means. Does not know how servers are spoken to, where states are kept, nor
who tells workers: these are ports. One per domain at a time does anything; see app/linker.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from onedomain.decision.link.brake import Brake
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failure, Kind, again
from onedomain.model.replica import LinkState
from onedomain.replica import figures
from onedomain.replica.linked import ACCEPTED_FOR, Linked, Place, Taken, braked
from onedomain.replica.pace import Bounds, Pace, Pauses
from onedomain.replica.parts import Parts, Rhythm
from onedomain.replica.passes import Cut, Passed, Passes
from onedomain.replica.sent import Sent
from onedomain.replica.stops import stop_of
from onedomain.replica.turns import Turns, Wanted

RECENT = 50_000
"""Delivery ids that passes have seen, kept for events that come after the pass that carried them."""
STRANGERS = 10_000
"""Accounts of which something was told before the directory said that they are linked."""
STOPPED_AFTER = 3
"""Failures in a row after which an account's link counts as stopped."""


class Links:
    def __init__(
        self, parts: Parts, rhythm: Rhythm | None = None, bounds: Bounds | None = None, brake: Brake | None = None
    ) -> None:
        self._parts = parts
        self._rhythm = rhythm or Rhythm()
        self._pace = Pace(bounds or Bounds(), parts.usable, parts.dice)
        self._links: dict[str, Linked] = {}
        self._passes = Passes(parts, self._rhythm, brake or Brake(), self._links.get, self.confirmed,
                              self._covered)
        self._turns = Turns(self._pace, self._carry, lambda linked: self._links.get(linked.address) is linked,
                            parts.clock, parts.trace)
        self._paused: dict[str, Linked] = {}  # as they were, of accounts that have no link at this moment
        self._strangers: OrderedDict[str, Linked] = OrderedDict()
        self._recent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lags = figures.Lags()

    # -- who is linked

    def configure(
        self, account: Account, *, linked: bool, paused: bool = False, returned: bool = False, even: bool = False
    ) -> None:
        """An account as the directory has it now. A pass for a home that is no more is cut off. `paused`: no pass may
        run for now, though what happens is noted. `returned`: its replica was its primary until just now; `even`: and
        has all that the new one had when it became one.
        """
        paused = paused or account.home.pending
        address = account.address
        known = self._links.get(address)
        if not linked or not account.home.replicas:
            self.remove(address)
            return
        if known is not None and not paused:
            same = known.account.home == account.home and known.account.mailbox_name == account.mailbox_name
            known.account = account
            if same:
                return
        if known is not None:
            self._end(known)
            known.state, known.unheld = None, True
            self._paused[address] = known
        if paused:
            return
        new = self._links[address] = Linked(account, returned=returned)
        told = self._paused.pop(address, None) or self._strangers.pop(address, None)
        if told is not None:
            new.pending, new.events = told.pending, told.events
            # A pass that was cut off may not have ended yet.
            new.since = told.later if told.since is None else told.since
            new.net, new.where = dict.fromkeys(told.net, 0), told.where
            new.commanded, new.renamed = set(told.commanded), set(told.renamed)
            new.growth.brought = told.growth.brought + told.growing.brought
            new.growth.unheard = told.growth.unheard + told.growing.unheard
            new.even = told.even and even
        new.audit_at = self._passes.audit_after(self._parts.clock.monotonic())
        self._turns.after(new, 0.0)

    def remove(self, address: str) -> None:
        self._strangers.pop(address, None)
        self._paused.pop(address, None)
        if (known := self._links.get(address)) is not None:
            self._end(known)

    def _end(self, linked: Linked) -> None:
        del self._links[linked.address]
        self._turns.remove(linked)
        self._passes.forget(linked)

    def _any(self, address: str) -> Linked | None:
        """Also of an account that has no link at this moment, or none that is known here yet."""
        return self._links.get(address) or self._paused.get(address) or self._strangers.get(address)

    def _told_of(self, address: str) -> Linked:
        linked = self._any(address)
        if linked is None:
            linked = self._strangers[address] = Linked(Account(address, "", Home("")))
            while len(self._strangers) > STRANGERS:
                self._strangers.popitem(last=False)
        return linked

    def promoted(self, address: str) -> None:
        """Its replica takes the place of its primary at this moment: what comes to that from now on is told here, and
        what was told until now the primary has, whenever it is back.
        """
        linked = self._told_of(address)
        for growth in (linked.growth, linked.growing):
            growth.brought = growth.unheard = 0
        linked.since = linked.later = None
        linked.commanded, linked.renamed = set(), set()
        linked.even = True

    def allowed(self, address: str, folders: Iterable[str], lost: float) -> Mapping[str, int]:
        """How many UIDs each of the source's folders may have given since the last pass that was whole, where that is
        known. `lost`: wall clock when something was last lost that nobody can tell again.
        """
        linked = self._any(address)
        return linked.allowed(folders) if linked is not None and linked.whole_from > lost else {}

    def sent(self, address: str) -> Sent:
        """What passes from here have sent of it to its target, and not saved."""
        linked = self._any(address)
        return linked.sent if linked is not None else Sent()

    async def quiet(self, address: str) -> None:
        """Returns when no pass of this account is under way; nothing that it asked for comes later."""
        await self._turns.quiet(address)

    def known(self, address: str, state: LinkState, accepted: float = 0.0) -> None:
        """What was saved of it, before its first turn: whether it has been whole. `accepted`: wall clock when a person
        said that what it brakes is meant to be gone.
        """
        linked = self._links.get(address)
        if linked is not None and linked.state is None:
            linked.was_whole, linked.returned = state.whole, state.surplus
            if state.whole:
                linked.unheld = linked.let_go = False  # as workers have heard from whoever ran the links before
                linked.growth.unheard = 0  # what was told OK is told again
            linked.noted(state)
            if accepted and self._parts.clock.time() - accepted < ACCEPTED_FOR:
                linked.commanded.update(braked(state))

    def __len__(self) -> int:
        return len(self._links)

    # -- what happens

    def touched(self, place: Place, events: Iterable[Sequence[Any]]) -> None:
        """[ticket, account, what, folder, delivery ids] each."""
        now = self._parts.clock.monotonic()
        for ticket, address, what, folder, deliveries in events:
            linked = self._told_of(address)
            linked.touched(place, ticket, what, folder, deliveries, now)
            if address not in self._links:
                continue
            self._seen_before(linked, deliveries)
            self._turns.happened(linked)
        self._turns.pump()

    def net(self, place: Place, held: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        """What a worker's safety net holds, as {account: [[id, age in seconds], …]}."""
        for address, ids in held.items():
            linked = self._told_of(address)
            deliveries = [str(each[0]) for each in ids]
            linked.hold(place, deliveries)
            if address in self._links:
                self._seen_before(linked, deliveries)
                self._look_again(linked)
        self._turns.pump()

    def _seen_before(self, linked: Linked, deliveries: Iterable[str]) -> None:
        """A pass may have carried a message before the worker's event came."""
        seen = [each for each in deliveries if (linked.address, each) in self._recent]
        if seen:
            self._release(linked, linked.confirmed(seen), ())

    def lost(self) -> None:
        """A worker or an edge is no more, or was away: what it did and did not tell may have been in any account."""
        for linked in (*self._links.values(), *self._paused.values(), *self._strangers.values()):
            linked.lost()

    def kick(self, server: str) -> None:
        self._pace.kick(server)
        self._turns.pump()

    def retry(self, address: str) -> bool:
        linked = self._links.get(address)
        if linked is None:
            return False
        linked.not_before = 0.0
        for server in (linked.source, linked.target):
            self._pace.kick(server)
        self._turns.at_once(linked)
        return True

    def accept(self, address: str) -> bool:
        """A person says that what is gone is meant to be gone; the next pass deletes it on the replica, too."""
        linked = self._links.get(address)
        if linked is None:
            return False
        linked.commanded.update(linked.braked)
        return self.retry(address)

    # -- whose turn it is

    def start(self) -> None:
        """From now on passes run; until then everything is only noted."""
        self._turns.start()

    async def stop(self) -> None:
        """Cuts all passes off and waits until they have let go."""
        await self._turns.stop()

    def _look_again(self, linked: Linked) -> None:
        at = self._parts.clock.monotonic() + self._rhythm.net
        if linked.due > at:
            self._turns.after(linked, self._rhythm.net)

    # -- a pass

    async def _carry(self, linked: Linked, taken: Taken, wanted: Wanted) -> None:
        try:
            passed = await self._passes.run(linked, taken, wanted)
        except Cut as cut:
            self._failed(linked, cut.server, cut.failure, sure=cut.sure)
        else:
            if passed.yielded:
                self._yielded(linked, passed)
            else:
                self._ended(linked, taken, passed)

    async def read(self, address: str) -> None:
        """Its state is in memory, to be looked at. Raises Failed."""
        linked = self._links.get(address)
        if linked is not None and not linked.running:
            await self._passes.state(linked)

    def _ended(self, linked: Linked, taken: Taken, passed: Passed) -> None:
        clock, report = self._parts.clock, passed.report
        self._pace.succeeded(linked.source, linked.target)
        if report.full:
            self._release(linked, (), linked.ended(taken, whole=False).consumed)
            self._passes.note(linked, passed)
            self._failed(linked, "", again(452, "4.2.2", "the replica takes no more now", report.full), sure=False)
            return
        if linked.trouble:
            self._parts.trace.note("link works again", account=linked.address, source=linked.source,
                                   target=linked.target)
        failures = linked.failures
        linked.failures, linked.trouble, linked.stopped_since, linked.not_before = 0, "", 0.0, 0.0
        released = linked.ended(taken, whole=report.whole, owed=report.owed)
        self._release(linked, (), released.consumed)
        linked.behind = not report.whole
        linked.noted(linked.state)
        linked.copied = not report.stopped and (linked.copied or report.missed)
        if report.whole:
            linked.was_whole = True
        elif report.stopped:
            linked.was_whole = linked.even = False
            linked.unheld = linked.let_go = True
            self._parts.trace.note("link pairs again", account=linked.address, reason=report.stopped)
            self._turns.at_once(linked)
        else:
            linked.failures = 1 if report.missed else failures + 1  # all but that was carried: the next has less to do
            self._pause(linked, self._rhythm.unstable)
        self._passes.note(linked, passed)
        if report.whole:
            pause = self._rhythm.sweep * (0.75 + 0.5 * self._parts.dice())
            self._turns.after(linked, self._rhythm.net if linked.net else pause)
            linked.last_whole = clock.time()

    def _yielded(self, linked: Linked, passed: Passed) -> None:
        """Behind all who wait; it goes on where it was."""
        self._pace.succeeded(linked.source, linked.target)
        if linked.later is not None and linked.since is None:
            linked.since = linked.later
        linked.behind = linked.again = True
        self._passes.note(linked, passed)

    def _covered(self, linked: Linked, taken: Taken) -> None:
        for place, ticket in taken.tickets.items():
            self._parts.outlet.covered(place, linked.address, ticket)
        if taken.since is not None:
            linked.lag = self._parts.clock.monotonic() - taken.since
            self._lags.add(linked.source, linked.target, linked.lag)

    def _failed(self, linked: Linked, server: str, failure: Failure, *, sure: bool) -> None:
        now = self._parts.clock.monotonic()
        for_good = failure.kind is not Kind.AGAIN
        linked.failures += 1
        reason = failure.reason or failure.text
        if server and not for_good:
            self._pace.failed(server, now, reason, surely=sure)
        if linked.later is not None and linked.since is None:
            linked.since = linked.later
        linked.behind = True
        self._parts.count.add("link_failures_total", server=server or "-")
        if for_good or linked.failures >= STOPPED_AFTER:
            if not linked.trouble:
                linked.stopped_since = self._parts.clock.time()
                self._parts.trace.note("link stopped", account=linked.address, source=linked.source,
                                       target=linked.target, server=server, reason=reason)
                if for_good:
                    self._parts.outlet.alert(linked.address, "", f"link stopped: {reason}")
            linked.trouble, linked.stop = reason or "unknown", stop_of(failure)
        if for_good:
            # Mail that comes to an account that was not there, for instance, has made it.
            told = self._rhythm.failed.after(linked.failures, self._parts.dice())
            self._turns.not_before(linked, self._rhythm.refused * (0.75 + 0.5 * self._parts.dice()), told)
        else:
            self._pause(linked, self._rhythm.failed)

    def _pause(self, linked: Linked, pauses: Pauses) -> None:
        self._turns.not_before(linked, pauses.after(linked.failures, self._parts.dice()))

    def _release(self, linked: Linked, confirmed: Collection[str], consumed: Collection[str]) -> None:
        for word, ids in (("confirmed", confirmed), ("consumed", consumed)):
            if not ids:
                continue
            self._parts.count.add("link_released_total", len(ids), how=word)
            for place, some in linked.placed(ids).items():
                seen, eaten = (some, []) if word == "confirmed" else ([], some)
                self._parts.outlet.released(place, linked.address, seen, eaten, linked.epoch)

    def confirmed(self, linked: Linked, deliveries: Iterable[str]) -> None:
        """They are on the target or set aside: at once, not at the end of the pass."""
        for each in deliveries:
            self._recent[linked.address, each] = None
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        self._release(linked, linked.confirmed(deliveries), ())

    # -- what people ask

    def pairs(self) -> list[dict[str, Any]]:
        shown = ((each, self.trouble(each)) for each in self._links.values())
        return figures.by_pair(shown, self._lags, self._parts.clock.monotonic())

    def rows(self, *, troubled: bool, limit: int, accounts: Collection[str] = ()) -> list[dict[str, Any]]:
        """Troubled ones first. Of `accounts`, if any are named."""
        links = [self._links[each] for each in accounts if each in self._links] if accounts else self._links.values()
        shown = ((each, self.trouble(each)) for each in links)
        clock = self._parts.clock
        return figures.rows(shown, clock.monotonic(), clock.time(), troubled=troubled)[:limit]

    def show(self, address: str) -> dict[str, Any] | None:
        linked = self._links.get(address)
        if linked is None:
            return None
        return figures.shown(linked, self.trouble(linked), self._parts.clock.monotonic(), self._parts.clock.time())

    def linked(self, address: str) -> Linked | None:
        """To be looked at only."""
        return self._links.get(address)

    def held(self, address: str) -> dict[str, str]:
        """Delivery ids that safety nets hold, and at which edge ("" is not known); also while there is no link."""
        linked = self._any(address)
        if linked is None:
            return {}
        return {each: linked.where[each][0] if each in linked.where else "" for each in linked.net}

    def trouble(self, linked: Linked) -> str:
        """Why its passes can't be expected to succeed now, or ""."""
        return linked.trouble or self._pace.trouble(linked.source) or self._pace.trouble(linked.target)

    def stopped_told(self, stopped: Collection[str]) -> None:
        """Workers know of these. OKs that wait for others' links are held: from the next time on, when that has come to
        the last of them. If a link that was whole fails, workers tell which they let go.
        """
        for linked in self._links.values():
            now = linked.address in stopped and not linked.was_whole
            linked.unheld, linked.let_go = now or linked.let_go, now

    def stopped(self) -> list[str]:
        """Accounts for which nobody should wait for a pass: failing, never whole yet, or their replica is down. While a
        primary is silent its OKs stay held: whoever follows lacks what they are for.
        """
        return sorted(
            address for address, linked in self._links.items()
            if not linked.was_whole or (self.trouble(linked) and self._parts.usable(linked.source))
        )
