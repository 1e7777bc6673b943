"""What somebody who has not logged in can do to an edge: fill its memory, guess passwords faster than one by one."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, control

ENDLESS = 40 << 20
FLOODS = {
    "tag": ("imap", b""),
    "literal": ("imap", b"a LOGIN {99999999999+}\r\n"),
    "behind a literal": ("imap", b"a LOGIN {8000+}\r\n"),
    "many strings": ("imap", b"a ID (" + b'"x" ' * 3000),
    "imap answer": ("imap", b"a AUTHENTICATE PLAIN\r\n"),
    "pop3 line": ("pop3", b"USER "),
    "pop3 answer": ("pop3", b"AUTH LOGIN\r\n"),
}


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster("node", people=1, workers=2)


def connected(cluster: Cluster, protocol: str) -> socket.socket:
    return socket.create_connection((cluster.edge.host, cluster.edge.port[protocol]), 60)


def resident(cluster: Cluster) -> int:
    """Bytes of all workers, at their highest."""
    pids = [worker["pid"] for worker in control(cluster.edge, "status")["workers"]]
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(re.search(r"VmHWM:\s+(\d+)", text)[1]) << 10 for text in texts)  # type: ignore[index]


def test_floods_take_no_memory(cluster: Cluster) -> None:
    with closing(connected(cluster, "imap")) as sock:
        assert sock.recv(100).startswith(b"* OK")
    before = resident(cluster)
    for protocol, begins in FLOODS.values():
        with closing(connected(cluster, protocol)) as sock, suppress(ConnectionError):
            sock.sendall(begins)
            for _ in range(ENDLESS >> 20):
                sock.sendall(b"x" * (1 << 20))
    # Many answers are asked for, and none is read.
    for protocol, word in (("imap", b"a CAPABILITY\r\n"), ("pop3", b"CAPA\r\n")):
        with closing(connected(cluster, protocol)) as sock, suppress(ConnectionError, TimeoutError):
            sock.settimeout(2)
            for _ in range(200):
                sock.sendall(word * 4000)
    assert resident(cluster) - before < 20 << 20


def test_guesses_in_one_moment_are_slowed_over_all_workers(cluster: Cluster) -> None:
    at_once = 60
    account = cluster.people[0].encode()

    def guess(number: int) -> bytes:
        with closing(connected(cluster, "imap" if number % 2 else "pop3")) as sock, sock.makefile("rb") as said:
            said.readline()
            if number % 2:
                sock.sendall(b"a LOGIN %b guess%d\r\n" % (account, number))
            else:
                sock.sendall(b"USER %b\r\nPASS guess%d\r\n" % (account, number))
                said.readline()
            return said.readline()

    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(guess, range(at_once)))
    looked_at = sum(b"AUTHENTICATIONFAILED" in answer or b"[AUTH]" in answer for answer in answers)
    put_off = sum(b"UNAVAILABLE" in answer or b"[SYS/TEMP]" in answer for answer in answers)
    assert looked_at + put_off == at_once
    # Of each of two workers: three that cost nothing, four at once, four that wait for their turn.
    assert 3 <= looked_at <= 22
