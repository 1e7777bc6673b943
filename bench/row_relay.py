"""Rows of mail that goes on: taken, handed to the next server, and noted as done. The peer is Postfix."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from bench.dialogue import MESSAGE, smtp
from bench.figure import Figure
from bench.load import Load
from bench.row import Measure, Row, Target, figure_of, scaled
from bench.stage import PEOPLE, US, Contender, Stage
from bench.talk import LoadError, Work

PATIENCE = 60.0
NOTED = 0.15
"""Seconds after the last delivery: our done-records are synced every 50 ms, Postfix removes its files meanwhile."""


def relayed(contender: Contender, work: Work, taken: Callable[[], int]) -> Figure:
    """Rate and cost until the last message is at the next server, where so many have been `taken`. Latencies are those
    of the acceptance.
    """
    messages = work.sessions * work.times
    before_taken = taken()
    load = Load(work)
    try:
        before, began = contender.cpu(), time.perf_counter()
        done = load.go()
        _await(taken, before_taken + messages)
        seconds = time.perf_counter() - began
        time.sleep(NOTED)
        spent = contender.cpu() - before
    finally:
        load.end()
    return replace(figure_of(done, spent, messages), rate=messages / seconds)


def _await(taken: Callable[[], int], wanted: int) -> None:
    until = time.perf_counter() + PATIENCE
    while (count := taken()) < wanted:
        if time.perf_counter() > until:
            raise LoadError(f"{wanted - count} messages have not arrived at the next server in {PATIENCE:g} s")
        time.sleep(0.005)


def _relay(*, persistent: bool) -> Measure:
    def measure(stage: Stage, contender: Contender, scale: float) -> Figure:
        total = scaled(3000, scale, 20)
        work = Work(
            "127.0.0.1", contender.ports["smtp"], smtp(10 << 10), sessions=20 if persistent else total, at_once=20,
            repeat=MESSAGE, times=max(1, total // 20) if persistent else 1, users=PEOPLE,
        )  # fmt: skip
        return relayed(contender, work, stage.sink.taken)

    return measure


def _mail(stage: Stage, name: str) -> Contender:
    return stage.mail(name, relay=True)


GOAL = (Target(("postfix",), 0.2), Target(("postfix",), 4.0, "rate"))

ROWS = [
    Row("relay", "Relay, in and out, 20 sessions, 10 KB", "CPU-s per 1,000 messages", ("postfix", US), _mail,
        _relay(persistent=False), targets=GOAL),
    Row("relay-many", "Relay, in and out, 20 sessions, many messages, 10 KB", "CPU-s per 1,000 messages",
        ("postfix", US), _mail, _relay(persistent=True), targets=GOAL, leave=Stage.drop_all),
]  # fmt: skip
