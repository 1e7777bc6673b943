"""Processes of an edge are killed with SIGKILL, at random moments under load and at every named point.

Nothing acknowledged is lost. Nothing is there twice where the home can be asked for a delivery; where it can't, each
second copy is one that the trace announced.

ONEDOMAIN_SEED replays a run, ONEDOMAIN_LONG=1 makes it fifty moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from onedomain.ledger.verify import Finding, Report
from onedomain.queue import crash
from tests.acceptance.cluster import KINDS, Cluster, control
from tests.acceptance.conftest import new_folder, started
from tests.acceptance.load import QUICK, SEED, acknowledged, load
from tests.lab.edge import Edge
from tests.lab.process import wait_until

LONG = os.environ.get("ONEDOMAIN_LONG") == "1"
MOMENTS = 50 if LONG else 12


def children(edge: Edge) -> dict[str, int]:
    """The process id of each child, as the supervisor last told it."""
    return {event["child"]: event["pid"] for event in edge.events("process started", "supervisor")}


def died(edge: Edge) -> int:
    """How many children the supervisor has seen killed."""
    return sum(event["status"] == -signal.SIGKILL for event in edge.events("process died", "supervisor"))


class ServiceManager:
    """Kills what it is told and does what systemd would: starts the edge again when its first process is gone."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self._left: list[Any] = []

    def kill(self, role: str) -> None:
        """`role`: a child by its name, "supervisor", or "all" at one instant. Returns when the edge is whole again."""
        if role == "all":
            self.edge.kill()
            self.edge.start()
        elif role == "supervisor":
            # Its children end by themselves, and the new ones have to get along with them.
            assert self.edge.tree
            self._left.append(self.edge.tree)
            os.kill(self.edge.pids[0], signal.SIGKILL)
            self.edge.start()
        else:
            pid = children(self.edge)[role]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: children(self.edge)[role] != pid and self.edge.control_answers(), f"another {role}")

    def leave(self) -> None:
        for tree in self._left:
            wait_until(lambda tree=tree: not tree.running, "the end of a dead supervisor's children", 40)


def unexplained(cluster: Cluster, report: Report) -> list[Finding]:
    """What is red, but for second copies at homes without look-up that the trace announced."""
    events = cluster.edge.events()
    queue_ids: dict[str, set[str]] = {}
    for event in events:
        if "queue_id" in event and "message_id" in event:
            queue_ids.setdefault(event["message_id"], set()).add(event["queue_id"])
    lost = {(event["queue_id"], event["account"]) for event in events if event["event"] == "lost answer"}

    def announced(finding: Finding) -> bool:
        ids = queue_ids.get(f"<{finding.token}@ledger.example.org>", set())
        blind = cluster.homes[cluster.accounts[finding.account]].table["kind"] == "imap"
        return blind and any((id, finding.account) in lost for id in ids)

    return [finding for finding in report.findings if finding.kind != "doubled" or not announced(finding)]


@pytest.mark.slow
@pytest.mark.timeout(1200 if LONG else 300)
async def test_random_moments(make_cluster: Callable[..., Cluster]) -> None:
    print(f"ONEDOMAIN_SEED={SEED}")
    rng = random.Random(SEED)
    cluster = make_cluster("dovecot", "cyrus", "node", "generic", people=4, extra=QUICK)
    manager = ServiceManager(cluster.edge)
    # Every process at least twice, in any order.
    roles = ["worker-0", "worker-1", "keeper", "supervisor", "all"]
    moments = [*roles, *roles, *rng.choices(["worker-0", "worker-1"], k=MOMENTS - 10)]
    rng.shuffle(moments)
    async with load(cluster, recipients_per_message=5) as running:
        for role in moments:
            await asyncio.sleep(rng.uniform(0, 0.7))
            await asyncio.to_thread(manager.kill, role)
            await acknowledged(running, 1)
    manager.leave()
    outcome = running.outcome
    assert not outcome.refused, outcome.summary()
    cluster.await_quiet()
    report = cluster.verify()
    print(Counter(moments), outcome.summary(), report.table(), sep="\n")
    red = unexplained(cluster, report)
    assert not red, f"ONEDOMAIN_SEED={SEED}\n{red}\n{report.table()}"
    assert report.acknowledged > 10 * MOMENTS
    assert cluster.homes["n1"].lab.check()["clean"]


