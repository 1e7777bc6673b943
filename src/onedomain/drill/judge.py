"""What the ledger says after a drill: what may be lost with a dead primary is counted, anything else is a finding.

Acknowledged deliveries and APPENDs have to be there, once. Of COPY, MOVE, STORE and EXPUNGE those that the link had not
covered when their server died may not have reached the replica: they are counted with account, folder and interval.
Pure. Imports nothing but the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from onedomain.ledger.expect import expectations
from onedomain.ledger.ledger import ACKED, APPEND, COPY, EXPUNGE, MOVE, STORE, UNKNOWN, Act
from onedomain.ledger.verify import Finding, Found, Report, judge

MAY_BE_SWALLOWED = (COPY, MOVE, STORE, EXPUNGE)
AFTER = 0.5
"""Seconds after a death in which an OK may still be read that was on its way. Whoever answers later is alive."""


@dataclass(frozen=True, slots=True)
class Death:
    """`at`: seconds since 1970; `took`: seconds from then until all of the server was dead. `accounts`: whose primary
    it was, and is no more. `covered`: up to when what had been acknowledged of an account was known to be on its
    replica; of one that is not named nothing may be missing. `stayed`: whose primary it still is.
    """

    server: str
    at: float
    accounts: frozenset[str]
    covered: Mapping[str, float] = field(default_factory=dict)
    took: float = 0.0
    stayed: frozenset[str] = frozenset()

    def may_swallow(self, act: Act) -> bool:
        ended = act.ended or act.began
        return (act.account in self.accounts and act.began <= self._over
                and ended >= self.covered.get(act.account, self.at))

    def may_halve(self, act: Act) -> bool:
        """Servers that are killed in the middle of a MOVE may come back with the message in both folders. Where a
        replica has followed, what is in the second then comes with the return.
        """
        ended = act.ended or act.began
        half = act.op == MOVE and act.state == UNKNOWN and act.account in self.stayed | self.accounts
        return half and act.began <= self._over and ended >= self.at

    @property
    def _over(self) -> float:
        return self.at + self.took + AFTER


@dataclass(frozen=True, slots=True)
class Swallowed:
    """`before`: seconds between the acknowledgement and the death; negative where it was read after it."""

    account: str
    folder: str
    op: str
    server: str
    before: float
    detail: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """`report` is what remains after the swallowed changes: it has to be clean."""

    report: Report
    swallowed: tuple[Swallowed, ...]
    changes: int

    @property
    def ok(self) -> bool:
        return self.report.ok


def judged(
    acts: Sequence[Act],
    found: Sequence[Found],
    deaths: Sequence[Death],
    *,
    unread: Mapping[str, str] | None = None,
    more: Sequence[Finding] = (),
) -> Judgement:
    """`unread`: accounts that could not be read, and why. `more`: what others have found."""
    lenient = [_allowed(act, deaths) for act in acts]
    halves = [act for act in acts if any(death.may_halve(act) for death in deaths)]
    strict_report = _report(acts, found, unread or {})
    report = _report([*lenient, *(replace(act, op=COPY) for act in halves)], found, unread or {})
    left = {(finding.kind, finding.account, finding.token) for finding in report.findings}
    last: dict[tuple[str, str], Act] = {}
    for act, allowed in zip(acts, lenient, strict=True):
        if act is not allowed:
            last[act.account, act.token] = act
    last.update({(act.account, act.token): act for act in halves})
    swallowed = []
    for finding in strict_report.findings:
        key = finding.account, finding.token
        if (finding.kind, *key) not in left and key in last:
            swallowed.append(_swallowed(last[key], deaths, finding))
    report.findings += more
    changes = sum(act.state == ACKED and act.op in (*MAY_BE_SWALLOWED, APPEND) for act in acts)
    return Judgement(report, tuple(swallowed), changes)


def _report(acts: Sequence[Act], found: Sequence[Found], unread: Mapping[str, str]) -> Report:
    report = Report(findings=[Finding("unread", account, "-", why) for account, why in unread.items()])
    judge(report, expectations(acts), found, unread=set(unread))
    return report


def _allowed(act: Act, deaths: Sequence[Death]) -> Act:
    if act.op in MAY_BE_SWALLOWED and act.state == ACKED and _death(act, deaths) is not None:
        return replace(act, state=UNKNOWN)
    return act


def _death(act: Act, deaths: Sequence[Death]) -> Death | None:
    return next((death for death in deaths if death.may_swallow(act) or death.may_halve(act)), None)


def _swallowed(act: Act, deaths: Sequence[Death], finding: Finding) -> Swallowed:
    death = _death(act, deaths)
    assert death is not None
    folder = act.target or act.folder or "INBOX"
    return Swallowed(act.account, folder, act.op, death.server, death.at - (act.ended or act.began),
                     f"{finding.kind}: {finding.detail}")


def by_folder(swallowed: Sequence[Swallowed]) -> list[tuple[str, str, int, float]]:
    """(account, folder, how many, the longest interval), the longest first."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in swallowed:
        groups[one.account, one.folder].append(one.before)
    rows = [(account, folder, len(times), max(times)) for (account, folder), times in groups.items()]
    return sorted(rows, key=lambda row: (-row[3], row))
