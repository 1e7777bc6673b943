"""Invariants 8 and 12 of docs/replication.md, which are about edges: running ones in front of real servers.

Mailboxes are read at the servers themselves, with imaplib.
"""

from __future__ import annotations

import asyncio
import imaplib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import KINDS, Cluster, control
from tests.acceptance.conftest import new_folder
from tests.acceptance.test_edges_failover import leader, whole
from tests.acceptance.test_failover import AUTOMATIC, LONG, failover, log_in
from tests.acceptance.test_links import await_whole, linker, mailbox, send
from tests.conftest import _running
from tests.lab.dovecot import UID
from tests.lab.postgres import Postgres
from tests.lab.process import wait_until
from tests.lab.relay import Relay
from tests.lab.sink import Sink

pytestmark = pytest.mark.real

PAIRS = {"dd": ("d1", "d2"), "dc": ("d1", "c1"), "cd": ("c1", "d2"), "nn": ("n1", "n2"), "nd": ("n1", "d2")}


def started(stack: ExitStack, *servers: Any) -> None:
    for server in servers:
        _running.append(server)
        stack.callback(_running.remove, server)


@dataclass
class Fenced:
    """`lines`: each edge's way to the database."""

    cluster: Cluster
    lines: list[Relay]

    def people(self, what: str = "") -> list[str]:
        """An account for each of PAIRS, in their order."""
        return [f"{pair}{what}@example.com" for pair in PAIRS]


@pytest.fixture(scope="module")
def fenced() -> Iterator[Fenced]:
    """Two edges on PostgreSQL, five servers, two accounts for each pair."""
    with ExitStack() as stack:
        folder = new_folder(stack)
        (folder / "pg").mkdir(mode=0o755)
        database = Postgres(folder / "pg", durable=False)
        stack.callback(database.kill)
        database.start()
        kinds = {"d": "dovecot", "c": "cyrus", "n": "node"}
        homes = [KINDS[kinds[name[0]]](folder, name) for name in ("d1", "d2", "c1", "n1", "n2")]
        cluster = Cluster(folder / "edges", homes, edges=2, lives=[], extra=AUTOMATIC)
        both = [(f"{pair}{what}@example.com", pair) for what in ("", "-goes") for pair in PAIRS]
        cluster.accounts = {account: PAIRS[pair][0] for account, pair in both}
        cluster.replicas = {account: PAIRS[pair][1] for account, pair in both}
        stack.callback(cluster.kill)
        url = database.url(database.create_database(), "postgresql")
        lines = []
        for edge in cluster.edges:
            line = Relay("127.0.0.1", database.port)
            line.start()
            stack.callback(line.stop)
            lines.append(line)
            edge.tables["directory"] = {"url": url.replace(f":{database.port}/", f":{line.port}/")}
            edge.write()
        started(stack, database, *cluster.servers)
        cluster.start()
        yield Fenced(cluster, lines)


class Writer(threading.Thread):
    """Somebody who writes through the edge, one APPEND after the other, until the edge ends it."""

    def __init__(self, cluster: Cluster, account: str, edge: int = 0) -> None:
        super().__init__(daemon=True)
        self.account, self.session = account, log_in(cluster, account, edge)
        self.acknowledged: list[str] = []
        self.last = 0.0  # when
        self.doubtful = ""
        self.ended = 0.0
        self.trouble = ""

    def run(self) -> None:
        try:
            for number in range(100_000):
                token = f"{self.account[:2]}-{number}"
                self.doubtful = token
                answer, told = self.session.append("INBOX", "", None, f"Subject: {token}\r\n\r\nx\r\n".encode())  # type: ignore[arg-type]
                if answer != "OK":
                    self.trouble = repr(told)
                    break
                self.acknowledged.append(token)
                self.last = time.monotonic()
                time.sleep(0.02)
        except (imaplib.IMAP4.error, OSError) as error:
            self.trouble = repr(error)
        self.ended = time.monotonic()


