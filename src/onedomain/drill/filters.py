"""What servers' own filters do with mail: filed, discarded, redirected, answered. Which message is which, and what that
leaves to be asked of each.

A message's kind is the last digit of its token. Pure. Imports nothing but the ledger.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onedomain.ledger.ledger import ACKED, DELIVER, UNKNOWN, Act
from onedomain.ledger.verify import Finding, Found

REDIRECTED, ANSWERED = "redirected", "answered"


@dataclass(frozen=True, slots=True)
class Filters:
    """`whose`: accounts that may live where filters are. `filed`: folders for what is `filing`. Digits: what is filed,
    discarded, redirected; kept and answered.
    """

    whose: Collection[str] = ()

    filed: Collection[str] = ()
    filing: str = ""
    discarding: str = ""
    redirecting: str = ""
    answering: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """A message that a filter has sent into the world: because of which, whether REDIRECTED or ANSWERED, and when."""

    token: str
    what: str
    at: float


@dataclass(frozen=True, slots=True)
class Filtered:
    """`counts`: messages that are not in a mailbox because they were discarded or redirected, and what was answered.
    `repeated`: sent into the world again, as their server died before it could say so. `findings` may not be.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def as_delivered(found: Sequence[Found], acts: Sequence[Act], filters: Filters) -> list[Found]:
    """What a filter may have put into one of its folders counts as delivered to INBOX."""
    delivered = {(act.account, act.token) for act in acts if act.op == DELIVER}
    return [replace(one, folder="INBOX") if one.folder in filters.filed and (one.account, one.token) in delivered
            and one.account in filters.whose and str(one.token)[-1] in filters.filing else one for one in found]


def perhaps_consumed(acts: Sequence[Act], filters: Filters) -> list[Act]:
    """Those of which a filter may have left nothing in the mailbox can't be demanded there."""
    gone = (*filters.discarding, *filters.redirecting)
    return [replace(act, state=UNKNOWN) if act.op == DELIVER and act.state == ACKED and act.account in filters.whose
            and act.token[-1] in gone else act for act in acts]


def filtered(
    acts: Sequence[Act],
    found: Sequence[Found],
    world: Sequence[Left],
    filters: Filters,
    spans: Mapping[str, Sequence[tuple[float, float]]],
) -> Filtered:
    """`spans`: by account, from when to when a server of its was dying or had just come back: whoever was in the middle
    of a delivery then had sent something already, and nobody could know.
    """
    there = {(one.account, one.token) for one in found}
    left: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in world:
        left[one.what, one.token].append(one.at)
    counts: Counter[str] = Counter()
    findings, repeated = [], []
    sent: dict[str, str] = {}
    for act in acts:
        if act.op != DELIVER or act.account not in filters.whose:
            continue
        sent[act.token] = act.account
        kind = act.token[-1]
        away = act.state == ACKED and (act.account, act.token) not in there
        if kind in filters.redirecting and away:
            counts[REDIRECTED] += 1
            if (REDIRECTED, act.token) not in left:
                findings.append(Finding("lost", act.account, act.token, "neither in its mailbox nor redirected"))
        elif kind in filters.discarding and away:
            counts["discarded"] += 1
    for (what, token), times in left.items():
        digits = filters.redirecting if what == REDIRECTED else filters.answering
        account = sent.get(token, "")
        if what == ANSWERED:
            counts[what] += 1
        if not account or token[-1] not in digits:
            findings.append(Finding("misdelivered", account, token, f"{what}, which nobody asked for"))
        if len(times) > 1:
            detail = f"{what} {len(times)} times, {max(times) - min(times):.1f} s apart"
            if any(min(times) >= begun and max(times) <= over for begun, over in spans.get(account, ())):
                repeated.append(f"{account} {token}: {detail}")
            else:
                findings.append(Finding("doubled", account, token, detail))
    return Filtered(dict(counts), tuple(repeated), tuple(findings))
