"""The server that takes our mail for the rest of the world (RFC 6409 submission or a relay).

Knows TLS, AUTH and the internet's patience. There is no mailbox behind it, so nothing can be looked up: a lost answer
stays in doubt, and whoever asks is told so.
"""

from __future__ import annotations

from onedomain.backend.base import Attempt, Found, Lookup
from onedomain.backend.delivery import Deliverer
from onedomain.backend.pool import PoolLimits
from onedomain.backend.smtp_session import INTERNET, Credentials, Door, SmtpTimes
from onedomain.model.failure import give_up
from onedomain.model.health import Watch
from onedomain.model.message import Delivery, Outcome
from onedomain.model.server import Endpoint
from onedomain.net.tls import ClientContexts


class Smarthost:
    """`name` is what traces and the board call it."""

    can_find = False

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        *,
        hello: str,
        contexts: ClientContexts,
        watch: Watch,
        credentials: Credentials | None = None,
        times: SmtpTimes = INTERNET,
        limits: PoolLimits | None = None,
    ) -> None:
        self.name = name
        self.in_flight = 0
        door = Door(endpoint, False, hello, contexts, times, credentials)
        self._deliverer = Deliverer(name, door, limits or PoolLimits(size=10, uses=100), watch)

    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]:
        self.in_flight += 1
        try:
            return await self._deliverer.deliver(delivery, attempt)
        finally:
            self.in_flight -= 1

    async def find(self, account: object, delivery_id: str, *, since: float | None = None) -> Lookup:
        reason = f"{self.name} passes mail on; whether {delivery_id} arrived there cannot be asked"
        return Lookup(Found.CANT, failure=give_up(550, "5.3.5", "a relay cannot be asked what it has taken", reason))

    async def close(self) -> None:
        await self._deliverer.pool.close()