def subjects(cluster: Cluster, server: str, account: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for _, messages in mailbox(cluster, server, account).values():
        found.update(str(message_from_bytes(raw)["Subject"]) for _, _, raw in messages.values())
    return found


def test_08_a_fenced_primary_gets_no_write(fenced: Fenced) -> None:
    """An edge that is cut off can't know whether a replica was promoted: when its lease has run out it writes nothing
    more to any primary, by clients or by itself, until it knows.
    """
    cluster, people = fenced.cluster, fenced.people()
    send(cluster, *people, text="before")
    cluster.await_quiet()
    await_whole(cluster)
    writers = [Writer(cluster, account) for account in people]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(len(writer.acknowledged) > 3 for writer in writers), "writing", 20)
    fenced.lines[0].hang()
    cut = time.monotonic()
    for writer in writers:
        writer.join(30)
        assert 0 < writer.ended - cut < 5, f"{writer.account} still writes: {writer.trouble}; a lease is 3 s"
    then = {account: subjects(cluster, server, account) for account in people for server in [cluster.accounts[account]]}
    for writer in writers:
        kept = set(then[writer.account]) - {"before"}
        assert set(writer.acknowledged) <= kept <= {*writer.acknowledged, writer.doubtful}, writer.account
    # Mail is still accepted, and waits; nobody is let in, on the servers nothing changes.
    send(cluster, *people, text="while fenced")
    for account in people:
        with pytest.raises((imaplib.IMAP4.error, OSError)):
            log_in(cluster, account, seconds=0.3)
    now = {account: subjects(cluster, server, account) for account in people for server in [cluster.accounts[account]]}
    assert now == then
    fenced.lines[0].mend()
    for account in people:
        log_in(cluster, account).logout()
    cluster.await_quiet()
    await_whole(cluster)
    for account, (primary, replica) in zip(people, PAIRS.values(), strict=True):
        for server in (primary, replica):
            assert subjects(cluster, server, account) == then[account] + Counter(["while fenced"]), (account, server)


async def test_08_an_edge_that_is_cut_off_writes_nothing_once_another_has_promoted(fenced: Fenced) -> None:
    """The old primaries answer, people of the cut edge are at work there, mail for them comes in at it: what it
    acknowledges after the new primaries were opened would be on the wrong server.
    """
    cluster, people = fenced.cluster, fenced.people("-goes")
    wait_until(lambda: whole(cluster), "all whole", 40)
    at = leader(cluster)
    here, away = cluster.edges[at], 1 - at
    writers = [Writer(cluster, account, away) for account in people]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(len(writer.acknowledged) > 3 for writer in writers), "writing", 20)
    known = control(here, "status")["directory"]["seq"]
    fenced.lines[away].hang()
    cut = time.monotonic()
    asked = [word for account in people for word in ("--account", account)]
    promoted = json.loads(here.run("server", "promote", *asked, "--json"))
    assert promoted["written"] and not [each for each in promoted["accounts"] if each["reason"]], promoted
    wait_until(lambda: control(here, "status")["directory"]["seq"] > known, "the new homes", 10)
    control(here, "status")  # its workers go by them

    def arrives(account: str) -> float:
        """At the new primary, by the other edge: when."""
        with log_in(cluster, account, at) as session:
            session.select("INBOX")
            now = time.monotonic()
            assert session.append("INBOX", None, None, b"Subject: arrived\r\n\r\nx\r\n")[0] == "OK"  # type: ignore[arg-type]
        return now

    opened = await asyncio.gather(*(asyncio.to_thread(arrives, account) for account in people))
    with cluster.smtp(cluster.edges[away]) as session:
        for account in people:
            session.sendmail("ann@example.org", [account], b"Subject: by the cut edge\r\n\r\nx\r\n")
    for writer, when in zip(writers, opened, strict=True):
        writer.join(30)
        print(f"{writer.account}, after the cut: last OK {writer.last - cut:.2f} s, new primary {when - cut:.2f} s")
        assert writer.ended and writer.last < when, f"{writer.account}: a write to the old primary after the new one"
        assert when - cut > 1, "a lease is 3 s, and was renewed within the last one"
    fenced.lines[away].mend()
    wait_until(lambda: not failover(cluster)["pending"] and not failover(cluster)["unreturned"], "the return", 60)
    cluster.await_quiet()
    wait_until(lambda: whole(cluster), "all whole", 40)
    for writer, pair in zip(writers, PAIRS.values(), strict=True):
        for server in pair:
            found = subjects(cluster, server, writer.account)
            maybe = found.pop(writer.doubtful, 0) if writer.doubtful not in writer.acknowledged else 0
            assert maybe <= 1
            assert found == Counter([*writer.acknowledged, "arrived", "by the cut edge"]), (writer.account, server)


SCRIPT = """\
require ["fileinto", "vacation"];
if header :contains "Subject" "list" { fileinto "Lists"; }
elsif header :contains "Subject" "junk" { discard; }
elsif header :contains "Subject" "forward" { redirect "elsewhere@outside.example"; }
elsif header :contains "Subject" "ask" { vacation :days 1 :from "%s" :subject "away" "I am away."; }
"""
KINDS_OF_MAIL = ("list", "junk", "forward", "ask", "plain")


@dataclass
class Filtered:
    cluster: Cluster
    world: Sink