# -- named points


@pytest.fixture(scope="module")
def brittle() -> Iterator[Cluster]:
    """Homes for the whole module, and one edge, which each test starts as it wants it.

    At n2 nobody exists whom the directory knows, so that it refuses for good.
    """
    with ExitStack() as stack:
        folder = new_folder(stack)
        homes = [KINDS[kind](folder) for kind in ("dovecot", "cyrus", "node")]
        homes.append(KINDS["node"](folder, "n2", users={"somebody@example.com": "x"}))
        cluster = started(stack, homes, folder / "edges", people=3, workers=1, extra=QUICK)
        cluster.edge.stop()
        yield cluster


@pytest.fixture(autouse=True)
def as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "brittle" in request.fixturenames:
        cluster = request.getfixturevalue("brittle")
        cluster.edge.kill()
        cluster.edge.environment.clear()
        cluster.edge.tables["edge"]["workers"] = 1
        cluster.edge.write()


def start_to_crash(edge: Edge, point: str, count: int = 1) -> int:
    """Start the edge so that it dies there; how many had died before."""
    edge.environment[crash.VARIABLE] = f"{point}:{count}"
    before = died(edge)
    edge.start()
    return before


def await_crash(edge: Edge, before: int) -> None:
    """Until a worker has died, then the rest with it; the edge is started again as if nothing had been."""
    wait_until(lambda: died(edge) > before, "the crash")
    edge.kill()
    edge.environment.clear()
    edge.start()


@pytest.mark.parametrize("point", [
    crash.AFTER_WRITE, crash.AFTER_SYNC, crash.AFTER_250, crash.AFTER_ATTEMPT, crash.AFTER_FAR_250, crash.AFTER_RECORD,
])
async def test_named_points_of_a_delivery(brittle: Cluster, point: str) -> None:
    edge = brittle.edge
    before = await asyncio.to_thread(start_to_crash, edge, point, 5)
    async with load(brittle, recipients=brittle.of("d1", "c1", "n1"), recipients_per_message=4) as running:
        await asyncio.to_thread(await_crash, edge, before)
        await acknowledged(running, 30)
    assert running.outcome.failures and not running.outcome.refused, running.outcome.summary()
    brittle.assert_exact(brittle.of("d1", "c1", "n1"))


async def test_between_a_bounce_and_its_record(brittle: Cluster) -> None:
    """The sender is told once, although the failure had not been noted when the worker died."""
    edge = brittle.edge
    sender, nobody = brittle.of("n1")[0], brittle.of("n2")[0]
    had = len(brittle.messages(sender))
    before = await asyncio.to_thread(start_to_crash, edge, crash.AFTER_BOUNCE)
    apart = brittle.folder / "refused.jsonl"
    outcome = await brittle.send(count=1, recipients=[nobody], sender=sender, odd_senders=False, ledger=apart)
    assert outcome.acked == 1
    await asyncio.to_thread(await_crash, edge, before)
    brittle.await_quiet()
    reports = brittle.messages(sender)[had:]
    assert len(reports) == 1 and b"Action: failed" in reports[0] and nobody.encode() in reports[0]


