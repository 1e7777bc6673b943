"""make bench: python -m bench [--rows a,b] [--rounds N] [--quick] [--json] [--list]

Rounds are interleaved: every contender once, then every contender again in another order, so that what else the
machine does hits all of them alike.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import pytest

from bench import (
    machine,
    row_idle,
    row_imap,
    row_lag,
    row_links,
    row_recovery,
    row_relay,
    row_reload,
    row_smtp,
    row_submission,
    row_sync,
    row_three,
    table,
)
from bench.figure import Result
from bench.row import Row
from bench.stage import US, Stage

PARTS = (row_imap, row_idle, row_smtp, row_relay, row_submission, row_reload, row_recovery, row_three, row_links)
ROWS = [row for part in PARTS for row in part.ROWS]
QUICK = 0.1


def measure(stage: Stage, row: Row, rounds: int, scale: float) -> list[Result]:
    """A contender that fails is out of the row, and its error stands in the table."""
    results = {name: Result(name) for name in row.contenders}
    try:
        for turn in range(rounds):
            order = row.contenders[turn % len(row.contenders) :] + row.contenders[: turn % len(row.contenders)]
            for name in order:
                if not results[name].error:
                    _once(stage, row, results[name], scale)
    finally:
        row.leave(stage)
    return list(results.values())


def _once(stage: Stage, row: Row, result: Result, scale: float) -> None:
    try:
        contender = row.prepare(stage, result.contender)
        result.figures.append(row.measure(stage, contender, scale))
    except pytest.skip.Exception as missing:
        result.error = str(missing)
    except Exception as problem:  # noqa: BLE001  the other figures are worth having; this one says why it is not there
        result.error = f"{type(problem).__name__}: {problem}".splitlines()[0]
        print(f"{row.name}, {result.contender}: {problem}", file=sys.stderr)


def chosen(rows: list[Row], names: str) -> list[Row]:
    if not names:
        return rows
    known = {row.name: row for row in rows}
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rows", default="", help="only these, separated by commas")
    parser.add_argument("--rounds", type=int, default=0, help="instead of each row's own number")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: shows that it runs, not how fast")
    parser.add_argument("--sync", action="store_true", help="the rows of make bench-sync")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--list", action="store_true", help="the names of the rows")
    options = parser.parse_args(words)
    rows = chosen([*row_sync.ROWS, *row_lag.ROWS] if options.sync else ROWS, options.rows)
    if options.list:
        print("\n".join(f"{row.name:20} {row.title}" for row in rows))
        return 0
    stage = Stage.open()
    try:
        facts = machine.facts(stage.folder)
        done: list[tuple[Row, list[Result]]] = []
        for row in rows:
            print(f"{row.title} …", file=sys.stderr, flush=True)
            rounds = options.rounds or (2 if options.quick else row.rounds)
            done.append((row, measure(stage, row, rounds, QUICK if options.quick else 1.0)))
    finally:
        stage.close()
    if options.json:
        print(json.dumps(table.as_json(facts, done, US), indent=1, ensure_ascii=False))
    else:
        print(table.render(facts, done, US))
    return int(any(result.error for _, results in done for result in results))


if __name__ == "__main__":
    sys.exit(main())
