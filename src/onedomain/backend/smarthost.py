"""The server that takes our mail for the rest of the world (RFC 6409 submission, or a relay).

Knows TLS, AUTH and the internet's patience. There is no mailbox behind it, so nobody logs in, and nothing can be looked
up: a lost answer stays in doubt, and whoever asks is told so. Implements base.Backend.
"""

from __future__ import annotations

from onedomain.backend.base import DELIVERY, Attempt, ClientInfo, Found, Lookup, Session
from onedomain.backend.delivery import Deliverer
from onedomain.backend.imap_session import ImapDoor
from onedomain.backend.pool import PoolLimits
from onedomain.backend.probing import Probes, watch_delivery
from onedomain.backend.smtp_session import INTERNET, Credentials, Door, SmtpTimes
from onedomain.model.account import Account
from onedomain.model.failure import Failed, Failure, give_up
from onedomain.model.health import Sighting, Watch
from onedomain.model.message import Delivery, Outcome
from onedomain.model.ports import Nonce
from onedomain.model.server import Endpoint, Server, ServerClass
from onedomain.net.tls import ClientContexts

NAME = "smarthost"


class Smarthost:
    can_find = False

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        hello: str,
        contexts: ClientContexts,
        watch: Watch,
        nonce: Nonce,
        credentials: Credentials | None = None,
        times: SmtpTimes = INTERNET,
        connections: int = 10,
    ) -> None:
        self.server = Server(
            NAME, NAME, endpoint, endpoint, "smtp", class_=ServerClass.FOREIGN, max_deliveries=connections
        )
        self.in_flight = 0
        door = Door(endpoint, False, hello, contexts, times, credentials)
        self._deliverer = Deliverer(NAME, door, PoolLimits(size=connections, uses=100), watch)
        self._probes = Probes(self.server, ImapDoor(endpoint, contexts), door, nonce)

    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]:
        self.in_flight += 1
        try:
            return await self._deliverer.deliver(delivery, attempt)
        finally:
            self.in_flight -= 1

    async def find(self, account: Account, delivery_id: str, *, since: float | None = None) -> Lookup:
        return Lookup(Found.CANT, failure=self._no_mailboxes(f"whether {delivery_id} arrived cannot be asked"))

    def begin(self, *_: object) -> None:
        """Nobody logs in here."""

    async def log_in(self, account: Account, password: str | None, client: ClientInfo) -> Session:
        raise Failed(self._no_mailboxes("nobody can log in there"))

    async def check_password(self, account: Account, password: str, client: ClientInfo) -> None:
        raise Failed(self._no_mailboxes("nobody can log in there"))

    async def probe(self, face: str) -> Sighting:
        """Whatever face is asked for: it has one."""
        return await self._probes.delivery()

    async def watch(self, face: str) -> None:
        await watch_delivery(self._deliverer.door)

    async def probe_message(self, account: str) -> Sighting:
        return await self.probe(DELIVERY)

    async def forget(self) -> None:
        self._deliverer.pool.forget()

    async def close(self) -> None:
        await self._deliverer.pool.close()

    def _no_mailboxes(self, reason: str) -> Failure:
        reason = f"{NAME} passes mail on; {reason}"
        return give_up(550, "5.3.5", "the smarthost keeps no mailboxes", reason)