async def test_in_compaction(brittle: Cluster) -> None:
    """A few messages wait for a home that is down in a segment whose others are long gone."""
    edge = brittle.edge
    await asyncio.to_thread(edge.start)
    brittle.homes["n1"].lab.kill()
    try:
        await brittle.send(count=3, recipients=brittle.of("n1"), kinds=["plain"], max_size=1024)
        await brittle.send(count=60, recipients=brittle.of("d1"), kinds=["plain"], max_size=8 << 10)
        wait_until(lambda: control(edge, "status")["queue"]["messages"] <= 3, "only those that wait", 30)
        await asyncio.to_thread(edge.stop)
        before = await asyncio.to_thread(start_to_crash, edge, crash.IN_COMPACTION)
        # What comes now is put into a new segment; its outcomes make the edge look after the old one.
        async with load(brittle, recipients=brittle.of("d1")):
            await asyncio.to_thread(await_crash, edge, before)
    finally:
        brittle.homes["n1"].lab.start()
    brittle.assert_exact(brittle.of("d1", "c1", "n1"))


async def test_in_adoption(brittle: Cluster) -> None:
    """Fewer workers than before: one takes over the spool of a slot that is no more, and dies of it."""
    edge = brittle.edge
    edge.tables["edge"]["workers"] = 2
    edge.write()
    await asyncio.to_thread(edge.start)
    brittle.homes["n1"].lab.kill()
    try:
        await brittle.send(count=40, recipients=brittle.of("n1"), per_session=1)
        waiting = {one["slot"]: one["queue"] for one in control(edge, "status")["workers"]}
        assert waiting[0] + waiting[1] == 40 and waiting[1], waiting
        await asyncio.to_thread(edge.kill)
        edge.tables["edge"]["workers"] = 1
        edge.write()
        edge.environment[crash.VARIABLE] = crash.IN_ADOPTION
        before = died(edge)
        edge.tree = edge._launch()  # it can't get ready
        await asyncio.to_thread(await_crash, edge, before)
        # Nobody waits for the adoption, neither mail nor people.
        wait_until(lambda: control(edge, "status")["queue"]["messages"] == 40, "all that was there")
    finally:
        brittle.homes["n1"].lab.start()
    brittle.assert_exact(brittle.of("d1", "c1", "n1"))


def test_every_point_is_here() -> None:
    """A point that somebody adds wants a test."""
    tested = {crash.AFTER_WRITE, crash.AFTER_SYNC, crash.AFTER_250, crash.AFTER_ATTEMPT, crash.AFTER_FAR_250,
              crash.AFTER_RECORD, crash.AFTER_BOUNCE, crash.IN_COMPACTION, crash.IN_ADOPTION}
    # These want a link and a promotion: tests/queue/test_kill.py.
    elsewhere = {crash.IN_SETTING_ASIDE, crash.AFTER_RESCUE}
    assert tested | elsewhere == crash.POINTS


async def test_a_shutdown_with_mail_under_way(make_cluster: Callable[..., Cluster]) -> None:
    """What a service manager does at each update. Spools are closed with messages that wait for a dead home, with
    deliveries on their way and clients in the middle of theirs; nothing has to be mended or looked up afterwards.
    """
    cluster = make_cluster("dovecot", "node", people=4, extra=QUICK)
    async with load(cluster, recipients_per_message=3) as running:
        await acknowledged(running, 60)
        await asyncio.to_thread(cluster.homes["d1"].lab.kill)
        await acknowledged(running, 60)
        for _ in range(2):
            before = time.monotonic()
            await asyncio.to_thread(cluster.edge.stop)
            assert time.monotonic() - before < 25, "however much waits"
            await asyncio.to_thread(cluster.edge.start)
            await acknowledged(running, 30)
        await asyncio.to_thread(cluster.homes["d1"].lab.start)
    assert not running.outcome.refused, running.outcome.summary()
    cluster.assert_exact()
    ended = cluster.edge.events("process ended", "supervisor")
    assert ended and {event["status"] for event in ended} == {0}, "every process comes to its own end"
    assert not cluster.edge.events("process died", "supervisor")
    told = {event["event"] for event in cluster.edge.events()}
    assert not told & {"spool damaged", "spool unreadable", "spool not adopted", "worker failed", "part failed"}, told
