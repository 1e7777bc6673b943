"""Two edges with a PostgreSQL between them: a server dies, an edge dies with it, an edge can't reach the database.

Mailboxes are read at the servers themselves, the ledger is the senders' own.
"""

from __future__ import annotations

import asyncio
import imaplib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.acceptance.cluster import KINDS, PASSWORD, Cluster, control
from tests.acceptance.conftest import new_folder
from tests.acceptance.test_failover import AUTOMATIC, home, judged, log_in
from tests.acceptance.test_links import pairs, send
from tests.conftest import _running
from tests.lab.postgres import Postgres
from tests.lab.process import wait_until
from tests.lab.relay import Relay


@dataclass
class Pair:
    """`lines`: each edge's way to the database, which can be cut; `ask` it by SQL, past them."""

    cluster: Cluster
    lines: list[Relay]
    ask: Callable[[str], str]


def new_pair(stack: ExitStack, extra: Mapping[str, Any] | None = None, people: int = 2) -> Pair:
    folder = new_folder(stack)
    (folder / "pg").mkdir(mode=0o755)
    database = Postgres(folder / "pg", durable=False)
    stack.callback(database.kill)
    database.start()
    name = database.create_database()
    homes = [KINDS["node"](folder, "a"), KINDS["node"](folder, "b")]
    cluster = Cluster(folder / "edges", homes, people=people, edges=2, lives=["a"], replicas={"a": "b"},
                      extra={**AUTOMATIC, **(extra or {})})  # fmt: skip
    stack.callback(cluster.kill)
    lines = []
    for edge in cluster.edges:
        line = Relay("127.0.0.1", database.port)
        line.start()
        stack.callback(line.stop)
        lines.append(line)
        url = database.url(name, "postgresql").replace(f":{database.port}/", f":{line.port}/")
        edge.tables["directory"] = {"url": url}
        edge.write()
    for server in (database, *cluster.servers):
        _running.append(server)
        stack.callback(_running.remove, server)
    cluster.start()
    return Pair(cluster, lines, lambda statement: database.execute(statement, name))


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield new_pair(stack)


def whole(cluster: Cluster) -> bool:
    """Also seen from the edge whose linker is idle."""
    for edge in cluster.edges:
        links = control(edge, "status")["links"]["pairs"]
        if not links or any(one["whole"] != one["accounts"] or one["uncovered"] for one in links):
            return False
    return True


def leader(cluster: Cluster) -> int:
    """Whose linker is active: 0 or 1."""
    found = control(cluster.edge, "status")["links"]["at"]
    return next(number for number, edge in enumerate(cluster.edges) if edge.name == found)


async def test_a_server_dies_seen_through_both(pair: Pair) -> None:
    cluster = pair.cluster
    ann = cluster.people[0]
    send(cluster, *cluster.people)
    cluster.await_quiet()
    wait_until(lambda: whole(cluster), "all whole", 30)
    load = asyncio.create_task(cluster.send(duration=6, rate=20, persistent=True, sessions=4))
    await asyncio.sleep(1.5)
    cluster.homes["a"].lab.kill()
    died = time.monotonic()

    async def again(number: int) -> float:
        (await asyncio.to_thread(log_in, cluster, ann, number)).logout()
        return time.monotonic() - died

    took = await asyncio.gather(again(0), again(1))
    print(f"log-ins {took[0]:.2f} and {took[1]:.2f} s after the kill")
    assert home(cluster, ann) == ("b", ["a"])
    await load
    judged(cluster, "b")
    assert max(took) < 5


async def test_an_edge_that_cannot_reach_the_database_writes_nothing_more(pair: Pair) -> None:
    """Its relays of accounts with replicas end when its lease does; the other edge goes on, also with the links."""
    cluster = pair.cluster
    ann = cluster.people[0]
    send(cluster, ann)
    cluster.await_quiet()
    wait_until(lambda: whole(cluster), "all whole", 30)
    cut = leader(cluster)
    door = cluster.edges[cut]
    session = imaplib.IMAP4(door.host, door.port["imap"], timeout=30)
    session.login(ann, PASSWORD)
    session.select()
    pair.lines[cut].hang()
    began = time.monotonic()
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        while time.monotonic() < began + 30:
            session.noop()
            await asyncio.sleep(0.05)
    ended = time.monotonic() - began
    other = cluster.edges[1 - cut]
    wait_until(lambda: control(other, "status")["links"].get("at") == other.name, "the other edge's linker", 30)
    (await asyncio.to_thread(log_in, cluster, ann, 1 - cut)).logout()
    print(f"relay ended {ended:.2f} s after the cut")
    assert ended < 4, "a lease is 3 s"
    pair.lines[cut].mend()
    (await asyncio.to_thread(log_in, cluster, ann, cut, 30)).logout()
    wait_until(lambda: bool(pairs(cluster)), "links again", 30)


async def test_an_edge_and_the_primary_die_together(pair: Pair) -> None:
    cluster = pair.cluster
    ann = cluster.people[0]
    send(cluster, *cluster.people)
    cluster.await_quiet()
    wait_until(lambda: whole(cluster), "all whole", 30)
    dead = leader(cluster)
    cluster.edges[dead].kill()
    cluster.homes["a"].lab.kill()
    died = time.monotonic()
    (await asyncio.to_thread(log_in, cluster, ann, 1 - dead, 60)).logout()
    took = time.monotonic() - died
    print(f"log-in at the other edge {took:.2f} s after both died")
    cluster.edges[dead].start()
    (await asyncio.to_thread(log_in, cluster, ann, dead, 30)).logout()
    judged(cluster, "b")