@pytest.fixture(params=["dovecot", "node", *["cyrus"] * LONG])
def filtered(request: pytest.FixtureRequest) -> Iterator[Filtered]:
    """A Dovecot with Sieve, its replica of one kind or another, and the world that it answers and forwards to."""
    with ExitStack() as stack:
        folder = new_folder(stack)
        (folder / "sink").mkdir(mode=0o755)
        world = Sink(folder / "sink")
        stack.callback(world.kill)
        world.start()
        sieve = {"sieve": True, "extra": f"submission_host = 127.0.0.1:{world.port}\n"}
        one = KINDS["dovecot"](folder, "a", **sieve)
        other = KINDS[request.param](folder, "b", **(sieve if request.param == "dovecot" else {}))
        cluster = Cluster(folder / "edges", [one, other], people=1, lives=["a"], replicas={"a": "b"}, extra=AUTOMATIC)
        stack.callback(cluster.kill)
        started(stack, world, *cluster.servers)
        cluster.start()
        for home in cluster.homes.values():
            if home.lab.kind == "dovecot":
                install(home.lab.folder, cluster.people[0])
        yield Filtered(cluster, world)


def install(folder: Path, account: str) -> None:
    name, _, domain = account.partition("@")
    home = folder / "mail" / domain / name
    home.mkdir(parents=True, exist_ok=True)
    script = home / ".dovecot.sieve"
    script.write_text(SCRIPT % account)
    for path in (home.parent, home, script):
        os.chown(path, UID, UID)


def arrive(cluster: Cluster, when: str) -> None:
    """One of each kind, each from somebody else: vacation answers each of them once in a day."""
    for kind in KINDS_OF_MAIL:
        sender = f"{kind}-{when}@outside.example"
        raw = f"From: {sender}\r\nTo: {cluster.people[0]}\r\nSubject: {kind} {when}\r\n\r\nhello\r\n"
        with cluster.smtp() as session:
            session.sendmail(sender, cluster.people, raw.encode())


def sent(world: Sink) -> Counter[tuple[str, str]]:
    """What Sieve sent into the world: (recipient, subject)."""
    return Counter(
        (caught.recipients[0], str(message_from_bytes(caught.message)["Subject"])) for caught in world.caught()
    )


def expected(*times: str) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for when in times:
        found["elsewhere@outside.example", f"forward {when}"] += 1
        found[f"ask-{when}@outside.example", "away"] += 1
    return found


async def test_12_filters_double_nothing_and_hold_nothing_for_ever(filtered: Filtered) -> None:
    """Filed, discarded, redirected and answered mail, carried by the link; then some that no link has seen when the
    primary dies; then the return.
    """
    cluster, world = filtered.cluster, filtered.world
    ann = cluster.people[0]
    arrive(cluster, "early")
    cluster.await_quiet()
    await_whole(cluster)
    wait_until(lambda: nets(cluster) == 0, "the safety nets let go", 30)
    wait_until(lambda: sum(sent(world).values()) >= 2, "answered and redirected", 10)
    assert sent(world) == expected("early")
    early = Counter({"list early": 1, "ask early": 1, "plain early": 1})
    assert subjects(cluster, "a", ann) == subjects(cluster, "b", ann) == early
    assert "Lists" in mailbox(cluster, "b", ann)

    held = linker(cluster)
    os.kill(held, signal.SIGSTOP)
    try:
        arrive(cluster, "late")
        # All acknowledged: what the server had done and not yet answered for is done again at the next one.
        wait_until(lambda: len(cluster.edge.events("delivered")) == 2 * len(KINDS_OF_MAIL), "delivered", 10)
        wait_until(lambda: sum(sent(world).values()) >= 4, "answered and redirected", 10)
        cluster.homes["a"].lab.kill()
    finally:
        os.kill(held, signal.SIGCONT)
    (await asyncio.to_thread(log_in, cluster, ann)).logout()
    cluster.await_quiet()
    found = subjects(cluster, "b", ann)
    # Nobody can know any more what the dead server's filter did: all are there, put there past the filter, once.
    late = Counter({f"{kind} late": 1 for kind in KINDS_OF_MAIL})
    assert found == early + late
    assert sent(world) == expected("early", "late"), "answered or redirected twice"

    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"] and not failover(cluster)["pending"], "the return", 30)
    await_whole(cluster)
    arrive(cluster, "after")
    cluster.await_quiet()
    await_whole(cluster)
    wait_until(lambda: nets(cluster) == 0, "the safety nets let go", 30)
    kinds = ("list", "ask", "plain") if cluster.homes["b"].lab.kind == "dovecot" else KINDS_OF_MAIL
    whole = early + late + Counter({f"{kind} after": 1 for kind in kinds})
    assert subjects(cluster, "b", ann) == subjects(cluster, "a", ann) == whole
    answered = ("early", "late", "after") if cluster.homes["b"].lab.kind == "dovecot" else ("early", "late")
    wait_until(lambda: sum(sent(world).values()) >= 2 * len(answered), "answered and redirected", 10)
    assert sent(world) == expected(*answered)


def nets(cluster: Cluster) -> int:
    """Entries of safety nets, in the spool or set aside."""
    queue = control(cluster.edge, "status")["queue"]
    return int(queue["net"]) + int(queue["net_aside"])
