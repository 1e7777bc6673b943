"""What an edge says it can do before a log-in, and what of a home's capabilities holds through a relay.

Knows names. Does not know what any of them does on the wire.
"""

from __future__ import annotations

from functools import lru_cache

_BEFORE = ("IMAP4rev1", "LITERAL+", "SASL-IR", "ID")

# Done with at log-in; or they would blind the scanner (COMPRESS), end the log-in that we vouch for (UNAUTHENTICATE,
# RFC 8437) or lead past us (referrals, RFC 2221 and 2193).
_NOT_THROUGH = frozenset(
    ("STARTTLS", "LOGINDISABLED", "SASL-IR", "LOGIN-REFERRALS", "MAILBOX-REFERRALS", "UNAUTHENTICATE")
)
_NOT_THROUGH_PREFIXES = ("AUTH=", "COMPRESS=")


@lru_cache
def before_login(*, starttls: bool, log_in: bool) -> tuple[str, ...]:
    """`starttls`: it can be said now; `log_in`: a password may be sent over the connection as it is."""
    names = list(_BEFORE)
    if starttls:
        names.append("STARTTLS")
    names += ("AUTH=PLAIN", "AUTH=LOGIN") if log_in else ("LOGINDISABLED",)  # RFC 9051 section 6.2.3
    return tuple(names)


@lru_cache(16)
def through_relay(names: tuple[str, ...], hidden: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The home's capabilities after its log-in, in any case and order -> those that the client may use through us.

    `hidden`, in capitals, are further ones that it may not.
    """
    kept = [
        name
        for name in names
        if not ((upper := name.upper()) in _NOT_THROUGH or upper in hidden or upper.startswith(_NOT_THROUGH_PREFIXES))
    ]
    # Where clients look for it, and as they spell it.
    return ("IMAP4rev1", *(name for name in kept if name.upper() != "IMAP4REV1"))
