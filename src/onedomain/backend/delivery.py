"""Deliveries to one server over its pool of connections, until every recipient has an outcome.

Knows when a failed try may be repeated unseen: a connection that sat idle may have died, and a server may want its
recipients in portions. Does not know the wire (transaction.py) nor when to try again later (the queue).
"""

from __future__ import annotations

from onedomain.backend.base import DELIVERY, Attempt
from onedomain.backend.pool import Pool, PoolLimits
from onedomain.backend.smtp_session import Door, SmtpSession
from onedomain.backend.transaction import Recipient, Result, Transaction, undelivered
from onedomain.backend.trouble import Trouble
from onedomain.model.failure import Failed
from onedomain.model.health import Seen, Sighting, Watch
from onedomain.model.message import Delivery, Outcome

MAX_RECIPIENTS = 100
"""In one transaction; what every server must take: RFC 5321 section 4.5.3.1.8."""


class Deliverer:
    """`watch` is told what was seen of the server's delivery face."""

    def __init__(self, server: str, door: Door, limits: PoolLimits, watch: Watch) -> None:
        self._server = server
        self._watch = watch
        self.door = door
        self.pool: Pool[SmtpSession] = Pool(f"deliveries to {server}", self._open, limits)

    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]:
        """An outcome for each recipient. `attempt` is awaited once at most."""
        once = _Once(attempt)
        outcomes: dict[int, Outcome] = {}
        todo = list(delivery.recipients)
        while todo:
            portion, rest = todo[:MAX_RECIPIENTS], todo[MAX_RECIPIENTS:]
            try:
                result = await self._try(delivery, portion, once)
            except Failed as error:
                outcomes.update(self._all(todo, error))
                break
            outcomes.update(result.outcomes)
            todo = result.later + rest
            if result.trouble is not None:
                outcomes.update(self._all(todo, result.trouble))
                break
        return outcomes

    async def _open(self) -> SmtpSession:
        return await SmtpSession.open(self.door)

    async def _try(self, delivery: Delivery, recipients: list[Recipient], once: _Once) -> Result:
        """One transaction. What an idle connection spoils before the dot is done again on a new one."""
        reused = False
        try:
            async with self.pool.lend() as session:
                reused = session.uses > 1
                result = await Transaction(self._server, session, delivery, recipients).run(once)
        except Trouble as trouble:
            if not reused:
                self._saw(trouble.seen, trouble.seconds, trouble.failure.reason)
                raise
            result = await self._try_fresh(delivery, recipients, once)
        if result.trouble is not None:
            self._saw(result.trouble.seen, result.trouble.seconds, result.trouble.failure.reason)
        elif result.seconds is not None:
            self._saw(Seen.OK, result.seconds, "")
        return result

    async def _try_fresh(self, delivery: Delivery, recipients: list[Recipient], once: _Once) -> Result:
        try:
            async with self.pool.lend(fresh=True) as session:
                return await Transaction(self._server, session, delivery, recipients).run(once)
        except Trouble as trouble:
            self._saw(trouble.seen, trouble.seconds, trouble.failure.reason)
            raise

    def _saw(self, seen: Seen, seconds: float, reason: str) -> None:
        self._watch.saw(Sighting(self._server, DELIVERY, seen, seconds, reason))

    def _all(self, recipients: list[Recipient], error: Failed) -> dict[int, Outcome]:
        outcome = undelivered(self._server, error.failure)
        return dict.fromkeys((index for index, _ in recipients), outcome)


class _Once:
    """The attempt covers the whole delivery, in however many transactions it is made."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._done = False

    async def __call__(self) -> None:
        if not self._done:
            await self._attempt()
            self._done = True
