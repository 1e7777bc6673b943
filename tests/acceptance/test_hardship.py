"""What a clumsy operator and bad luck do to an edge that runs: leftovers of other processes, moves off dead servers."""

from __future__ import annotations

import fcntl
import smtplib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, node, queued, verdict
from tests.lab.edge import Edge
from tests.lab.ours import run
from tests.lab.process import wait_until


@pytest.fixture
def two_nodes(make_cluster: Callable[..., Cluster], lab_folder: Path) -> Cluster:
    return make_cluster("node", node(lab_folder, "n2"), people=1)


def send(edge: Edge, *recipients: str) -> None:
    with smtplib.SMTP(edge.host, edge.port["smtp"], timeout=30) as client:
        client.sendmail("a@example.net", recipients, b"Subject: wait\r\n\r\nfor it\r\n")


def test_mail_for_a_dead_server_goes_at_once_where_its_people_go(two_nodes: Cluster) -> None:
    edge, (account, other) = two_nodes.edge, two_nodes.people
    dead, alive = two_nodes.accounts[account], two_nodes.accounts[other]
    two_nodes.homes[dead].lab.kill()
    wait_until(lambda: verdict(edge, dead) == "refusing", "a verdict")
    send(edge, account)
    wait_until(lambda: queued(edge) == 1, "the word of all workers", 10)
    edge.run("account", "set", account, "--server", alive)
    two_nodes.accounts[account] = alive
    two_nodes.await_quiet(10)
    assert len(two_nodes.messages(account)) == 1


def test_a_second_edge_on_the_same_folder_is_turned_away_and_harms_nobody(two_nodes: Cluster) -> None:
    """Ports are shared by design: without a word it would take half of the connections and serve none."""
    edge = two_nodes.edge
    second = run("run", "--config", edge.config, timeout=30)
    assert second.returncode != 0
    assert "another edge is running" in second.stderr
    wait_until(lambda: queued(edge) == 0, "an answer: the control socket is still the first one's", 10)
    edge.kill()
    edge.start()
    send(edge, *two_nodes.people)
    two_nodes.await_quiet(10)


def test_the_spool_of_a_slot_that_is_no_more_keeps_nobody_waiting(two_nodes: Cluster) -> None:
    """Its process may still be ending, or the disk be too full to copy it: mail and people come in all the same."""
    edge = two_nodes.edge
    edge.stop()
    stopped = edge.events("stopping")[-1]["time"]
    orphan: Path = edge.state / "spool" / "7"
    orphan.mkdir()
    (orphan / "log-0000000001.segment").touch()
    with open(edge.state / "spool" / "7.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        edge.start()
        wait_until(lambda: {e["slot"] for e in edge.events("worker ready") if e["time"] > stopped} == {0, 1}, "both")
        send(edge, *two_nodes.people)
        two_nodes.await_quiet(10)
    assert edge.events("spool not adopted")
