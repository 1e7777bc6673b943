"""The OK of an APPEND waits until the replica has the message: through a running edge, between real servers."""

from __future__ import annotations

import imaplib
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_edges_failover import Pair, leader, new_pair, whole
from tests.acceptance.test_failover import AUTOMATIC, failover, home, log_in, pair_of
from tests.acceptance.test_links import await_whole, client, pairs, send
from tests.lab.process import wait_until

LONG = 20.0
"""Seconds that an OK may be held where it must not be the limit that ends the wait."""


def counted(cluster: Cluster, result: str) -> float:
    with urllib.request.urlopen(f"http://{cluster.edge.host}:{cluster.edge.metrics_port}/metrics", timeout=10) as page:
        lines = [line.split() for line in page.read().decode().splitlines()]
    return sum(float(value) for name, value in (line for line in lines if len(line) == 2)
               if "appends_held_total" in name and f'result="{result}"' in name)


def is_there(cluster: Cluster, server: str, account: str, subject: str) -> bool:
    with cluster.homes[server].mailbox(account).open() as session:
        session.select("Sent", readonly=True)
        return bool(session.search(None, "SUBJECT", f'"{subject}"')[1][0])


def await_held(cluster: Cluster, session: imaplib.IMAP4) -> None:
    """Workers hear a moment later that a link runs, and hold nothing before."""

    def held() -> bool:
        session.append("Sent", None, None, message("first"))
        return counted(cluster, "covered") > 0

    wait_until(held, "an OK that waited", 10)


def message(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\nonly the client has it\r\n".encode()


@pytest.mark.parametrize("kind", ["node", pytest.param("dovecot", marks=pytest.mark.slow)])
def test_at_its_ok_the_replica_has_it(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kind: str
) -> None:
    cluster = make_cluster(make_home(kind, "a"), make_home(kind, "b"), people=1, lives=["a"], replicas={"a": "b"},
                           extra={"limits": {"hold_append": LONG}})
    ann = cluster.people[0]
    send(cluster, ann)
    cluster.await_quiet()
    await_whole(cluster)
    with client(cluster, ann) as session:
        session.create("Sent")
        await_held(cluster, session)
        for number in range(10):
            began = time.monotonic()
            assert session.append("Sent", "(\\Seen)", None, message(f"copy {number}"))[0] == "OK"
            took = time.monotonic() - began
            assert is_there(cluster, "b", ann, f"copy {number}")
            assert took < LONG / 2, "it was there long before"


def test_a_replica_that_hangs_holds_it_to_the_limit_and_one_that_is_dead_not_at_all(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    cluster = make_cluster(make_home("node", "a"), make_home("node", "b"), people=1, lives=["a"], replicas={"a": "b"},
                           extra={"limits": {"hold_append": 1.5}})
    ann = cluster.people[0]
    send(cluster, ann)
    cluster.await_quiet()
    await_whole(cluster)
    with client(cluster, ann) as session:
        session.create("Sent")
        await_held(cluster, session)
        before = counted(cluster, "released")
        cluster.homes["b"].lab.pause()
        began = time.monotonic()
        assert session.append("Sent", None, None, message("hangs"))[0] == "OK"
        assert 1.4 < time.monotonic() - began < 4
        wait_until(lambda: counted(cluster, "released") == before + 1, "one released", 10)
        cluster.homes["b"].lab.kill()
        wait_until(lambda: pairs(cluster)[0]["stopped"] == 1, "the link stopped", 20)
        began = time.monotonic()
        assert session.append("Sent", None, None, message("dead"))[0] == "OK"
        assert time.monotonic() - began < 1, "nobody waits for what can't come"
        cluster.homes["b"].lab.start()
        await_whole(cluster)
        assert all(is_there(cluster, "b", ann, subject) for subject in ("hangs", "dead"))


def test_a_replica_that_lacks_what_was_acknowledged_follows_only_by_hand(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    """Held to the limit, and let go: that the link was whole before is no excuse. Others' accounts follow as ever."""
    cluster = pair_of(make_cluster, make_home, "node", people=2, extra={**AUTOMATIC, "limits": {"hold_append": 1.5}})
    ann, bob = cluster.people
    send(cluster, ann, bob)
    cluster.await_quiet()
    await_whole(cluster)
    with client(cluster, ann) as session:
        session.create("Sent")
        await_held(cluster, session)
        cluster.homes["b"].lab.pause()
        assert session.append("Sent", None, None, message("acknowledged"))[0] == "OK"
        cluster.homes["a"].lab.kill()
    cluster.homes["b"].lab.resume()
    log_in(cluster, bob).logout()
    assert home(cluster, bob) == ("b", ["a"])
    why = "lacks messages that people have stored, and were told OK"
    wait_until(lambda: any(why in each["reason"] for each in failover(cluster)["waits"]), "told", 20)
    assert home(cluster, ann) == ("a", ["b"])
    cluster.edge.run("server", "promote", "a", "--force")
    log_in(cluster, ann).logout()
    assert home(cluster, ann) == ("b", ["a"])
    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"] and not failover(cluster)["pending"], "the return", 30)
    await_whole(cluster)
    assert all(is_there(cluster, server, ann, "acknowledged") for server in "ab")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield new_pair(stack, {"limits": {"hold_append": LONG}})


def test_an_edge_that_is_fenced_gives_no_ok_that_it_holds(pair: Pair) -> None:
    """Nobody carries anything to the replica, and the edge's way to the database hangs: its lease ends before the wait
    does. The client hears neither OK nor NO, which is the truth."""
    cluster = pair.cluster
    ann = cluster.people[0]
    send(cluster, ann)
    cluster.await_quiet()
    wait_until(lambda: whole(cluster), "all whole", 30)
    at = leader(cluster)
    linker = int(control(cluster.edges[at], "status")["processes"]["linker"])
    session = log_in(cluster, ann, 1 - at)
    session.create("Sent")
    os.kill(linker, signal.SIGSTOP)
    pair.lines[1 - at].hang()
    began = time.monotonic()
    with pytest.raises((imaplib.IMAP4.abort, OSError)) as ended:
        session.append("Sent", None, None, message("fenced"))
    took = time.monotonic() - began
    print(f"ended {took:.2f} s after the cut: {ended.value}")
    assert 1 < took < 5, "a lease is 3 s"
    assert is_there(cluster, "a", ann, "fenced")
    os.kill(linker, signal.SIGKILL)
    pair.lines[1 - at].mend()
    wait_until(lambda: whole(cluster), "all whole", 40)
    assert is_there(cluster, "b", ann, "fenced")
