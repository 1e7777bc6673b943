"""Deliveries whose answer never came: looked up at the server by their delivery id before anything else.

A "no" counts once it has been said twice, some seconds apart: a server that was frozen when the connection broke may
file the message after it has answered the first look-up. A server that takes mail by SMTP has a queue of its own, which
no look-up sees into, so there the two are farther apart (Server.queue_time). It must have been up all the while: what
it had taken before it died it files after its return.

A no that counts is true when it is said. Where a link runs an old primary may bring the message later, or become the
primary again: it is asked for once more right before the final dot (attempt.py), and for so long nothing is brought.

Where nobody can be asked, that is put into the trace, and the message is sent again: a second copy is then explained.

Knows what an answer means. Does not know when to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum

from onedomain.backend.base import Backend, Found, Lookup
from onedomain.decision.net import TRY_SECONDS
from onedomain.model.account import Account, DirectoryView
from onedomain.model.failure import Failed, Kind, again
from onedomain.model.message import Outcome, State
from onedomain.model.ports import Clock, Trace
from onedomain.model.server import Server
from onedomain.queue.attempt import FOUND
from onedomain.queue.entry import Entry

CONFIRM_AFTER = 3.0

RETURNING = again(451, "4.2.0", "Mailbox is busy, try again later", "an old primary's tail is being brought")
SLOW = again(451, "4.2.0", "Mailbox is busy, try again later", "the last look-up took too long")


class Answer(Enum):
    """For one target. ASK_AGAIN: a first no; LATER: it could not be said."""

    THERE = "there"
    NOT_THERE = "not there"
    ASK_AGAIN = "ask again"
    LATER = "later"


class Inquiry:
    """`may_try` an account's message that an old primary may have, too: it is not brought for TRY_SECONDS from then."""

    def __init__(
        self, view: DirectoryView, clock: Clock, trace: Trace, may_try: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._view = view
        self._clock = clock
        self._trace = trace
        self._may_try = may_try
        self._denied: dict[tuple[str, int], tuple[str, float]] = {}  # which server first said no, and when

    async def ask(self, backend: Backend, entry: Entry, indexes: Iterable[int]) -> dict[int, Answer]:
        targets = entry.envelope.targets
        answers = {}
        for index in indexes:
            account = self._view.account(targets[index].account) if targets[index].is_local else None
            if not targets[index].is_local or not backend.can_find:
                answers[index] = self._lost(backend, entry, index, "the server can't be asked for a delivery id")
                continue
            if account is None:
                answers[index] = Answer.LATER
                continue
            lookup = await self._find(backend, account, entry)
            if lookup.found is Found.YES:
                self._denied.pop((entry.id, index), None)
                answers[index] = Answer.THERE
            elif lookup.found is Found.NO:
                answers[index] = self._no(entry.id, index, backend.server)
            elif lookup.failure is not None and lookup.failure.kind is not Kind.AGAIN:
                answers[index] = self._lost(backend, entry, index, lookup.failure.reason or lookup.failure.text)
            else:
                # Whatever kept us from looking may have kept the message from being filed: counted from the next no on.
                self._denied.pop((entry.id, index), None)
                answers[index] = Answer.LATER
        return answers

    async def there(self, backend: Backend, entry: Entry, indexes: Iterable[int]) -> list[int]:
        """Those that have it, and will for some seconds. Raises Failed where that can't be said now; a server that can
        never be asked has none.
        """
        found = []
        accounts = {index: self._view.account(entry.envelope.targets[index].account) for index in indexes}
        asked = self._clock.monotonic()
        names = [account.address for account in accounts.values() if account is not None]
        if not all(await asyncio.gather(*map(self._may_try, names))):
            raise Failed(RETURNING)
        for index, account in accounts.items():
            if account is None or not backend.can_find:
                continue  # where it has left, whoever asks whether it is still here hears that
            lookup = await self._find(backend, account, entry)
            if lookup.found is Found.YES:
                found.append(index)
            elif lookup.failure is not None and lookup.failure.kind is Kind.AGAIN:
                raise Failed(lookup.failure)
        if self._clock.monotonic() - asked > TRY_SECONDS / 2:
            raise Failed(SLOW)  # the other half is for the server, to file it
        return found

    async def _find(self, backend: Backend, account: Account, entry: Entry) -> Lookup:
        lookup = await backend.find(account, entry.id, since=entry.received)
        self._trace.note(
            "looked up", queue_id=entry.id, server=backend.server.name, account=account.address,
            found=lookup.found.value, folder=lookup.folder, reason=str(lookup.failure or ""),
        )
        return lookup

    def _no(self, id: str, index: int, server: Server) -> Answer:
        now = self._clock.monotonic()
        _, first = self._denied.setdefault((id, index), (server.name, now))
        if now - first < max(CONFIRM_AFTER, server.queue_time):
            return Answer.ASK_AGAIN
        del self._denied[id, index]
        return Answer.NOT_THERE

    def _lost(self, backend: Backend, entry: Entry, index: int, reason: str) -> Answer:
        target = entry.envelope.targets[index]
        self._trace.note(
            "lost answer", queue_id=entry.id, server=backend.server.name, recipient=target.address,
            account=target.account, reason=f"duplicate possible: {reason}",
        )
        return Answer.NOT_THERE

    def returned(self, server: str) -> None:
        """It was down: whatever it had said before is counted from the next no on."""
        self._denied = {key: said for key, said in self._denied.items() if said[0] != server}

    def forget(self, entry: Entry) -> None:
        for index in range(entry.targets):
            self._denied.pop((entry.id, index), None)


def look_again_in(server: Server, grown: float) -> float:
    """Seconds after a no that does not count yet; `grown` is the pause that has grown with the looks so far."""
    return max(CONFIRM_AFTER, min(grown, server.queue_time / 4))


def outcome_of(answer: Answer, server: str) -> Outcome | None:
    """What an answer settles, or None if it settles nothing."""
    if answer is Answer.THERE:
        return Outcome(State.DONE, server, FOUND)
    if answer is Answer.NOT_THERE:
        return Outcome(State.AGAIN, server, "not found by its delivery id")
    return None
