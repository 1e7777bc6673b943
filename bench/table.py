"""The table that people read, and the same as JSON. Knows results; does not know how they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.figure import COLUMNS, Result, Summary, ratio
from bench.row import Row, Target

HEADS = {"cost": "cost", "rate": "per s", "p50": "p50 ms", "p99": "p99 ms", "load": "load"}
BOUND = 0.9
"""Of one core: a load that takes more of it may have been what limited the rate."""


def render(facts: Mapping[str, str], done: Sequence[tuple[Row, Sequence[Result]]], us: str) -> str:
    lines = [f"{name:12} {value}" for name, value in facts.items()]
    lines += ["", "Medians of the rounds; ± is half way from the lowest to the highest. load: share of one core that"]
    lines += ["the load took, * it may have limited the rate. ratio: ours to the best peer's.", ""]
    for row, results in done:
        lines += _block(row, results, us)
    return "\n".join(lines)


def _block(row: Row, results: Sequence[Result], us: str) -> list[str]:
    lines = [f"{row.title}  [{row.name}]  cost: {row.unit}"]
    lines.append(f"  {'':18}" + "".join(f"{HEADS[column]:>16}" for column in COLUMNS))
    for result in results:
        if result.error:
            lines.append(f"  {result.contender:18} failed: {result.error}")
            continue
        cells = [_cell(column, result.summary(column)) for column in COLUMNS]
        note = next((f"  {figure.note}" for figure in result.figures if figure.note), "")
        lines.append(f"  {result.contender:18}" + "".join(f"{cell:>16}" for cell in cells) + note)
    ratios = [("cost", ratio(results, us, "cost")), ("rate", ratio(results, us, "rate", more_is_better=True)),
              ("p99", ratio(results, us, "p99"))]  # fmt: skip
    said = [f"{name} x {value:.2f}" for name, value in ratios if value is not None]
    if said:
        lines.append(f"  {'ratio':18}   {', '.join(said)}")
    for target in row.targets:
        if (reached := judge(target, results, us)) is not None:
            value, good = reached
            sign = ">=" if target.column == "rate" else "<="
            lines.append(
                f"  {'to reach':18}   {target.column} {sign} {target.times:g}"
                f"{' x ' + '/'.join(target.against) if target.against else ''}: "
                f"{value:.2f} {'reached' if good else 'MISSED'}"
            )
    return [*lines, ""]


def judge(target: Target, results: Sequence[Result], us: str) -> tuple[float, bool] | None:
    more = target.column == "rate"
    if not target.against:
        ours = next((result.summary(target.column) for result in results if result.contender == us), None)
        return None if ours is None else (ours.median, ours.median <= target.times)
    chosen = [result for result in results if result.contender == us or result.contender in target.against]
    value = ratio(chosen, us, target.column, more_is_better=more)
    if value is None:
        return None
    return value, value >= target.times if more else value <= target.times


def _cell(column: str, summary: Summary | None) -> str:
    if summary is None:
        return "-"
    if column == "load":
        return f"{summary.median:.2f}{'*' if summary.median > BOUND else ' '}"
    return f"{_number(summary.median)} ±{summary.spread * 50:.0f}%"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def as_json(facts: Mapping[str, str], done: Sequence[tuple[Row, Sequence[Result]]], us: str) -> dict[str, Any]:
    rows = []
    for row, results in done:
        targets = [
            {"against": list(t.against), "column": t.column, "times": t.times, "is": found[0], "reached": found[1]}
            for t in row.targets
            if (found := judge(t, results, us)) is not None
        ]
        rows.append({
            "row": row.name, "title": row.title, "unit": row.unit, "targets": targets,
            "results": {result.contender: _numbers(result) for result in results},
        })  # fmt: skip
    return {"facts": dict(facts), "us": us, "rows": rows}


def _numbers(result: Result) -> dict[str, Any]:
    if result.error:
        return {"error": result.error}
    found: dict[str, Any] = {"notes": sorted({figure.note for figure in result.figures if figure.note})}
    for column in COLUMNS:
        if (summary := result.summary(column)) is not None:
            found[column] = {"median": summary.median, "spread": summary.spread,
                             "rounds": [getattr(figure, column) for figure in result.figures]}  # fmt: skip
    return found
