"""What people are told of links: how far behind they are, which do not run, and why.

Knows numbers and texts of links. Does not change any.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from onedomain.replica.linked import Linked, Phase
from onedomain.replica.stops import Stop

KEPT = 500
"""Lags of which median and 99th percentile are made, per pair of servers."""
REASONS = 5


class Lags:
    """Seconds from an event to the end of the pass that covered it, the last ones of each pair of servers."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], deque[float]] = {}

    def add(self, source: str, target: str, seconds: float) -> None:
        self._pairs.setdefault((source, target), deque(maxlen=KEPT)).append(seconds)

    def of(self, source: str, target: str) -> tuple[float | None, float | None]:
        """Median and 99th percentile."""
        ordered = sorted(self._pairs.get((source, target), ()))
        if not ordered:
            return None, None
        return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


Shown = tuple[Linked, str]
"""A link, and why its passes can't succeed now, or ""."""


def by_pair(links: Iterable[Shown], lags: Lags, now: float) -> list[dict[str, Any]]:
    """`now` monotonic. One entry per pair of servers; seconds, and None where nothing is known."""
    pairs: dict[tuple[str, str], list[Shown]] = {}
    for linked, trouble in links:
        pairs.setdefault((linked.source, linked.target), []).append((linked, trouble))
    return [_pair(source, target, found, lags, now) for (source, target), found in sorted(pairs.items())]


def _pair(source: str, target: str, shown: list[Shown], lags: Lags, now: float) -> dict[str, Any]:
    links = [linked for linked, _ in shown]
    phases = Counter(linked.phase(trouble) for linked, trouble in shown)
    waiting = [linked.since for linked in links if linked.since is not None]
    median, worst = lags.of(source, target)
    reasons = Counter(trouble for _, trouble in shown if trouble)
    stops = Counter(linked.stop if linked.trouble else Stop.SERVER for linked, trouble in shown if trouble)
    stopped = [linked.stopped_since for linked in links if linked.stopped_since]
    return {
        "source": source, "target": target, "accounts": len(links),
        "whole": phases[Phase.WHOLE], "first_copy": phases[Phase.NEW], "behind": phases[Phase.BEHIND],
        "stopped": phases[Phase.STOPPED], "braked": sum(bool(linked.braked) for linked in links),
        "refused": sum(linked.refused for linked in links),
        "lag": median, "lag_p99": worst,
        "to_go": sum(linked.to_go() for linked in links),
        "uncovered": sum(linked.uncovered for linked in links),
        "uncovered_accounts": sum(bool(linked.uncovered) for linked in links),
        "uncovered_for": now - min(waiting) if waiting else None,
        "stopped_at": min(stopped, default=None),
        "stops": {stop.value: stops[stop] for stop in Stop},
        "reasons": [{"reason": reason, "accounts": count} for reason, count in reasons.most_common(REASONS)],
    }


GAUGES = ("link_lag_seconds", "link_uncovered", "link_uncovered_seconds", "links", "links_stopped",
          "failover_pending", "failover_unreturned", "failover_waiting_servers")


def gauges(
    pairs: Iterable[dict[str, Any]], failover: dict[str, int]
) -> Iterator[tuple[str, float, dict[str, str]]]:
    """(name, value, labels) of each of GAUGES, for metrics."""
    for pair in pairs:
        labels = {"source": pair["source"], "target": pair["target"]}
        yield "link_lag_seconds", pair["lag"] or 0.0, labels
        yield "link_uncovered", pair["uncovered"], labels
        yield "link_uncovered_seconds", pair["uncovered_for"] or 0.0, labels
        for state in ("whole", "first_copy", "behind", "stopped", "braked"):
            yield "links", pair[state], {"state": state, **labels}
        for reason, count in pair["stops"].items():
            yield "links_stopped", count, {"reason": reason, **labels}
    for what, count in failover.items():
        yield f"failover_{what}", count, {}


def late(pairs: Iterable[dict[str, Any]], seconds: float) -> list[str]:
    """What to tell a person of pairs whose copies have been behind for longer. The same trouble has the same text."""
    return [
        f"copies of {pair['source']} on {pair['target']} are behind" + "".join(
            f": {each['reason']}" for each in pair["reasons"][:1])
        for pair in pairs if pair["uncovered_for"] is not None and pair["uncovered_for"] > seconds
    ]


def row(linked: Linked, trouble: str, now: float, time: float) -> dict[str, Any]:
    """One line of `onedomain link list`. `now` monotonic, `time` by the wall clock.

    `whole_ago`: what was answered before that many seconds ago is on the replica; None: not since the link began.
    """
    return {
        "account": linked.address, "source": linked.source, "target": linked.target, "epoch": linked.epoch,
        "phase": linked.phase(trouble).value, "lag": linked.lag, "to_go": linked.to_go(), "uncovered": linked.uncovered,
        "uncovered_for": now - linked.since if linked.since is not None else None,
        "whole_ago": time - linked.whole_from if linked.whole_from else None,
        "braked": list(linked.braked), "accepted": linked.accepted, "refused": linked.refused, "reason": trouble,
        "stopped_at": linked.stopped_since or None,
    }


def rows(links: Iterable[Shown], now: float, time: float, *, troubled: bool) -> list[dict[str, Any]]:
    """Troubled ones first, or nothing else."""
    found = [row(linked, trouble, now, time) for linked, trouble in links]
    found = [each for each in found if not troubled or is_troubled(each)]
    return sorted(found, key=lambda each: (not is_troubled(each), each["account"]))


def is_troubled(row: dict[str, Any]) -> bool:
    return bool(row["reason"] or row["braked"] or row["refused"])


def shown(linked: Linked, trouble: str, now: float, time: float) -> dict[str, Any]:
    """All of `onedomain link show`."""
    folders = linked.state.folders if linked.state is not None else ()
    return {
        **row(linked, trouble, now, time), "failures": linked.failures, "last_pass": linked.last_pass or None,
        "last_whole": linked.last_whole or None, "running": linked.running, "held": len(linked.net),
        "alerts": list(linked.alerts),
        "folders": [
            {"source": each.source_name, "target": each.target_name, "messages": each.source.messages,
             "uids": "same" if each.aligned else "differ", "refused": list(each.refused), "kept": len(each.kept),
             "braked": each.braked, "keywords_lost": sorted(each.untaken)}
            for each in folders if not each.gone
        ],
    }  # fmt: skip
