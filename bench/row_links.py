"""Rows of what a second copy of every mailbox costs an edge: the same work with links, and without.

The homes are nodes, real ones, as links need folders to read and write; their CPU time is counted nowhere. Cost is
until all is delivered and, with links, copied.
"""

from __future__ import annotations

import smtplib
import time
from dataclasses import replace
from functools import partial

from tests.acceptance.cluster import KINDS, queued
from tests.lab.edge import Edge

from bench.dialogue import IMAP_FLAGS, MESSAGE, smtp
from bench.figure import Figure
from bench.load import Load
from bench.row import Row, figure_of, run_load, scaled
from bench.row_lag import whole
from bench.stage import PEOPLE, US, Contender, Stage, hashed, people_file
from bench.talk import LoadError, Work

LINKED = "onedomain-linked"
"""Everybody with a replica on another node."""

PATIENCE = 60.0
LOOK_EVERY = 0.1
AT_ONCE = 20


def _start(stage: Stage, name: str) -> Contender:
    def make() -> Contender:
        folder = stage.new_folder("l")
        homes = [KINDS["node"](folder, where) for where in ("one", "two")]
        stage.run(*(home.lab for home in homes))
        homes[0].lab.prepare(*PEOPLE)
        edge = stage.edge_before([home.table for home in homes])
        mine = hashed()
        file = people_file(edge, ((person, "one", mine) for person in PEOPLE), "two" if name == LINKED else "")
        edge.run("account", "import", file)
        return Contender(name, edge, edge.port)

    place = f"links {name}"  # other rows have somebody of that name, too
    contender = stage.get(place, make)
    if place not in stage.warmed:
        stage.warmed.add(place)
        host, port = "127.0.0.1", contender.ports["smtp"]
        with smtplib.SMTP(host, port) as session:  # one message for everybody, whose flags can be changed
            session.sendmail("a@example.net", PEOPLE, b"Subject: first\r\n\r\n")
        _await_done(contender)
        run_load(contender, Work(host, contender.ports["imap"], IMAP_FLAGS, sessions=500, at_once=10, users=PEOPLE))
    _await_done(contender)
    return contender


def _await_done(contender: Contender) -> None:
    """Seldom asked: each answer is the edge's work, too."""
    edge, until = contender.server, time.perf_counter() + PATIENCE
    assert isinstance(edge, Edge)
    while queued(edge) != 0 or (contender.name == LINKED and not whole(edge)):
        if time.perf_counter() > until:
            raise LoadError(f"not everything is delivered and copied in {PATIENCE:g} s")
        time.sleep(LOOK_EVERY)


def _measure(protocol: str, stage: Stage, contender: Contender, scale: float) -> Figure:
    total = scaled(2000, scale, 40)
    if protocol == "smtp":
        work = Work("127.0.0.1", contender.ports["smtp"], smtp(10 << 10), sessions=AT_ONCE, at_once=AT_ONCE,
                    repeat=MESSAGE, times=total // AT_ONCE, users=PEOPLE)  # fmt: skip
    else:
        work = Work("127.0.0.1", contender.ports["imap"], IMAP_FLAGS, sessions=total, at_once=AT_ONCE, users=PEOPLE)
    load = Load(work)
    try:
        before, began = contender.cpu(), time.perf_counter()
        done = load.go()
        _await_done(contender)
        seconds = time.perf_counter() - began
        spent = contender.cpu() - before
    finally:
        load.end()
    return replace(figure_of(done, spent, total), note=f"all done after {seconds:.1f} s")


BOTH = (US, LINKED)

ROWS = [
    Row("relay-linked", "Deliveries to a node, with links and without", "CPU-s per 1,000 messages", BOTH, _start,
        partial(_measure, "smtp"), rounds=3),
    Row("imap-linked", "IMAP session that changes two flags, with links and without", "CPU-s per 1,000 sessions", BOTH,
        _start, partial(_measure, "imap"), rounds=3, leave=Stage.drop_all),
]  # fmt: skip
