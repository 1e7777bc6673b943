"""One pass of one account's link on two real ends, from the log-ins to the report.

Knows ends, the state it begins with and where what it keeps goes. Does not know whose turn it is, nor what follows from
its end; a pass that can't be ended says which server is at fault.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from onedomain.backend.link.base import LinkEnd
from onedomain.decision.link.brake import Brake
from onedomain.decision.link.order import Order, Report
from onedomain.decision.link.sweep import sweep
from onedomain.model.failure import Failed, Failure, again
from onedomain.model.replica import LinkState, Side
from onedomain.model.validities import validities
from onedomain.replica.keeping import Keeping, Share, Yielded
from onedomain.replica.linked import Linked, Taken
from onedomain.replica.parts import Parts, Rhythm
from onedomain.replica.performer import Performer

STATES = 5_000
"""Link states kept in memory; others are read when their account's turn comes."""
MAX_ALERTS = 20

Confirmed = Callable[[Linked, Iterable[str]], None]
"""What is told of delivery ids as soon as they are on the target or set aside."""
Covered = Callable[[Linked, Taken], None]
"""What is told as soon as all that had been told of when the pass began is there, or when the pass has ended."""


@dataclass(frozen=True, slots=True)
class Passed:
    """`done`: what was carried, as the performer counts it. `yielded`: it has let others in and goes on later."""

    report: Report
    done: Mapping[str, int]
    seconds: float
    yielded: bool = False


class Cut(Exception):
    """It could not be ended. `server`: which one is at fault, or ""; `sure`: it would not even let us in."""

    def __init__(self, server: str, failure: Failure, *, sure: bool) -> None:
        super().__init__(failure.reason or failure.text)
        self.server = server
        self.failure = failure
        self.sure = sure


class Passes:
    """`known`: an account's link as it is."""

    def __init__(
        self, parts: Parts, rhythm: Rhythm, brake: Brake, known: Callable[[str], Linked | None], confirmed: Confirmed,
        covered: Covered,
    ) -> None:
        self._parts = parts
        self._rhythm = rhythm
        self._brake = brake
        self._known = known
        self._confirmed = confirmed
        self._covered = covered
        self._states: OrderedDict[str, None] = OrderedDict()

    def audit_after(self, now: float) -> float:
        return now + self._rhythm.audit * (0.5 + self._parts.dice())

    async def run(self, linked: Linked, taken: Taken, wanted: Callable[[], bool]) -> Passed:
        """`wanted()`: somebody waits for its place. Raises Cut."""
        clock = self._parts.clock
        began = clock.monotonic()
        linked.last_pass = clock.time()
        ends: dict[str, LinkEnd] = {}
        broken, at_fault, sure = True, "", False
        performer: Performer | None = None
        keeping: Keeping | None = None
        try:
            state = await self.state(linked)
            for name in sorted((linked.source, linked.target)):  # in one order everywhere, or two may wait for ever
                at_fault, sure = name, True
                server = self._parts.servers(name)
                if name == linked.target and not state.folders:
                    await server.provide(linked.account)
                ends[name] = await server.end(linked.account)
            sure = False
            source, target = ends[linked.source], ends[linked.target]
            audit = bool(linked.braked) or began >= linked.audit_at
            shown = validities(linked.account.home.shown)
            order = Order(clock.time(), linked.commanded, audit, taken.awaiting, self._brake, shown, taken.folder,
                          linked.renamed)
            share = Share(clock, self._rhythm.share, wanted, began)
            keeping = Keeping(linked, self._parts.aside, self._parts.saver, self._confirmed, self._alert, share,
                              self._parts.may_write, partial(self._covered, linked, taken))
            performer = Performer(source, target, keeping, may_write=self._parts.may_write, sent=linked.sent)
            linked.to_go = lambda: performer.to_go if performer is not None else 0
            keeping.carried = partial(performer.done.__getitem__, "copied")
            report = await performer.run(sweep(state, source.powers, target.powers, order))
            broken = False
        except Yielded:
            assert performer is not None
            broken = False  # nothing was asked that is not answered
            return Passed(Report(whole=False), _done(performer), clock.monotonic() - began, yielded=True)
        except Failed as error:
            if keeping is not None and error.failure is keeping.failure:
                at_fault = ""  # our own side's
            elif performer is not None:
                at_fault = linked.target if performer.asked is Side.TARGET else linked.source
            raise Cut(at_fault, error.failure, sure=sure) from error
        except KeyError as error:
            failure = again(451, "4.3.5", "the link cannot run", f"unknown: {error}")
            raise Cut("", failure, sure=False) from error
        except Exception as error:  # one account's oddity must not stop the others; it is told
            self._parts.outlet.alert(linked.address, "", f"link fails: {error!r}")
            raise Cut("", again(451, "4.3.0", "the link cannot run", repr(error)), sure=False) from error
        finally:
            linked.to_go = lambda: 0
            async with AsyncExitStack() as closing:  # each of them, also when cancelled while one closes
                for end in ends.values():
                    closing.push_async_callback(end.close, broken=broken)
        if audit:
            linked.audit_at = self.audit_after(began)
        if report.whole and not keeping.told:
            self._covered(linked, taken)
        return Passed(report, _done(performer), clock.monotonic() - began)

    def note(self, linked: Linked, passed: Passed) -> None:
        """For metrics and the log."""
        self._parts.count.add("link_passes_total", source=linked.source, target=linked.target)
        for what, count in passed.done.items():
            self._parts.count.add("link_carried_total", count, what=what)
        if passed.done or passed.report.stopped:
            self._parts.trace.note("link pass", account=linked.address, source=linked.source, target=linked.target,
                                   whole=passed.report.whole, seconds=round(passed.seconds, 4), **passed.done)

    def _alert(self, linked: Linked, folder: str, text: str) -> None:
        linked.alerts = [*linked.alerts[-MAX_ALERTS + 1 :], f"{folder}: {text}" if folder else text]
        self._parts.trace.note("link alert", account=linked.address, folder=folder, reason=text)
        self._parts.outlet.alert(linked.address, folder, text)

    async def state(self, linked: Linked) -> LinkState:
        """As it was saved last. Raises Failed."""
        if linked.state is None:
            state = await self._parts.states.load(linked.account)
            if linked.state is None:  # else somebody else has read it, and perhaps saved another since
                linked.state = state or LinkState(linked.epoch)
        self._states[linked.address] = None
        self._states.move_to_end(linked.address)
        while len(self._states) > STATES:
            oldest, _ = self._states.popitem(last=False)
            if (other := self._known(oldest)) is not None and not other.running:
                other.state = None
        return linked.state

    def forget(self, linked: Linked) -> None:
        self._states.pop(linked.address, None)


def _done(performer: Performer) -> Mapping[str, int]:
    return {what: count for what, count in performer.done.items() if count}
