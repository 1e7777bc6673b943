"""One delivery to one server: everybody it was for gets an outcome, whatever the backend does.

Knows that the attempt is on record before the final dot, and that silence afterwards is doubt. Does not know what
follows from an outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from onedomain.backend.base import Backend
from onedomain.decision import retry
from onedomain.model.failure import Failed, again
from onedomain.model.message import Delivery, Outcome, State
from onedomain.model.ports import Trace
from onedomain.queue import crash
from onedomain.queue.entry import Entry
from onedomain.queue.spool import Spool

MOVED = again(451, "4.2.0", "Mailbox is moving, try again later", "the account's server may not be written to any more")
FOUND = "found by its delivery id"
THERE = again(451, "4.2.0", "Looked up once more", "a target that was tried before has it by now")
NO_ANSWER = again(451, "4.4.2", "No outcome", "the delivery ended without an answer for this recipient")


async def attempt_delivery(
    spool: Spool,
    backend: Backend,
    entry: Entry,
    recipients: Sequence[tuple[int, str]],
    trace: Trace,
    crash_points: crash.CrashPoints,
    epochs: Mapping[int, int],
    may_go: Callable[[], bool],
    there: Callable[[Sequence[int]], Awaitable[Collection[int]]],
) -> dict[int, Outcome]:
    """`recipients` are (index of target, RCPT) -> an outcome for each. Raises what only a defect or a cancellation
    does; then the attempt on record, if there is one, leaves the targets in doubt. `epochs` are those of homes with
    replicas; where there are any, `may_go` is asked last before the message is handed over, and before it `there`:
    which of those targets that were tried before have the message. An earlier "no" was true when it was said: what an
    old primary was given may have been brought since, or have become what people see by a promotion.
    """
    server = backend.server.name
    indexes = tuple(index for index, _ in recipients)
    tried = [index for index in indexes if index in epochs and entry.of(index).attempts]
    found: Collection[int] = ()
    begun = False

    async def begin() -> None:
        nonlocal begun, found
        if epochs and not may_go():
            raise Failed(MOVED)
        await spool.attempt(entry, indexes, server, epochs)
        here = await there(tried) if tried else ()
        # Where it is not to go, it was committed for nothing; with no final dot sent, "again" is the truth.
        if epochs and not may_go():
            raise Failed(MOVED)
        if here:
            found = here
            raise Failed(THERE)
        begun = True
        trace.note("attempt", queue_id=entry.id, server=server, recipients=[rcpt for _, rcpt in recipients])

    delivery = Delivery(entry.id, entry.envelope, tuple(recipients), spool.body(entry))
    try:
        outcomes = await backend.deliver(delivery, begin)
    except Failed as error:
        state = State.IN_DOUBT if begun else State.AGAIN
        failed = dict.fromkeys(indexes, Outcome(state, server, failure=error.failure))
        return failed | dict.fromkeys(found, Outcome(State.DONE, server, FOUND))
    if any(outcome.state is State.DONE for outcome in outcomes.values()):
        crash_points.reach(crash.AFTER_FAR_250)
    missing = Outcome(State.IN_DOUBT if begun else State.AGAIN, server, failure=NO_ANSWER)
    return {index: outcomes.get(index, missing) for index in indexes}


def is_trouble(outcomes: Collection[Outcome]) -> bool:
    """Whether the server as a whole failed: it said so, or fell silent, and took the message for nobody."""
    worked = any(outcome.state is State.DONE for outcome in outcomes)
    return not worked and any(
        outcome.state in (State.AGAIN, State.IN_DOUBT) and retry.is_of_server(outcome) for outcome in outcomes)
