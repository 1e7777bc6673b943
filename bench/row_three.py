"""A row of several servers behind us: what three take together that one takes alone, all on disks of the same speed."""

from __future__ import annotations

from bench.dialogue import MESSAGE, smtp
from bench.figure import Figure
from bench.row import Row, Target, scaled
from bench.row_relay import relayed
from bench.stage import PEOPLE, US, Contender, SinkServer, Stage
from bench.talk import Work

WRITES = 200.0
"""Messages a second that a server's disk takes: the sink answers no faster. One disk of ours can't be three."""

ONE = "one server"


def _start(stage: Stage, name: str) -> Contender:
    def make() -> Contender:
        homes = [SinkServer(stage.new_folder("s"), disk=WRITES) for _ in range(1 if name == ONE else 3)]
        edge = stage.edge(*(home.behind for home in homes))
        return Contender(name, edge, edge.port, tuple(homes))

    return stage.get(f"three {name}", make)


def _measure(stage: Stage, contender: Contender, scale: float) -> Figure:
    """Cost is ours; that of the servers is not in it."""
    homes = [home for home in contender.others if isinstance(home, SinkServer)]
    work = Work(
        "127.0.0.1", contender.ports["smtp"], smtp(10 << 10), sessions=20, at_once=20, repeat=MESSAGE,
        times=scaled(100, scale), users=PEOPLE,
    )  # fmt: skip
    alone = Contender(contender.name, contender.server, contender.ports)
    return relayed(alone, work, lambda: sum(home.taken() for home in homes))


ROWS = [
    Row("three", f"Deliveries to one server and to three, each {WRITES:g} messages/s by its disk",
        "CPU-s per 1,000 messages", (ONE, US), _start, _measure, targets=(Target((ONE,), 1.4, "rate"),), rounds=2,
        leave=Stage.drop_all),
]  # fmt: skip
