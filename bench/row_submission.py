"""A row of mail that people submit: log-in, one message, 250 when it is on the disk. The peer is Postfix with Dovecot's
log-in service.
"""

from __future__ import annotations

from bench.dialogue import submission
from bench.figure import Figure
from bench.row import Row, Target, run_load, scaled
from bench.stage import PEOPLE, US, Contender, Stage
from bench.talk import Work


def _submit(stage: Stage, contender: Contender, scale: float) -> Figure:
    people = PEOPLE[: scaled(len(PEOPLE), min(1.0, scale), 5)]
    port, steps = contender.ports["submission"], submission(10 << 10)
    if contender.name not in stage.warmed:
        stage.warmed.add(contender.name)
        run_load(contender, Work("127.0.0.1", port, steps, sessions=len(people) * 6, at_once=10, users=people))
    work = Work("127.0.0.1", port, steps, sessions=scaled(2000, scale, 20), at_once=20, users=people)
    return run_load(contender, work)[0]


def _mail(stage: Stage, name: str) -> Contender:
    return stage.mail(name, relay=False, tag="submission")


ROWS = [
    Row("submission", "Submission: log-in and one message, 20 sessions, 10 KB", "CPU-s per 1,000 messages",
        ("postfix", US), _mail, _submit, leave=Stage.drop_all, targets=(Target(("postfix",), 0.25),)),
]  # fmt: skip
