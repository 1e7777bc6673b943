"""What follows from outcomes: they are traced, noted, and what failed for good is reported to the sender first.

Knows the order: a failure is final only when its bounce is durable. Does not know lanes, pauses or servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from onedomain.decision import retry
from onedomain.model.failure import Failed
from onedomain.model.message import Outcome, State
from onedomain.model.ports import Changes, Clock, Count, Trace
from onedomain.queue.bounce import Bouncer
from onedomain.queue.entry import Entry
from onedomain.queue.record import Head
from onedomain.queue.spool import NO_EPOCHS, Spool

EVENTS = {State.DONE: "delivered", State.AGAIN: "deferred", State.FAILED: "failed", State.IN_DOUBT: "in doubt"}
COUNTERS = {State.DONE: "recipients_delivered_total", State.FAILED: "recipients_failed_total"}


class Settler:
    """`told` is called with the ticket of each delivery that a link was told of."""

    def __init__(
        self,
        spool: Spool,
        bouncer: Bouncer,
        patience: retry.Patience,
        *,
        clock: Clock,
        trace: Trace,
        changes: Changes,
        count: Count,
    ) -> None:
        self._spool = spool
        self._bouncer = bouncer
        self._patience = patience
        self._clock = clock
        self._trace = trace
        self._changes = changes
        self._count = count
        self.told: Callable[[Entry, str, int], None] = lambda entry, account, ticket: None

    async def settle(self, entry: Entry, outcomes: Mapping[int, Outcome],
                     epochs: Mapping[int, int] = NO_EPOCHS) -> None:
        """Afterwards the entry's progress says where it stands. What is put off too long fails here. `epochs` of homes
        with replicas, where they are not those of the attempt.
        """
        if retry.expired(entry.received, self._clock.time(), self._patience):
            outcomes = {index: self._given_up(outcome) for index, outcome in outcomes.items()}
        head = entry.head
        failed = {index: outcome for index, outcome in outcomes.items() if outcome.state is State.FAILED}
        rest = {index: outcome for index, outcome in outcomes.items() if index not in failed}
        if arrived := {index: outcome for index, outcome in rest.items()
                       if outcome.state is State.DONE and "SUCCESS" in head.envelope.targets[index].notify.upper()}:
            await self._report_arrival(entry, arrived)
        if rest:
            self._note(entry, head, rest, epochs)
        if failed:
            try:
                await self._bouncer.failed(entry, failed)
            except Failed as error:
                # No room for the bounce: the server will have to refuse once more when there is.
                self._trace.note("bounce put off", queue_id=entry.id, reason=str(error.failure))
                failed = {index: replace(outcome, state=State.AGAIN) for index, outcome in failed.items()}
            self._note(entry, head, failed)

    async def _report_arrival(self, entry: Entry, arrived: Mapping[int, Outcome]) -> None:
        try:
            await self._bouncer.arrived(entry, arrived)
        except Failed as error:
            # The message is there; sending it again for the report's sake would make it two.
            self._trace.note("report dropped", queue_id=entry.id, reason=str(error.failure))

    @staticmethod
    def _given_up(outcome: Outcome) -> Outcome:
        if outcome.state is State.AGAIN:
            return replace(outcome, state=State.FAILED, failure=retry.too_late(outcome.failure))
        if outcome.state is State.IN_DOUBT:
            return replace(outcome, state=State.FAILED, failure=retry.NEVER_CONFIRMED)
        return outcome

    def _note(self, entry: Entry, head: Head, outcomes: Mapping[int, Outcome],
              epochs: Mapping[int, int] = NO_EPOCHS) -> None:
        self._spool.outcomes(entry, outcomes, epochs)
        for index, outcome in outcomes.items():
            target = head.envelope.targets[index]
            failure = outcome.failure
            self._trace.note(
                EVENTS[outcome.state], queue_id=entry.id, message_id=head.message_id, sender=head.envelope.sender,
                recipient=target.address, account=target.account, server=outcome.server, reply=outcome.reply,
                failure=str(failure) if failure else "", reason=failure.reason if failure else "",
                seconds=round(self._clock.time() - entry.received, 3),
            )
            if outcome.state in COUNTERS:
                self._count.add(COUNTERS[outcome.state], server=outcome.server)
            if outcome.state is State.DONE and target.is_local:
                self.told(entry, target.account, self._changes.changed(target.account, "DELIVER", "", (entry.id,)))
            elif outcome.state is State.IN_DOUBT and target.is_local:
                self._changes.changed(target.account, "DELIVER")  # it may be there, under a UID that somebody has seen

    async def overdue(self, entry: Entry, indexes: tuple[int, ...]) -> None:
        """Gives up targets of a message whose time has run out while it waited for its turn."""
        await self.settle(entry, {
            index: entry.of(index).outcome or Outcome(entry.of(index).state, entry.of(index).server)
            for index in indexes
        })

    async def warn(self, entry: Entry) -> None:
        """Tells the sender, once, that the message is late."""
        try:
            await self._bouncer.delayed(entry, entry.received + self._patience.give_up_after)
        except Failed as error:
            self._trace.note("bounce put off", queue_id=entry.id, reason=str(error.failure))
            return
        self._spool.warned(entry)
