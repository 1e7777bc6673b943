"""Rows of `make bench-sync`: one new message on its way through a running edge, its server, and the link to the copy.

Everything is on, as in an installation: spool, log, probes, safety net. The clock starts when the edge's 250 has come.
Cost is that of the edge and both servers together.
"""

from __future__ import annotations

import smtplib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from tests.acceptance.cluster import KINDS, Cluster, Home, add_accounts, control
from tests.lab.edge import Edge
from tests.lab.process import wait_until

from bench.dialogue import message
from bench.figure import Figure, percentile
from bench.row import Row, Target, scaled
from bench.row_sync import SIZE
from bench.stage import US, Contender, Stage
from bench.watcher import PATIENCE, Watcher

TRIALS = 200
PAUSE = 0.02
"""Between two messages: what is measured is the way of one, not of a queue."""


class Linked(Contender):
    cluster: Cluster

    __slots__ = ("cluster",)


def _start(pair: tuple[str, str], stage: Stage, name: str) -> Contender:
    def make() -> Contender:
        folder = stage.new_folder("l")
        homes: list[Home] = [KINDS[kind](folder, where) for kind, where in zip(pair, ("one", "two"), strict=True)]
        cluster = Cluster(folder / "edge", homes, people=1, replicas={"one": "two"}, lives=["one"])
        add_accounts(cluster.edge, cluster.accounts.items(), replicas=cluster.replicas)
        made = Linked(name, cluster.edge, {}, tuple(home.lab for home in homes))
        object.__setattr__(made, "cluster", cluster)
        return made

    contender = stage.get("lag " + " ".join(pair), make)
    assert isinstance(contender, Linked)
    cluster = contender.cluster
    for home in cluster.homes.values():
        home.lab.prepare(*cluster.people)
    wait_until(lambda: whole(cluster.edge), "the link", PATIENCE)
    return contender


def whole(edge: Edge) -> bool:
    """Whether there are links, and none has anything to carry."""
    pairs: list[dict[str, Any]] = control(edge, "status")["links"]["pairs"]
    return bool(pairs) and all(pair["whole"] == pair["accounts"] and not pair["uncovered"] for pair in pairs)


def _lag(stage: Stage, contender: Contender, scale: float) -> Figure:
    assert isinstance(contender, Linked)
    cluster, trials = contender.cluster, scaled(TRIALS, scale, 10)
    [account] = cluster.people
    labs = [cluster.homes[name].lab for name in ("one", "two")]
    primary, copy = (Watcher(lab.imap(account)) for lab in labs)
    before, have = contender.cpu(), primary.count
    first: list[float] = []
    second: list[float] = []
    body = message(SIZE)[:-3]
    with ThreadPoolExecutor(1) as threads, smtplib.SMTP(cluster.edge.host, cluster.edge.port["smtp"]) as session:
        for number in range(1, trials + 1):
            # One of them at a time: they take what they look with from those whom they look at.
            watcher, seen = (primary, first) if number % 4 == 0 else (copy, second)
            watching = threads.submit(watcher.until, have + number)
            session.sendmail("a@example.net", [account], b"X-Number: %d\r\n" % number + body)
            began = time.perf_counter()
            seen.append(watching.result() - began)
            copy.until(have + number)
            time.sleep(PAUSE)
    primary.close()
    copy.close()
    own = percentile(first, 0.5) * 1000
    return Figure(
        cost=(contender.cpu() - before) / trials * 1000, p50=percentile(second, 0.5) * 1000,
        p99=percentile(second, 0.99) * 1000, note=f"at the primary after {own:.1f} ms",
    )  # fmt: skip


def _row(source: str, target: str, goal: float | None) -> Row:
    title = f"From an edge's 250 until the copy can be read, {source.capitalize()} to {target.capitalize()}"
    targets = (Target((), goal, "p50"),) if goal else ()
    return Row(f"lag-edge-{source}-{target}", title, "ms CPU per message", (US,), partial(_start, (source, target)),
               _lag, targets=targets, rounds=3, leave=Stage.drop_all)


ROWS = [_row("dovecot", "dovecot", 10.0), _row("dovecot", "cyrus", 25.0), _row("cyrus", "dovecot", None),
        _row("node", "node", None)]  # fmt: skip
