"""A row of a machine that comes back: kill -9 with 100,000 messages in the spool, and how long till it serves."""

from __future__ import annotations

import time

from bench.dialogue import MESSAGE, smtp
from bench.figure import Figure
from bench.row import Row, run_load, scaled
from bench.stage import PEOPLE, US, Contender, Stage
from bench.talk import Work

MESSAGES, SIZE, SESSIONS = 100_000, 1000, 100


def _fill(contender: Contender, messages: int) -> None:
    times = max(1, messages // SESSIONS)
    run_load(contender, Work("127.0.0.1", contender.ports["smtp"], smtp(SIZE), sessions=SESSIONS, at_once=SESSIONS,
                             repeat=MESSAGE, times=times, users=PEOPLE))  # fmt: skip


def _measure(stage: Stage, contender: Contender, scale: float) -> Figure:
    """Seconds from the start of the program to the first greeting of every worker, the spool read again. The page cache
    is warm, as after a crash of the program; after one of the machine the disk has to be read, too.
    """
    messages = scaled(MESSAGES, scale, SESSIONS)
    key = f"{contender.name} filled"
    if key not in stage.warmed:
        stage.warmed.add(key)
        _fill(contender, messages)
    contender.server.kill()
    began = time.perf_counter()
    contender.server.start()
    seconds = time.perf_counter() - began
    return Figure(cost=seconds, rate=messages / seconds, note=f"{messages:,} messages, {contender.cpu():.1f} CPU-s")


def _mail(stage: Stage, name: str) -> Contender:
    return stage.mail(name, relay=False, tag="recovery")


ROWS = [
    Row("recovery", "Recovery of a spool of 100,000 messages", "seconds until it serves", (US,), _mail, _measure,
        leave=Stage.drop_all, rounds=3),
]  # fmt: skip
