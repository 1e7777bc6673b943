"""What the ledger says after a drill: what may be lost with a dead primary is counted, anything else is a finding.

Acknowledged deliveries and APPENDs have to be there, once. Of COPY, MOVE, STORE and EXPUNGE those that were
acknowledged shortly before their server died may not have reached the replica: they are counted with account, folder
and interval. Pure. Imports nothing but the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from onedomain.ledger.expect import expectations
from onedomain.ledger.ledger import ACKED, APPEND, COPY, DELIVER, EXPUNGE, MOVE, STORE, UNKNOWN, Act
from onedomain.ledger.verify import Finding, Found, Report, judge

MAY_BE_SWALLOWED = (COPY, MOVE, STORE, EXPUNGE)
AFTER = 0.5
"""Seconds after a death in which an OK may still be read that was on its way. Whoever answers later is alive."""


@dataclass(frozen=True, slots=True)
class Death:
    """`at`: seconds since 1970; `took`: seconds from then until all of the server was dead. `accounts`: whose primary
    it was, and is no more. `window`: seconds before it in which an acknowledged change may not have got to the replica
    yet; longer if the replica had been away until a moment ago.
    """

    server: str
    at: float
    accounts: frozenset[str]
    window: float = 15.0
    took: float = 0.0


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
) -> Judgement:
    """`unread`: accounts that could not be read, and why."""
    lenient = [_allowed(act, deaths) for act in acts]
    strict_report, report = _report(acts, found, unread or {}), _report(lenient, found, unread or {})
    left = {(finding.kind, finding.account, finding.token) for finding in report.findings}
    last: dict[tuple[str, str], Act] = {}
    for act, allowed in zip(acts, lenient, strict=True):
        if act is not allowed:
            last[act.account, act.token] = act
    swallowed = []
    for finding in strict_report.findings:
        key = finding.account, finding.token
        if (finding.kind, *key) not in left and key in last:
            swallowed.append(_swallowed(last[key], deaths, finding))
    changes = sum(act.state == ACKED and act.op in (*MAY_BE_SWALLOWED, APPEND) for act in acts)
    return Judgement(report, tuple(swallowed), changes)


def as_delivered(found: Sequence[Found], acts: Sequence[Act], filed: Collection[str]) -> list[Found]:
    """What a server's own filter may have put into one of the folders `filed` counts as delivered to INBOX."""
    delivered = {(act.account, act.token) for act in acts if act.op == DELIVER}
    return [replace(one, folder="INBOX") if one.folder in filed and (one.account, one.token) in delivered else one
            for one in found]


def _report(acts: Sequence[Act], found: Sequence[Found], unread: Mapping[str, str]) -> Report:
    report = Report(findings=[Finding("unread", account, "-", why) for account, why in unread.items()])
    judge(report, expectations(acts), found, unread=set(unread))
    return report


def _allowed(act: Act, deaths: Sequence[Death]) -> Act:
    if act.op in MAY_BE_SWALLOWED and act.state == ACKED and _death(act, deaths) is not None:
        return replace(act, state=UNKNOWN)
    return act


def _death(act: Act, deaths: Sequence[Death]) -> Death | None:
    ended = act.ended or act.began
    for death in deaths:
        over = death.at + death.took + AFTER
        if act.account in death.accounts and act.began <= over and ended >= death.at - death.window:
            return death
    return None


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
