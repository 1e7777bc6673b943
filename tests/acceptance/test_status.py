"""`onedomain status` when what it asks does not answer: said in time, and what it is."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, Home, control
from tests.lab.edge import Edge
from tests.lab.ports import free_port
from tests.lab.process import answers, wait_until

IN_TIME = 4.5
"""Two seconds for what does not answer; the command itself takes one on a busy machine."""


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster], make_home: Callable[..., Home]) -> Cluster:
    made = make_cluster(make_home("node", "a"), make_home("node", "b"), people=1, lives=["a"], replicas={"a": "b"})
    wait_until(lambda: [pair["whole"] for pair in control(made.edge, "status")["links"]["pairs"]] == [1], "a link")
    return made


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def of_process(pid: int) -> list[str]:
    """Its state (proc(5)) and its parent; ["", ""] if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return ["", ""]


def asked(edge: Edge) -> tuple[dict[str, Any], str]:
    """As JSON and as a table."""
    began = time.monotonic()
    answer = edge.ask("status")
    assert time.monotonic() - began < IN_TIME
    return answer, edge.run("status", check=False)


def test_a_linker_that_hangs(cluster: Cluster) -> None:
    edge = cluster.edge
    with stopped(control(edge, "status")["processes"]["linker"]):
        answer, shown = asked(edge)
        assert answer["links"]["error"] == f"the linker of {edge.name} does not answer"
        assert answer["links"]["error"] in shown and "node" in shown
        assert [server["verdict"] for server in answer["servers"]] == ["up", "up"]
    wait_until(lambda: not control(edge, "status")["links"].get("error"), "the linker's answer", 20)


def test_a_worker_that_hangs(cluster: Cluster) -> None:
    edge = cluster.edge
    with stopped(control(edge, "status")["workers"][1]["pid"]):
        answer, shown = asked(edge)
        assert answer["silent"] == [1] and [worker["slot"] for worker in answer["workers"]] == [0]
        assert "worker 1 does not answer" in shown
    wait_until(lambda: not control(edge, "status")["silent"], "the worker's answer", 20)


def test_an_edge_that_never_had_a_directory(lab_folder: Path) -> None:
    """It says so, and ends when it is told to, with its keeper still waiting."""
    closed = {"host": "127.0.0.1", "port": free_port("127.0.0.1")}
    edge = Edge(lab_folder / "e1", servers=[{"name": "d1", "kind": "dovecot", "imap": closed, "delivery": closed}],
                protocols=("smtp",), directory=f"sqlite:///{lab_folder}/nowhere/directory.db")
    tree = edge._launch()
    try:
        wait_until(lambda: edge.events("directory away"), "the keeper's word")
        answer, shown = asked(edge)
        known = answer["directory"]
        assert known["source"] == "nothing" and "nowhere is not a folder" in known["trouble"]
        assert "there is no directory yet" in shown
        keeper = answer["processes"]["keeper"]
        os.kill(int(of_process(keeper)[1]), signal.SIGKILL)
        wait_until(lambda: of_process(keeper)[0] in ("Z", ""), "its end, without a supervisor", 10)
    finally:
        tree.kill()


def test_edges_that_would_judge_a_death_differently(make_cluster: Callable[..., Cluster]) -> None:
    """Said by `status` of either, in the log of alerts, and by `check` while nothing runs."""
    one, two = make_cluster("node", people=1, edges=2).edges
    wait_until(lambda: control(one, "status")["peers"], "edges that know each other")
    assert not control(one, "status")["differences"]
    two.stop()
    two.tables["failover"] = {"refusing": "9s"}
    two.write()
    two.start()
    found = {"edge": two.name, "key": "refusing", "here": 1.5, "there": 9.0}
    wait_until(lambda: control(one, "status")["differences"] == [found], "the difference")
    assert "[failover] refusing is 1.5 at this edge and 9.0 at mx2.example.com" in one.run("status")
    wait_until(lambda: [event["reason"] for event in one.events("alert")] ==
               ["[failover] refusing is 1.5 here, and 9.0 at mx2.example.com"], "one alert")
    one.stop()
    wrong = [each for each in two.ask("check") if each["where"] == "failover.refusing"]
    assert [each["weight"] for each in wrong] == ["error"] and "1.5 at the edge mx1.example.com" in wrong[0]["message"]
    two.tables["failover"] = {}
    two.write()
    assert not [each for each in two.ask("check") if each["where"].startswith("failover")]


def test_metrics_come_as_soon_as_their_port_is_free(lab_folder: Path) -> None:
    closed = {"host": "127.0.0.1", "port": free_port("127.0.0.1")}
    edge = Edge(lab_folder / "e1", servers=[{"name": "d1", "kind": "dovecot", "imap": closed, "delivery": closed}],
                protocols=("smtp",))
    with socket.create_server((edge.host, edge.metrics_port)):
        edge.start()
        try:
            wait_until(lambda: edge.events("no metrics"), "the keeper's word")
        except BaseException:
            edge.kill()
            raise
    try:
        wait_until(lambda: answers(edge.host, edge.metrics_port, greeting=False), "the page", 10)
        with urllib.request.urlopen(f"http://{edge.host}:{edge.metrics_port}/metrics", timeout=10) as page:
            assert b"onedomain_accounts 0.0" in page.read()
        assert len(edge.events("no metrics")) == 1
    finally:
        edge.stop()
