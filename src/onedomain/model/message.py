"""A message on its way: envelope, recipients, body, and what became of each recipient.

Knows the shapes that edge, spool, dispatch and backends hand each other. Does not know how any of them works.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from onedomain.model.failure import Failure


@dataclass(frozen=True, slots=True)
class Target:
    """One place a message has to reach.

    `account` is the directory key of an account of ours, and `address` what its RCPT TO is made of (tag included);
    or `account` is empty and `address` is outside. `original` is the recipient as the client gave it, for bounces
    (RFC 3461 ORCPT) and the trace.
    """

    address: str
    account: str = ""
    original: str = ""
    notify: str = ""  # RFC 3461 NOTIFY, as given; "" is the default (FAILURE)

    @property
    def is_local(self) -> bool:
        return bool(self.account)


@dataclass(frozen=True, slots=True)
class Envelope:
    """`sender` is "" for the null reverse-path. `targets` carry no account twice."""

    sender: str
    targets: tuple[Target, ...]
    smtputf8: bool = False
    eight_bit: bool = False  # BODY=8BITMIME was said, or the bytes need it
    ret: str = ""            # RFC 3461 RET: "", "FULL" or "HDRS"
    envid: str = ""
    client: str = ""         # address of the peer that handed the message over
    login: str = ""          # account that submitted it, or ""


class Body(Protocol):
    """The bytes of a message as they go to the next server: CRLF lines, not dot-stuffed, never altered."""

    @property
    def size(self) -> int: ...

    async def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; b"" at the end."""
        ...


class State(Enum):
    __hash__ = object.__hash__  # Enum's own is Python, and tables of what follows are asked for each delivery

    DONE = "done"
    AGAIN = "again"
    FAILED = "failed"      # for good: bounce
    IN_DOUBT = "in doubt"  # the answer never came


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target at one attempt. `reply` is the server's own words; `failure` None only when DONE."""

    state: State
    server: str = ""
    reply: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One transaction with one server: everything the server's backend needs.

    `id` is the delivery id that stands in the message's DELIVERY_ID_HEADER. `recipients` maps the index of a target in
    the envelope to what RCPT TO says.
    """

    id: str
    envelope: Envelope
    recipients: tuple[tuple[int, str], ...]
    body: Body
    headers: bytes = field(default=b"", repr=False)


DELIVERY_ID_HEADER = "X-OneDomain-Delivery"
TRACE_HEADER = "X-OneDomain-Trace"
