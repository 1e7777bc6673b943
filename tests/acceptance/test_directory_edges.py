"""The directory in PostgreSQL, two edges that follow it: what is changed is true at both within a second."""

from __future__ import annotations

import asyncio
import csv
import imaplib
import smtplib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.cluster import KINDS, PASSWORD, Cluster, control
from tests.acceptance.conftest import new_folder
from tests.acceptance.load import acknowledged, load
from tests.conftest import _running
from tests.lab.edge import Edge
from tests.lab.ours import run
from tests.lab.postgres import Postgres
from tests.lab.process import wait_until

EVERYWHERE = 1.0
"""Seconds from a commit until every edge answers by it."""


def ask(edge: Edge, address: str) -> int:
    """What RCPT is answered, on a connection of its own: any worker's."""
    with smtplib.SMTP(edge.host, edge.port["smtp"], local_hostname="client.example.org", timeout=30) as line:
        line.ehlo()
        line.mail("writer@example.org")
        return line.rcpt(address)[0]


def turned(edge: Edge, address: str, code: int) -> float:
    """From when on all workers of the edge answered `code` for the address: seconds since 1970."""
    until = time.monotonic() + 30
    while True:
        began = time.time()
        if all(ask(edge, address) == code for _ in range(8)):
            return began
        assert time.monotonic() < until, f"{code} for {address} at {edge.name}"
        time.sleep(0.02)


class Office:
    """A cluster on a PostgreSQL that can be stopped. `committed` says when the directory was last changed."""

    def __init__(self, cluster: Cluster, database: Postgres, name: str) -> None:
        self.cluster, self.database, self._name = cluster, database, name
        self.edges = cluster.edges

    def committed(self) -> float:
        when = "select extract(epoch from pg_xact_commit_timestamp(xmin)) from meta where name = 'seq'"
        return float(self.database.execute(when, self._name))

    def delays(self, change: Callable[[], object], address: str, code: int) -> list[float]:
        """Seconds from the commit of `change` until each edge answers `code` for the address."""
        with ThreadPoolExecutor(len(self.edges)) as pool:
            waiting = [pool.submit(turned, edge, address, code) for edge in self.edges]
            change()
            committed = self.committed()
            return [one.result() - committed for one in waiting]


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    with ExitStack() as stack:
        folder = new_folder(stack)
        (folder / "pg").mkdir(mode=0o755)
        database = Postgres(folder / "pg", durable=False, settings={"track_commit_timestamp": "on"})
        stack.callback(database.kill)
        database.start()
        name = database.create_database()
        homes = [KINDS["node"](folder), KINDS["node"](folder, "n2")]
        cluster = Cluster(folder / "edges", homes, people=6, edges=2)
        stack.callback(cluster.kill)
        for edge in cluster.edges:
            edge.tables["directory"] = {"url": database.url(name, "postgresql")}
            edge.write()
        for server in (database, *cluster.servers):
            _running.append(server)
            stack.callback(_running.remove, server)
        cluster.start()
        yield Office(cluster, database, name)


def test_a_change_is_everywhere_within_a_second(office: Office) -> None:
    one, two = office.edges
    changes: list[tuple[Edge, tuple[str, ...], int]] = [
        (one, ("account", "add", "new@example.com", "--server", "n1"), 250),
        (two, ("alias", "add", "sales@example.com", "new@example.com"), 250),
        (one, ("alias", "remove", "sales@example.com"), 550),
        (two, ("account", "remove", "new@example.com", "--yes"), 550),
    ]
    for edge, words, code in changes:
        delays = office.delays(lambda edge=edge, words=words: edge.run(*words), words[2], code)
        print(f"{' '.join(words)}: {', '.join(f'{seconds:.2f}' for seconds in delays)} s")
        assert max(delays) <= EVERYWHERE


def logged_in(edge: Edge, account: str) -> imaplib.IMAP4:
    client = imaplib.IMAP4(edge.host, edge.port["imap"], timeout=30)
    client.login(account, PASSWORD)
    client.select()
    return client


