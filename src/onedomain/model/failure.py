"""What went wrong, as a value: enough to answer the peer, to decide what happens next, and to write the log.

Knows the three kinds and the usual failures. Does not know who decides, retries or answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    AGAIN = "again"      # try again later: nothing was lost, the cause may pass
    GIVE_UP = "give up"  # it will never work: bounce, or tell the owner
    REFUSE = "refuse"    # it must not be done: policy, security, malformed input


@dataclass(frozen=True, slots=True)
class Failure:
    """kind; SMTP code (3 digits); enhanced code (RFC 3463) such as "4.3.2"; text for the peer; reason for the log."""

    kind: Kind
    code: int
    enhanced: str
    text: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}"


class Failed(Exception):
    """Carries a Failure up to the one place that answers for it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def again(code: int, enhanced: str, text: str, reason: str = "") -> Failure:
    return Failure(Kind.AGAIN, code, enhanced, text, reason)


def give_up(code: int, enhanced: str, text: str, reason: str = "") -> Failure:
    return Failure(Kind.GIVE_UP, code, enhanced, text, reason)


def refuse(code: int, enhanced: str, text: str, reason: str = "") -> Failure:
    return Failure(Kind.REFUSE, code, enhanced, text, reason)
