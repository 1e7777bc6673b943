"""Two edges with a PostgreSQL between them: whose linker is active dies, or is frozen, in the middle of its work. The
other edge's goes on from what is saved; one that wakes up finds that the lease is gone and does nothing more.
ONEDOMAIN_LONG=1: all ways.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_edges_failover import Pair, leader, new_pair, whole
from tests.acceptance.test_failover import LONG, judged, log_in
from tests.acceptance.test_links import mailbox, send
from tests.backend.link.mailbox import append_many
from tests.lab.process import wait_until

PEOPLE = 150
MESSAGES = 6_000
"""Of 4 KB: a first copy that takes seconds."""
FROZEN = 8.0
"""Seconds: longer than the lease of the links, shorter than a supervisor's patience with a process that hangs."""
WAYS = ["the linker is frozen", *(["the edge dies", "the linker dies"] if LONG else [])]


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield new_pair(stack, people=request.param)


def linker(cluster: Cluster, edge: int) -> int:
    return int(control(cluster.edges[edge], "status")["processes"]["linker"])


async def strike(cluster: Cluster, edge: int, process: int, way: str) -> None:
    """Afterwards a linker is active; what was frozen has woken up."""
    door = cluster.edges[edge]
    if way == "the edge dies":
        door.kill()
    elif way == "the linker dies":
        os.kill(process, signal.SIGKILL)
    else:
        os.kill(process, signal.SIGSTOP)
        await asyncio.sleep(FROZEN)
        os.kill(process, signal.SIGCONT)
    other = cluster.edges[1 - edge]

    def active() -> bool:
        found = control(other, "status")["links"].get("at")
        return bool(found) and (way == "the linker dies" or found == other.name)

    wait_until(active, "a linker is active", 30)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pair", [PEOPLE], indirect=True)
async def test_in_the_middle_of_promotions(pair: Pair, way: str) -> None:
    cluster = pair.cluster
    send(cluster, *cluster.people)
    cluster.await_quiet()
    wait_until(lambda: whole(cluster), "all whole", 60)
    known = {account: mailbox(cluster, "a", account)["INBOX"] for account in cluster.people[::25]}
    edge = leader(cluster)
    process = linker(cluster, edge)
    cluster.homes["a"].lab.kill()
    until = time.monotonic() + 30
    while not (settled := int(pair.ask("select count(*) from promotion where settled > 0"))):
        assert time.monotonic() < until, "no promotion"
    await strike(cluster, edge, process, way)
    print(f"{way}: {settled} of {PEOPLE} promotions were settled")
    done = "select count(*) from account where primary_server = 'b' and epoch = 2 and not pending"
    wait_until(lambda: int(pair.ask(done)) == PEOPLE, "all promotions, each once", 60)
    for account, (validity, messages) in known.items():
        (await asyncio.to_thread(log_in, cluster, account, 1 - edge)).logout()
        assert mailbox(cluster, "b", account)["INBOX"] == (validity, messages), "as they were, once"
    if way == "the edge dies":
        cluster.edges[edge].start()
    judged(cluster, "b")
    assert settled < PEOPLE, "it was over before anything happened"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pair", [1], indirect=True)
async def test_in_the_middle_of_a_first_copy(pair: Pair, way: str) -> None:
    cluster = pair.cluster
    (ann,) = cluster.people
    wait_until(lambda: whole(cluster), "whole", 30)
    edge = leader(cluster)
    process = linker(cluster, edge)
    cluster.edge.run("account", "set", ann, "--replica", "")
    with cluster.homes["a"].mailbox(ann).open() as session:
        for start in range(0, MESSAGES, 200):
            append_many(session, "INBOX", [b"Subject: %d\r\n\r\n" % n + b"x" * 4_000
                                           for n in range(start, start + 200)])
    cluster.edge.run("account", "set", ann, "--replica", "b")
    until = time.monotonic() + 30
    while not 0 < (there := copied(cluster, ann)) < MESSAGES:
        assert time.monotonic() < until and not there, "the copy was over before anybody saw it"
    await strike(cluster, edge, process, way)
    print(f"{way}: {there} of {MESSAGES} were seen there")
    other = cluster.edges[1 - edge]
    wait_until(lambda: all(one["whole"] and not one["uncovered"] for one in control(other, "status")["links"]["pairs"])
               and copied(cluster, ann) >= MESSAGES, "the whole copy", 60)
    assert mailbox(cluster, "a", ann) == mailbox(cluster, "b", ann), "each message once, under its UID"


def copied(cluster: Cluster, account: str) -> int:
    with cluster.homes["b"].mailbox(account).open() as session:
        return int(session.select("INBOX", readonly=True)[1][0] or 0)
