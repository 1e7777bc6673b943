"""What everybody who speaks to a mail server asks of it, whatever its kind.

Knows the questions and the shapes of their answers. Does not know how any kind of server is spoken to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from onedomain.model.account import Account
from onedomain.model.failure import Failure
from onedomain.model.health import Sighting
from onedomain.model.message import Delivery, Outcome
from onedomain.model.server import Server

if TYPE_CHECKING:
    from onedomain.net.poller import Poller
    from onedomain.net.stream import Stream

IMAP = "imap"
DELIVERY = "delivery"
FACES = (IMAP, DELIVERY)

Attempt = Callable[[], Awaitable[None]]
"""Makes the attempt durable; raises Failed where it can't, and then the message must not be handed over."""


class Found(Enum):
    """What looking up a delivery id came to. CANT: nobody knows; see Lookup.failure."""

    YES = "yes"
    NO = "no"
    CANT = "can't"


@dataclass(frozen=True, slots=True)
class Lookup:
    """`folder` is where it was, as the server spells it. `failure` comes with CANT: of kind AGAIN where asking later
    may help, GIVE_UP where there is no way to ask; its reason says what to configure.
    """

    found: Found
    folder: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Whom a log-in is for: address and port of the client, and of ours it came to; an id for the server's log."""

    address: str = ""
    port: int = 0
    local_address: str = ""
    local_port: int = 0
    session: str = ""

    @property
    def peer(self) -> tuple[str, int] | None:
        return (self.address, self.port) if self.address else None


class Session(NamedTuple):
    """A log-in that succeeded: the stream is the caller's now, nothing read from it is missing.

    `capabilities` are those in force after the log-in, `text` the server's own words of welcome.
    """

    server: str
    stream: Stream
    capabilities: tuple[str, ...]
    text: str = ""


class Begun(Protocol):
    """A log-in that `Backend.begin` began and that is not done. `stop` means that nothing more is told of it.

    `account`: as it was then. It goes on at the server that was its home.
    """

    @property
    def account(self) -> Account: ...

    def stop(self) -> Begun: ...
    def close(self) -> None: ...

    async def finish(self, account: Account, password: str | None) -> Session:
        """As `Backend.log_in`, going on from where it is."""
        ...


class Backend(Protocol):
    """One mail server. Methods may be called side by side; none raises anything but Failed and CancelledError."""

    server: Server
    can_find: bool

    @property
    def in_flight(self) -> int:
        """Deliveries, look-ups and log-ins under way."""
        ...

    async def deliver(self, delivery: Delivery, attempt: Attempt) -> dict[int, Outcome]:
        """An outcome for each index in `delivery.recipients`. `attempt` is awaited once, before the first final dot."""
        ...

    async def find(self, account: Account, delivery_id: str, *, since: float | None = None) -> Lookup:
        """Whether the account has a message of that id in any folder; `since` (seconds since 1970) makes it quick.

        NO is how it is now. A server that was stopped or cut off may still be filing what it was given: ask again some
        seconds later before anything is sent twice.
        """
        ...

    async def log_in(self, account: Account, password: str | None, client: ClientInfo) -> Session:
        """With `password`, the user's, the home says whether it is right; None: it has been found right, and the
        server's own way in is used. Raises Failed: REFUSE for wrong credentials, AGAIN where it may work later.
        """
        ...

    def begin(
        self, account: Account, password: str | None, client: Callable[[], ClientInfo], poller: Poller,
        done: Callable[[Session | None], None],
    ) -> Begun | None:
        """A `log_in` without a task, for what is usual; None: it can't be here. `done` is given the session, or None
        where `finish` has to go on. Raises nothing.
        """
        ...

    async def check_password(self, account: Account, password: str, client: ClientInfo) -> None:
        """Raises Failed as `log_in` does; leaves no session behind."""
        ...

    async def probe(self, face: str) -> Sighting:
        """One question to one face over a connection of its own; never raises Failed."""
        ...

    async def watch(self, face: str) -> None:
        """Returns when a connection that was opened for this alone has been ended by the server. Raises Failed."""
        ...

    async def probe_message(self, account: str) -> Sighting:
        """A message of its own delivered to a probe account, read back and removed; the time is that of the whole."""
        ...

    async def forget(self) -> None:
        """Close what is idle: connections from before a failure may lead nowhere."""
        ...

    async def close(self) -> None: ...
