"""The small things that strangers need of each other. One Protocol each; app/ connects them.

Knows names and shapes only.
"""

from __future__ import annotations

from typing import Any, Protocol

from onedomain.model.account import Account


class Clock(Protocol):
    """`monotonic` in seconds for waits; `time` in seconds since 1970 for what people read and disks keep."""

    def monotonic(self) -> float: ...
    def time(self) -> float: ...


class Nonce(Protocol):
    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes."""
        ...

    def random(self) -> float:
        """Uniform in [0, 1), for choices and jitter, not for secrets."""
        ...


class Trace(Protocol):
    """What happened, for `onedomain trace` and the JSON log. Never blocks, never raises.

    `event` is a short name such as "received", "attempt", "delivered", "login"; fields are JSON values. The usual ones:
    queue_id, message_id, sender, recipient, account, server, client, reply, reason, seconds.
    """

    def note(self, event: str, **fields: Any) -> None: ...


class Count(Protocol):
    """Counters and gauges for metrics; names are Prometheus names without the `onedomain_` in front."""

    def add(self, name: str, amount: float = 1, **labels: str) -> None: ...
    def set(self, name: str, value: float, **labels: str) -> None: ...


class Changes(Protocol):
    """Where relays and dispatch tell that a mailbox changed at its home (replication listens).

    `what` is the command ("APPEND", "STORE", "DELIVER" ...), `folder` as the client named it or "", `deliveries` the
    delivery ids that came with it. The ticket is for `covered`; 0: the account has no replica, nobody is waited for.
    STORED is told, too, which is no command: see decision/link/growth.
    """

    def changed(self, account: str, what: str, folder: str = "", deliveries: tuple[str, ...] = ()) -> int: ...

    async def covered(self, account: str, ticket: int, seconds: float) -> bool:
        """Whether the replica has what the ticket stands for: True as soon as it has (or nobody has to have it), False
        as soon as that is not to be expected, or after `seconds`.
        """
        ...


class LinkView(Protocol):
    """What is known here of the links between primaries and replicas; answered from memory."""

    def trouble(self, account: str) -> str:
        """Why what happens in the account can't be expected on its replica soon, or ""."""
        ...


class Gate(Protocol):
    """Whether anything may be written to an account's home from here now: its promotion is over, and this edge knows
    that nobody else has made another one.
    """

    def may_write(self, account: Account) -> bool: ...
