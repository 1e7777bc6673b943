"""Rows of mail accepted: the 250 after the dot leaves when the message is on the disk. The peer is Postfix."""

from __future__ import annotations

from bench.dialogue import MESSAGE, smtp
from bench.figure import Figure
from bench.row import Measure, Row, Target, run_load, scaled
from bench.stage import PEOPLE, US, Contender, Stage
from bench.talk import Work

PEERS = ("postfix", US)
PER_MESSAGE = "CPU-s per 1,000 messages"


def _mail(stage: Stage, name: str) -> Contender:
    return stage.mail(name, relay=False)


def _accept(sessions: int, size: int, *, count: int, persistent: bool) -> Measure:
    def measure(stage: Stage, contender: Contender, scale: float) -> Figure:
        total = scaled(count, scale, sessions)
        times = max(1, total // sessions) if persistent else 1
        work = Work(
            "127.0.0.1", contender.ports["smtp"], smtp(size), sessions=sessions if persistent else total,
            at_once=sessions, repeat=MESSAGE, times=times, users=PEOPLE,
        )  # fmt: skip
        return run_load(contender, work)[0]

    return measure


def _row(
    name: str, title: str, sessions: int, size: int, count: int, *, persistent: bool = False, **more: object
) -> Row:
    return Row(
        name, title, PER_MESSAGE, PEERS, _mail, _accept(sessions, size, count=count, persistent=persistent),
        leave=lambda stage: stage.drop("postfix accept ", f"{US} accept "), **more,  # type: ignore[arg-type]
    )  # fmt: skip


GOAL = (Target(("postfix",), 0.25), Target(("postfix",), 3.0, "rate"))
KB, MB = 10 << 10, 1 << 20

ROWS = [
    _row("smtp-1", "SMTP accepted, 1 session, 10 KB", 1, KB, 400),
    _row("smtp-1-many", "SMTP accepted, 1 session, many messages, 10 KB", 1, KB, 400, persistent=True),
    _row("smtp", "SMTP accepted, 20 sessions, 10 KB", 20, KB, 3000, targets=GOAL),
    _row("smtp-many", "SMTP accepted, 20 sessions, many messages, 10 KB", 20, KB, 4000, persistent=True, targets=GOAL),
    _row("smtp-200", "SMTP accepted, 200 sessions, 10 KB", 200, KB, 4000),
    _row("smtp-200-many", "SMTP accepted, 200 sessions, many messages, 10 KB", 200, KB, 6000, persistent=True),
    _row("smtp-1mb", "SMTP accepted, 20 sessions, 1 MB", 20, MB, 200),
]
