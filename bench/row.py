"""A row of the table: a piece of work, who does it, and how one measurement of it is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.figure import Figure, percentile
from bench.load import Load
from bench.talk import Done, Work

if TYPE_CHECKING:
    from bench.stage import Contender, Stage

MIN_SETTLE = 0.02
"""Seconds after the last answer, so that what a server still does for the work is counted."""


@dataclass(frozen=True, slots=True)
class Target:
    """The goal: our `column` is at most (rates: at least) `times` that of the best of `against`; with nobody there, at
    most `times` itself.
    """

    against: tuple[str, ...]
    times: float
    column: str = "cost"


Measure = Callable[["Stage", "Contender", float], Figure]


@dataclass(frozen=True, slots=True)
class Row:
    """`measure` takes one figure of one contender; `scale` 1.0 is the full size, `--quick` a fraction of it.

    `unit` names `cost`. `prepare` gets the contenders up; `leave` ends what others do not need.
    """

    name: str
    title: str
    unit: str
    contenders: tuple[str, ...]
    prepare: Callable[[Stage, str], Contender]
    measure: Measure
    leave: Callable[[Stage], None] = lambda stage: None
    targets: Sequence[Target] = field(default=())
    rounds: int = 5


def run_load(contender: Contender, work: Work, *, per: float | None = None, units: int = 0) -> tuple[Figure, Done]:
    """The usual figure: CPU seconds of the contender per 1,000 units, rate and latency as the load saw them."""
    units = units or work.sessions * work.times
    load = Load(work)
    try:
        before = contender.cpu()
        done = load.go()
        time.sleep(MIN_SETTLE)
        spent = contender.cpu() - before
    finally:
        load.end()
    return figure_of(done, spent, units, per or 1000), done


def figure_of(done: Done, spent: float, units: float, per: float = 1000) -> Figure:
    return Figure(
        cost=spent / units * per,
        rate=units / done.seconds,
        p50=percentile(done.latencies, 0.5) * 1000,
        p99=percentile(done.latencies, 0.99) * 1000,
        load=done.cpu / done.seconds,
    )


def scaled(number: int, scale: float, least: int = 1) -> int:
    return max(least, round(number * scale))
