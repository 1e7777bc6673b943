"""Who is primary: when a server is given up, which replica follows, and what an edge may still do.

Knows verdicts, leases and epochs as values. Does not know how they were come by. Times are seconds of one edge's own
steady clock; no two clocks are ever compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from onedomain.model.health import Verdict


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds before a primary is given up. A server that refuses is restarting; one that is silent may be gone."""

    refusing: float = 2.0
    silent: float = 0.5
    lease: float = 3.0

    def patience(self, verdict: Verdict) -> float:
        return self.refusing if verdict is Verdict.REFUSING else self.silent


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica. `whole`: its link was whole since the last promotion, and since a side was wiped or restored; or it
    was the primary before, and it is known what has come since. `lag` in seconds. `uncovered`: deliveries that it lacks
    and that no reachable safety net holds. `brought`: how often clients were told that something is stored which it may
    lack.
    """

    server: str
    verdict: Verdict
    whole: bool
    lag: float
    uncovered: int = 0
    brought: int = 0


@dataclass(frozen=True, slots=True)
class Promote:
    server: str


@dataclass(frozen=True, slots=True)
class Wait:
    """`passes`: it ends by itself."""

    reason: str
    passes: bool = False


def gone(live_edges: Collection[str], observers: Mapping[str, Verdict]) -> bool:
    """Most live edges must say so; both, of two."""
    agree = sum(1 for edge in live_edges if edge in observers and not observers[edge].usable)
    return bool(live_edges) and 2 * agree > len(live_edges)


def successor(
    verdict: Verdict, since: float, now: float, candidates: Collection[Candidate], waits: Waits, *, max_lag: float,
    exclusive: bool,
) -> Promote | Wait:
    """What to do about a primary that most edges cannot use since `since`. Candidates in the home's order."""
    if not exclusive:
        return Wait("people reach this server directly too: failover is by hand")
    patience = waits.patience(verdict)
    if now - since < patience:
        return Wait(f"{verdict.value} for less than {patience:g} s", passes=True)
    reasons = []
    for candidate in candidates:
        if not (reason := unfit(candidate, max_lag)):
            return Promote(candidate.server)
        reasons.append(f"{candidate.server}: {reason}")
    return Wait("; ".join(reasons) or "there is no replica")


def unfit(candidate: Candidate, max_lag: float) -> str:
    """Why it must not become the primary by itself, or ""."""
    if not candidate.verdict.usable:
        return f"is {candidate.verdict.value}"
    if not candidate.whole:
        return "its link has not been whole since the last promotion or restore"
    if candidate.brought:
        return "lacks messages that people have stored, and were told OK"
    if candidate.uncovered:
        return f"lacks {candidate.uncovered} deliveries that no reachable safety net holds"
    if candidate.lag > max_lag:
        return f"is {candidate.lag:.1f} s behind"
    return ""


@dataclass(frozen=True, slots=True)
class Fence:
    """What one edge goes by. `asked`: when it asked for the lease that it has, not when the answer came."""

    epoch: int = 0
    asked: float = float("-inf")

    def renewed(self, epoch: int, asked: float) -> Fence:
        """A lower epoch than one seen before is refused: a lost commit must not bring an old primary back."""
        return self if epoch < self.epoch else Fence(epoch, max(asked, self.asked))

    def may_forward(self, epoch: int, now: float, lease: float) -> bool:
        return epoch == self.epoch and now - self.asked < lease


def may_promote(granted: Mapping[str, float], acknowledged: Collection[str], now: float, lease: float) -> bool:
    """After the epoch was committed. `granted`: when each edge was last granted a lease, by the granter's clock."""
    return all(edge in acknowledged or now - at >= lease for edge, at in granted.items())
