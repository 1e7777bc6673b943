"""Who may follow as the primary of an account, and what a person is told who asks for it.

Knows how copies stand, by the world's ports. Does not know when a server is given up, nor what is done then: the law is
decision/link/succession.
"""

from __future__ import annotations

from dataclasses import replace

from onedomain.decision.link.succession import Candidate, unfit
from onedomain.model.account import Account
from onedomain.model.health import Verdict
from onedomain.replica.promoting import Means
from onedomain.replica.world import Asked, Rules, Sight, World

PENDING = "its last promotion is not carried out yet"


class Heirs:
    def __init__(self, means: Means, world: World, rules: Rules) -> None:
        self._means = means
        self._world = world
        self._rules = rules

    def candidates(self, account: Account, sight: Sight, since: float) -> list[Candidate]:
        """Its replicas in order; only the first has a link. `since`: when the primary was seen down: what a replica
        lacked then it will lack for ever.
        """
        found = []
        for number, name in enumerate(account.home.replicas):
            copy = self._world.copy(account.address) if number == 0 else None
            verdict = Verdict.UP if self._means.usable(name) else Verdict.SILENT
            if copy is None:
                found.append(Candidate(name, verdict, whole=False, lag=0.0))
                continue
            lag = max(0.0, since - copy.since) if copy.since is not None else 0.0
            uncovered = sum(count for edge, count in copy.held.items() if edge not in sight.live)
            whole = copy.whole or (copy.even and sight.sure)
            found.append(Candidate(name, verdict, whole, lag, uncovered, copy.brought))
        return found

    def by_hand(self, account: Account, to: str, sight: Sight, back: str, *, force: bool) -> Asked:
        """`to` "": its first replica that is fit. `back`: the old primary of a promotion that is not carried out, if it
        can be used again. `force`: although something is known to be missing.
        """
        if account.home.pending:
            if not back or to not in ("", back) or (self._means.usable(account.home.primary) and not force):
                return Asked(account.address, to, PENDING)
            return Asked(account.address, back, "")
        names = [to] if to else list(account.home.replicas)
        if not names or names[0] not in account.home.replicas:
            return Asked(account.address, to, f"{to} is no replica of it" if to else "it has no replica")
        # A primary that answers is asked once more, so what the link lacks now is no loss.
        alive = self._means.usable(account.home.primary)
        reasons = []
        for candidate in self.candidates(account, sight, self._means.clock.monotonic()):
            if candidate.server in names:
                if alive:
                    candidate = replace(candidate, lag=0.0, uncovered=0, brought=0)
                reason = unfit(candidate, self._rules.max_lag)
                if not reason or force:
                    return Asked(account.address, candidate.server, "")
                reasons.append(f"{candidate.server}: {reason}")
        return Asked(account.address, names[0], "; ".join(reasons))
