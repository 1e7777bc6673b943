"""How soon a home in trouble is seen, what people who log in meanwhile are told, and how soon it is used again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import KINDS, PASSWORD, Cluster, control, queued, verdict
from tests.acceptance.conftest import new_folder, started
from tests.lab.edge import Edge
from tests.lab.netns import Network
from tests.lab.process import wait_until

CLEAR = 1.0
"""Seconds within which a log-in is answered once the verdict is there."""
HANGS = 5.0
"""And those within which it is answered before, by an edge that is still finding out."""
BACK, OUT = 3.0, 5.0
"""From a home's return until people are let in again, and until all mail that waited is there."""


@dataclass(frozen=True)
class Attempt:
    """`answer` is b"OK", b"NO [UNAVAILABLE] …", or empty for a connection that was lost or answered nothing."""

    edge: str
    began: float
    seconds: float
    answer: bytes


def log_in(edge: Edge, account: str, password: str = PASSWORD, source: str = "") -> Attempt:
    began = time.monotonic()
    answer = b""
    with suppress(OSError), connected(edge, source) as line:
        answer = try_password(line, account, password)
    return Attempt(edge.name, began, time.monotonic() - began, answer)


@contextmanager
def connected(edge: Edge, source: str = "") -> Iterator[socket.socket]:
    """To the IMAP port, greeted."""
    address = (source, 0) if source else None
    with socket.create_connection((edge.host, edge.port["imap"]), timeout=30, source_address=address) as line:
        line.recv(4096)
        yield line


def try_password(line: socket.socket, account: str, password: str) -> bytes:
    line.sendall(f'a LOGIN {account} "{password}"\r\n'.encode())
    return line.recv(4096).strip().removeprefix(b"a ")


class Visitors:
    """People who log in at every edge, five a second each, each without waiting for the one before."""

    def __init__(self, edges: list[Edge], account: str) -> None:
        self._edges, self._account = edges, account
        self._ended = threading.Event()
        self._starter = threading.Thread(target=self._start)
        self._visits: list[threading.Thread] = []
        self.attempts: list[Attempt] = []

    def _start(self) -> None:
        while not self._ended.wait(0.2):
            for edge in self._edges:
                visit = threading.Thread(target=lambda e=edge: self.attempts.append(log_in(e, self._account)))
                visit.start()
                self._visits.append(visit)

    def __enter__(self) -> Visitors:
        self._starter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._starter.join()
        for visit in self._visits:
            visit.join()

    def between(self, start: float, end: float, edge: str) -> list[Attempt]:
        return [one for one in list(self.attempts) if one.edge == edge and start <= one.began < end]


@pytest.fixture(scope="module")
def yard() -> Iterator[tuple[Cluster, Network]]:
    """Two edges; n1 and d1 beside them, n2 behind a cable that can be pulled."""
    with ExitStack() as stack:
        network = Network("away")
        stack.callback(network.close)
        folder = new_folder(stack)
        host, trusted = network["away"], [f"{network.gateway}/32"]
        homes = [KINDS["node"](folder), KINDS["dovecot"](folder),
                 KINDS["node"](folder, "n2", host=host.address, namespace=host.namespace,
                               settings={"trusted": trusted})]
        yield started(stack, homes, folder / "edges", people=2, edges=2), network


@pytest.mark.parametrize("fault, home, within", [("killed", "n1", 1.0), ("stopped", "d1", 5.0), ("cut off", "n2", 8.0)])
def test_a_home_in_trouble(yard: tuple[Cluster, Network], fault: str, home: str, within: float) -> None:
    cluster, network = yard
    lab, (reader, receiver) = cluster.homes[home].lab, cluster.of(home)
    faults: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "killed": (lab.kill, lab.start),
        "stopped": (lab.pause, lab.resume),
        "cut off": (lambda: network.cut("away"), lambda: network.mend("away")),
    }
    begin, end = faults[fault]
    for edge in cluster.edges:
        assert verdict(edge, home) == "up" and log_in(edge, reader).answer[:2] == b"OK"
    seen: dict[str, float] = {}
    with Visitors(cluster.edges, reader) as visitors:
        began = time.monotonic()
        begin()
        try:
            watchers = [threading.Thread(target=_watch, args=(edge, home, began, seen)) for edge in cluster.edges]
            for watcher in watchers:
                watcher.start()
            for watcher in watchers:
                watcher.join()
            for edge in cluster.edges:
                with cluster.smtp(edge) as client:
                    for number in range(10):
                        client.sendmail("a@example.org", [receiver], f"Subject: {number}\r\n\r\nwaits\r\n")
            until = time.monotonic() + 2
            wait_until(lambda: time.monotonic() > until, "some log-ins after the verdict")
            assert all(queued(edge) for edge in cluster.edges)
        finally:
            end()
        back = time.monotonic()
        again, out = _returned(cluster, reader, back)
    assert len(cluster.messages(receiver)) >= 20
    during = [one for edge in cluster.edges for one in visitors.between(began - 1, began + seen[edge.name], edge.name)]
    after = [one for edge in cluster.edges for one in visitors.between(began + seen[edge.name] + 0.1, until, edge.name)]
    print(f"{fault}: seen after {', '.join(f'{one:.2f}' for one in seen.values())} s; "
          f"slowest of {len(during)} log-ins before that {_slowest(during):.2f} s, of {len(after)} after it "
          f"{_slowest(after):.2f} s; back: log-ins after {again:.2f} s, mail out after {out:.2f} s")
    assert max(seen.values()) <= within
    assert all(one.seconds <= HANGS for one in during), during
    assert after and all(one.seconds <= CLEAR and one.answer.startswith(b"NO [UNAVAILABLE]") for one in after), after
    assert all(one.answer[:2] == b"OK" or one.answer.startswith(b"NO [UNAVAILABLE]") for one in visitors.attempts)
    assert again <= BACK and out <= OUT


