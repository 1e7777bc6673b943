"""When to try again: after how long, for whose sake, and when to stop.

Two things wait separately. A server that can't be reached pauses everything for it, briefly at first; a recipient
whom a server puts off waits alone, and longer. Knows numbers. Does not know the time, nor what is tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onedomain.model.failure import Failure, Kind, give_up
from onedomain.model.message import Outcome

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds that grow by `factor` from `first` to `longest`; `jitter` 0.2 takes up to 20 % off, so that what failed
    together does not come back together.
    """

    first: float
    longest: float
    factor: float = 2.0
    jitter: float = 0.2

    def after(self, failures: int, chance: float) -> float:
        """The pause after so many failures in a row (1 or more); `chance` is uniform in [0, 1)."""
        # the exponent is bounded, or a week of failures overflows
        grown = self.first * self.factor ** min(failures - 1, 64)
        return min(grown, self.longest) * (1 - self.jitter * chance)


@dataclass(frozen=True, slots=True)
class Patience:
    """`server`: between tries of a server that fails; `recipient`: of one that was put off; `doubt`: between look-ups.

    `warn_after` 0: nobody is told of a delay. RFC 5321 section 4.5.4.1 asks for at least 4 to 5 days before giving up.
    """

    server: Pauses = field(default=Pauses(1.0, 300.0))
    recipient: Pauses = field(default=Pauses(5.0, 1800.0))
    doubt: Pauses = field(default=Pauses(1.0, 300.0))
    warn_after: float = 4 * HOUR
    give_up_after: float = 5 * DAY


def is_of_server(outcome: Outcome) -> bool:
    """True if it says something of the server as a whole, False if of this message or recipient.

    421 closes the channel (RFC 5321 section 3.8); X.3.2 is "not accepting network messages" (RFC 3463 section 3.4),
    X.3.1 a full mail system. X.4.Z is network and routing (section 3.5): found by us, the way to the server, but in its
    own words the way from there on, which for a smarthost is some recipient's domain.
    """
    failure = outcome.failure
    if failure is None or failure.kind is not Kind.AGAIN:
        return False
    if failure.code == 421 or failure.enhanced in ("4.3.1", "4.3.2"):
        return True
    return failure.enhanced.startswith("4.4.") and not outcome.reply


def expired(received: float, now: float, patience: Patience) -> bool:
    return now - received >= patience.give_up_after


def late(received: float, now: float, patience: Patience) -> bool:
    """Whether the sender should hear that the message is still waiting."""
    return 0 < patience.warn_after <= now - received < patience.give_up_after


def too_late(last: Failure | None) -> Failure:
    """Given up after the last try failed like this. RFC 3463 section 3.5: X.4.7 delivery time expired."""
    said = f" (last: {last})" if last else ""
    return give_up(554, "5.4.7", f"Delivery time expired{said}", last.reason if last else "")


NEVER_CONFIRMED = give_up(
    554, "5.4.7", "Delivery time expired; the message may have been delivered, its receipt was never confirmed"
)
