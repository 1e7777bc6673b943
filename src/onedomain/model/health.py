"""How the servers are: sightings of probes and real traffic, verdicts, loads.

Knows the shapes. Does not know how a verdict is reached (decision/health) nor who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol


class Verdict(Enum):
    UP = "up"
    SLOW = "slow"
    REFUSING = "refusing"  # answers, but with a refusal: restarting, or not listening
    SILENT = "silent"      # does not answer at all
    DRAINING = "draining"

    @property
    def usable(self) -> bool:
        return self is not Verdict.REFUSING and self is not Verdict.SILENT


class Seen(Enum):
    OK = "ok"
    REFUSED = "refused"  # connection refused or reset, 4xx greeting, BYE
    SILENT = "silent"    # time ran out
    BROKEN = "broken"    # an answer that is none of the protocol


class Sighting(NamedTuple):
    """`face` is "imap" or "delivery"; `seconds` how long the answer took (0 where there was none)."""

    server: str
    face: str
    seen: Seen
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """EWMA of response time in seconds, and work in flight."""

    seconds: float = 0.0
    in_flight: int = 0

    @property
    def cost(self) -> float:
        return (self.seconds + 0.001) * (self.in_flight + 1)


class BoardView(Protocol):
    def verdict(self, server: str) -> Verdict: ...
    def load(self, server: str) -> Load: ...


class Watch(Protocol):
    """Where real traffic tells what it saw."""

    def saw(self, sighting: Sighting) -> None: ...