def test_live_sessions_end_when_their_account_is_disabled_or_moved(office: Office) -> None:
    """At both edges, whichever was asked, idle or not; a new log-in goes to the new home, or nowhere."""
    one, two = office.edges
    disabled, moved = "n1-1@example.com", "n1-2@example.com"
    sessions = {account: [logged_in(edge, account) for edge in office.edges] for account in (disabled, moved)}
    for clients in sessions.values():
        clients[0].send(b"i IDLE\r\n")
        assert clients[0].readline().startswith(b"+ ")
    committed, ended = [], []
    with ThreadPoolExecutor(4) as pool:  # each notes when its line came, whatever the test does then
        waiting = {account: [pool.submit(_farewell, client) for client in clients]
                   for account, clients in sessions.items()}
        for edge, account, *change in ((one, disabled, "--disabled"), (two, moved, "--server", "n2")):
            edge.run("account", "set", account, *change)
            committed.append(office.committed())
            ended += [each.result() for each in waiting[account]]
    words = [text for text, _ in ended]
    delays = [came - committed[number // 2] for number, (_, came) in enumerate(ended)]
    print(f"sessions ended {', '.join(f'{seconds:.2f}' for seconds in delays)} s after the commit")
    assert max(delays) <= EVERYWHERE
    assert all(text.startswith(b"* BYE [UNAVAILABLE]") for text in words), words
    assert b"may not log in" in words[0] and b"moved" in words[2]
    for edge in office.edges:
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            logged_in(edge, disabled)
        client = logged_in(edge, moved)
        client.append("INBOX", "", imaplib.Time2Internaldate(0), b"Subject: at the new home\r\n\r\n")
        client.logout()
    new_home = office.cluster.homes["n2"].lab.imap(moved)
    assert new_home.select()[1] == [b"2"]
    new_home.logout()


def _farewell(client: imaplib.IMAP4) -> tuple[bytes, float]:
    """The last line before the edge hangs up, and when it came."""
    line, came = b"", 0.0
    while more := client.readline():
        line, came = more, time.time()
    return line, came


def test_an_edge_starts_and_serves_without_the_database(office: Office) -> None:
    one, two = office.edges
    account = "n1-3@example.com"
    two.stop()
    office.database.crash()
    try:
        two.start()
        for edge in (one, two):
            assert turned(edge, account, 250) and turned(edge, "nobody@example.com", 550)
            logged_in(edge, account).logout()
            wait_until(lambda edge=edge: _source(edge)[0] == "snapshot", "the truth about the directory")
        known = _source(two)
        wait_until(lambda: _source(two)[1] > known[1] + 0.5, "the age to grow")
        assert "snapshot" in one.run("status", check=False)
        refused = status_of(one, "alias", "add", "late@example.com", account)
        assert refused[0] == 3 and "database" in refused[1]
        assert turned(two, "late@example.com", 550)
    finally:
        office.database.start()
    back = time.monotonic()
    for edge in (one, two):
        wait_until(lambda edge=edge: _source(edge)[0] == "database", "the database again")
    print(f"database followed again after {time.monotonic() - back:.1f} s")
    assert time.monotonic() - back < 10
    delays = office.delays(lambda: one.run("alias", "add", "late@example.com", account), "late@example.com", 250)
    assert max(delays) <= EVERYWHERE


def _source(edge: Edge) -> tuple[str, float]:
    known = control(edge, "status")["directory"]
    return known["source"], known["age"]


def status_of(edge: Edge, *words: str) -> tuple[int, str]:
    done = run(*words, "--config", edge.config, timeout=60)
    return done.returncode, done.stderr


class Samples:
    """The slowest answer to RCPT of several connections to each edge, asked without a pause."""

    def __init__(self, edges: Iterable[Edge], address: str) -> None:
        self._ended = threading.Event()
        self._address = address
        self.slowest, self.count, self.refused = 0.0, 0, 0
        # Several each, so that all workers are asked.
        self._threads = [threading.Thread(target=self._run, args=(edge,)) for edge in edges for _ in range(3)]

    def _run(self, edge: Edge) -> None:
        while not self._ended.is_set():
            with smtplib.SMTP(edge.host, edge.port["smtp"], local_hostname="client.example.org", timeout=30) as line:
                line.ehlo()
                # No more: who keeps asking and never sends anything is shown the door.
                for _ in range(50):
                    began = time.monotonic()
                    line.mail("writer@example.org")
                    if line.rcpt(self._address)[0] != 250:
                        self.refused += 1
                    line.rset()
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.count += 1
                    if self._ended.wait(0.01):
                        break

    def __enter__(self) -> Samples:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


async def test_twenty_thousand_accounts_are_imported_while_mail_flows(office: Office, tmp_path: Path) -> None:
    count, cluster = 20_000, office.cluster
    file = tmp_path / "people.csv"
    with file.open("w", newline="") as rows:
        csv.writer(rows).writerows([["address", "unit"], *([f"p{n}@example.com", "all"] for n in range(count))])
    def grow() -> list[float]:
        return office.delays(lambda: office.edges[0].run("account", "import", file), f"p{count - 1}@example.com", 250)

    async with load(cluster, recipients=cluster.of("n2"), rate=40) as running:
        with Samples(office.edges, "n1-4@example.com") as samples:
            began = time.monotonic()
            delays = await asyncio.to_thread(grow)
            took = time.monotonic() - began
        await acknowledged(running, 20)
    print(f"{count} accounts imported in {took:.1f} s, at the edges {max(delays):.2f} s after the commit; "
          f"slowest of {samples.count} answers to RCPT {samples.slowest:.3f} s, "
          f"slowest message {max(running.outcome.latencies, default=0):.3f} s")
    for edge in office.edges:
        assert control(edge, "status")["directory"]["accounts"] >= count
    assert samples.slowest < 1 and not samples.refused
    assert not running.outcome.refused and not running.outcome.unknown, running.outcome.summary()
    cluster.assert_exact(cluster.of("n2"))
