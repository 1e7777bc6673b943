"""Figures, their medians and ratios, and what the table says of them."""

from __future__ import annotations

import json

import pytest
from bench.figure import Figure, Result, percentile, ratio
from bench.row import Row, Target
from bench.table import as_json, render

US = "onedomain"


def result(name: str, *costs: float, rate: float = 100.0) -> Result:
    return Result(name, [Figure(cost=cost, rate=rate, p50=1, p99=2, load=0.3) for cost in costs])


def row(*targets: Target) -> Row:
    def never(*_: object) -> Figure:
        raise AssertionError

    return Row("r", "A row", "CPU-s per 1,000", ("nginx", US), never, never, targets=targets)  # type: ignore[arg-type]


def test_the_median_counts_and_the_spread_is_told() -> None:
    summary = result("nginx", 4, 1, 2).summary("cost")
    assert summary is not None
    assert (summary.median, summary.spread) == (2, 1.5)
    assert Result("nginx").summary("cost") is None


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 51), (0.99, 100), (1.0, 100)], ids=["median", "99 %", "all"]
)
def test_percentile(share: float, value: int) -> None:
    assert percentile(list(range(1, 101)), share) == value
    assert percentile([], share) == 0


def test_ours_is_compared_with_the_best_of_the_others() -> None:
    results = [result("nginx", 2.0, rate=50), result("dovecot", 4.0, rate=80), result(US, 3.0, rate=120)]
    assert ratio(results, US, "cost") == 1.5
    assert ratio(results, US, "rate", more_is_better=True) == 1.5
    assert ratio(results[:2], US, "cost") is None
    assert ratio(results[2:], US, "cost") is None


def test_a_target_is_judged_against_its_own_peers_only() -> None:
    results = [result("nginx", 2.0), result("dovecot", 10.0), result(US, 3.0)]
    text = render({}, [(row(Target(("nginx",), 1.0), Target(("dovecot",), 0.6)), results)], US)
    assert "cost <= 1 x nginx: 1.50 MISSED" in text
    assert "cost <= 0.6 x dovecot: 0.30 reached" in text


def test_a_bound_may_be_absolute() -> None:
    results = [result("mbsync", 1.0), result(US, 3.0)]
    text = render({}, [(row(Target((), 2.5), Target((), 5.0, "p50")), results)], US)
    assert "cost <= 2.5: 3.00 MISSED" in text and "p50 <= 5: 1.00 reached" in text


def test_a_rate_is_to_be_at_least_so_much() -> None:
    results = [result("postfix", 1.0, rate=100), result(US, 1.0, rate=290)]
    assert "rate >= 3 x postfix: 2.90 MISSED" in render({}, [(row(Target(("postfix",), 3.0, "rate")), results)], US)


def test_who_failed_is_named_and_out_of_the_ratios() -> None:
    failed = Result("nginx", error="no answer")
    text = render({"kernel": "6"}, [(row(Target(("nginx",), 1.0)), [failed, result(US, 3.0)])], US)
    assert "failed: no answer" in text
    assert "ratio" not in text.split("A row")[1]
    assert "MISSED" not in text


def test_a_load_that_may_have_been_the_limit_is_marked() -> None:
    busy = Result("nginx", [Figure(cost=1.0, load=0.97)])
    assert "0.97*" in render({}, [(row(), [busy])], US)


def test_json_keeps_every_round() -> None:
    found = json.loads(json.dumps(as_json({"kernel": "6"}, [(row(), [result("nginx", 1, 3), result(US, 2)])], US)))
    assert found["rows"][0]["results"]["nginx"]["cost"] == {"median": 2, "spread": 1, "rounds": [1, 3]}
