"""One measurement, and what several of them say together. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """`cost` is what counts most, in the row's unit (CPU seconds per 1,000, kB …); None where the row has none.

    `rate` is units per second, `p50` and `p99` milliseconds, `load` the share of one core that the load took.
    `note` says what else a reader has to know.
    """

    cost: float | None = None
    rate: float | None = None
    p50: float | None = None
    p99: float | None = None
    load: float | None = None
    note: str = ""


COLUMNS = ("cost", "rate", "p50", "p99", "load")


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of the rounds, and how far the lowest and highest are apart, as a share of the median."""

    median: float
    spread: float


@dataclass(slots=True)
class Result:
    """All rounds of one contender in one row."""

    contender: str
    figures: list[Figure] = field(default_factory=list)
    error: str = ""

    def summary(self, column: str) -> Summary | None:
        values = [value for figure in self.figures if (value := getattr(figure, column)) is not None]
        if not values:
            return None
        median = statistics.median(values)
        return Summary(median, (max(values) - min(values)) / median if median else 0.0)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; of nothing 0."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def ratio(results: Sequence[Result], us: str, column: str, *, more_is_better: bool = False) -> float | None:
    """Ours to the best of the others': below 1 we cost less, or with `more_is_better` above 1 we do more."""
    ours = next((found for r in results if r.contender == us and (found := r.summary(column))), None)
    others = [found.median for r in results if r.contender != us and (found := r.summary(column))]
    if ours is None or not others:
        return None
    best = max(others) if more_is_better else min(others)
    return ours.median / best if best else None