def _slowest(attempts: list[Attempt]) -> float:
    return max((one.seconds for one in attempts), default=0.0)


def _watch(edge: Edge, home: str, began: float, seen: dict[str, float]) -> None:
    wait_until(lambda: verdict(edge, home) in ("refusing", "silent"), f"a verdict at {edge.name}", 30)
    seen[edge.name] = time.monotonic() - began


def _returned(cluster: Cluster, account: str, back: float) -> tuple[float, float]:
    """Seconds until all edges let the account in, and until nothing waits any more."""
    for edge in cluster.edges:
        wait_until(lambda edge=edge: log_in(edge, account).answer[:2] == b"OK", "a log-in that succeeds", 30)
    again = time.monotonic() - back
    cluster.await_quiet(30)
    return again, time.monotonic() - back


# -- wrong passwords


@pytest.fixture(scope="module")
def door() -> Iterator[Edge]:
    """An edge with two workers that nobody has tried wrong passwords at."""
    with ExitStack() as stack:
        folder = new_folder(stack)
        yield started(stack, [KINDS["node"](folder)], folder / "edges", people=5).edge


@contextmanager
def at_worker(edge: Edge, slot: int, source: str) -> Iterator[socket.socket]:
    """A connection that the kernel gave to this worker: one tries until it does."""
    pid = next(one["pid"] for one in control(edge, "status")["workers"] if one["slot"] == slot)
    with ExitStack() as others:
        while True:
            line = others.enter_context(connected(edge, source))
            if _accepted(line) in _sockets(pid):
                yield line
                return


def _accepted(line: socket.socket) -> str:
    """The inode of the other end, as it stands in proc(5)'s net/tcp: addresses are hexadecimal, octets reversed."""
    ends = (f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"
            for host, port in (line.getpeername(), line.getsockname()))
    wanted = " ".join(ends)
    found: list[str] = []

    def listed() -> bool:
        """The kernel gives the table in pieces: where others come and go meanwhile, a row may be in none."""
        found[:] = [row.split()[9] for row in Path("/proc/net/tcp").read_text().splitlines() if wanted in row]
        return bool(found)

    wait_until(listed, "the connection in the kernel's table", 10)
    return found[0]


def _sockets(pid: int) -> set[str]:
    found = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(handle.readlink().name.removeprefix("socket:[").rstrip("]"))
    return found


def fail(edge: Edge, account: str, places: Iterable[tuple[int, str]]) -> None:
    """A wrong password at each (worker, source), all at once: each is another one."""
    with ExitStack() as lines:
        open_now = [lines.enter_context(at_worker(edge, slot, source)) for slot, source in places]
        with ThreadPoolExecutor(len(open_now)) as pool:
            tried = [pool.submit(try_password, line, account, f"wrong {n}") for n, line in enumerate(open_now)]
            assert all(one.result().startswith(b"NO [AUTHENTICATIONFAILED]") for one in tried)


def timed(edge: Edge, account: str, slot: int, source: str) -> float:
    """Seconds that the right password takes."""
    with at_worker(edge, slot, source) as line:
        began = time.monotonic()
        assert try_password(line, account, PASSWORD)[:2] == b"OK"
        return time.monotonic() - began


@pytest.mark.parametrize("slot", [0, 1])
def test_wrong_passwords_slow_an_address_down_at_all_workers(door: Edge, slot: int) -> None:
    """Two at each worker: neither would mind them alone."""
    victim, other = f"n1-{slot}@example.com", "n1-4@example.com"
    source, elsewhere = f"127.0.1.{slot + 1}", f"127.0.2.{slot + 1}"
    assert timed(door, victim, slot, source) < 0.5
    fail(door, victim, [(0, source), (1, source)] * 2)
    assert timed(door, other, slot, source) > 0.8
    assert timed(door, other, slot, elsewhere) < 0.5


@pytest.mark.parametrize("slot", [0, 1])
def test_wrong_passwords_slow_an_account_down_but_not_where_its_owner_is_known(door: Edge, slot: int) -> None:
    """Three at each worker, from addresses that nothing else is known of."""
    victim = f"n1-{slot + 2}@example.com"
    home, far = f"127.0.3.{slot + 1}", f"127.0.4.{slot + 1}"
    assert timed(door, victim, 1 - slot, home) < 0.5
    fail(door, victim, [(number % 2, f"127.0.{slot + 5}.{number + 1}") for number in range(6)])
    assert timed(door, victim, slot, far) > 0.8
    assert timed(door, victim, slot, home) < 0.5


def test_a_refusal_tells_nothing(door: Edge) -> None:
    """A wrong password and a name that nobody has: the same words, after the same time."""
    with ThreadPoolExecutor(2) as pool:
        tried = [pool.submit(log_in, door, f"{name}@example.com", "wrong", f"127.0.8.{place}")
                 for place, name in enumerate(("n1-0", "nobody"), start=1)]
        wrong, nobody = (one.result() for one in tried)
    assert wrong.answer == nobody.answer and wrong.answer.startswith(b"NO [AUTHENTICATIONFAILED]")
    assert abs(wrong.seconds - nobody.seconds) < 0.3
