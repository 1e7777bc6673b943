"""A server dies and its people go on at their replica; it comes back and is a replica. Seen from outside.

The ledger is the senders' own; mailboxes are read at the servers themselves.
"""

from __future__ import annotations

import asyncio
import imaplib
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from onedomain.ledger.verify import verify
from tests.acceptance.cluster import PASSWORD, Cluster, control
from tests.acceptance.test_links import await_whole, linker, mailbox, send
from tests.lab.process import wait_until

AUTOMATIC = {"failover": {"automatic": True}}
LONG = os.environ.get("ONEDOMAIN_LONG") == "1"


def log_in(cluster: Cluster, account: str, edge: int = 0, seconds: float = 20) -> imaplib.IMAP4:
    """As a client does that tries again until it is let in."""
    until = time.monotonic() + seconds
    door = cluster.edges[edge]
    while True:
        try:
            session = imaplib.IMAP4(door.host, door.port["imap"], timeout=10)
            try:
                session.login(account, PASSWORD)
                return session
            except BaseException:
                session.shutdown()
                raise
        except (imaplib.IMAP4.error, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def home(cluster: Cluster, account: str) -> tuple[str, list[str]]:
    found = json.loads(cluster.edge.run("account", "show", account, "--json"))
    return found["primary"], found["replicas"]


def failover(cluster: Cluster) -> dict[str, Any]:
    return dict(control(cluster.edge, "failover"))


def uids(cluster: Cluster, server: str, account: str) -> dict[str, tuple[int, list[int]]]:
    return {name: (validity, sorted(messages)) for name, (validity, messages) in
            mailbox(cluster, server, account).items()}


def pair_of(make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kind: str, **options: Any) -> Cluster:
    return make_cluster(make_home(kind, "a"), make_home(kind, "b"), lives=["a"], replicas={"a": "b"},
                        **{"people": 3, "extra": AUTOMATIC, **options})


def judged(cluster: Cluster, server: str) -> None:
    """Every acknowledged message is there once, by the ledger, at this server."""
    cluster.await_quiet()
    report = verify(cluster.ledger, [cluster.homes[server].mailbox(account) for account in cluster.people])
    assert report.ok, report.table()


@pytest.mark.parametrize("kind", ["node", *(pytest.param(kind, marks=pytest.mark.slow) for kind in
                                           ("dovecot", "burning"))])
async def test_a_kill_under_load_and_the_way_back(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kind: str
) -> None:
    cluster = pair_of(make_cluster, make_home, kind)
    ann = cluster.people[0]
    send(cluster, *cluster.people, text="before")
    cluster.await_quiet()
    await_whole(cluster)
    before = uids(cluster, "a", ann)
    load = asyncio.create_task(cluster.send(duration=6, rate=30, persistent=True, sessions=4))
    await asyncio.sleep(2)
    cluster.homes["a"].lab.kill()
    died = time.monotonic()
    session = await asyncio.to_thread(log_in, cluster, ann)
    answered = time.monotonic() - died
    session.select("INBOX")
    same = int(session.untagged_responses["UIDVALIDITY"][0]) == before["INBOX"][0]
    session.logout()
    keeps = kind != "burning"
    assert same or not keeps
    assert home(cluster, ann) == ("b", ["a"])
    await load
    judged(cluster, "b")
    after = uids(cluster, "b", ann)
    for name, (validity, known) in before.items() if keeps else ():
        assert after[name][0] == validity and set(known) <= set(after[name][1]), "people find what they knew"
    print(f"log-in {answered:.2f} s after the kill")
    assert answered < 3, f"log-in {answered:.2f} s after the kill"

    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"] and not failover(cluster)["pending"], "the return", 30)
    send(cluster, ann, text="after")
    cluster.await_quiet()
    await_whole(cluster)
    judged(cluster, "b")
    judged(cluster, "a")
    assert uids(cluster, "a", ann) == uids(cluster, "b", ann) or not keeps


async def test_a_hang(make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]) -> None:
    cluster = pair_of(make_cluster, make_home, "node")
    ann = cluster.people[0]
    send(cluster, ann)
    cluster.await_quiet()
    await_whole(cluster)
    cluster.homes["a"].lab.pause()
    began = time.monotonic()
    session = await asyncio.to_thread(log_in, cluster, ann)
    answered = time.monotonic() - began
    session.logout()
    print(f"log-in {answered:.2f} s after SIGSTOP")
    assert answered < 8
    send(cluster, ann, text="meanwhile")
    cluster.await_quiet()
    assert len(mailbox(cluster, "b", ann)["INBOX"][1]) == 2
    cluster.homes["a"].lab.resume()
    wait_until(lambda: not failover(cluster)["unreturned"], "the return", 30)
    await_whole(cluster)
    assert mailbox(cluster, "a", ann) == mailbox(cluster, "b", ann)


async def test_the_tail_of_the_old_primary_is_added(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    """What only the old primary has: it was put there while no link ran, and it died before one did. Not through an
    edge, which would have said OK: then the replica follows only by hand (test_held).
    """
    cluster = pair_of(make_cluster, make_home, "node", people=1)
    ann = cluster.people[0]
    send(cluster, ann, text="carried")
    cluster.await_quiet()
    await_whole(cluster)
    cluster.homes["b"].lab.pause()
    with cluster.homes["a"].mailbox(ann).open() as session:
        session.append("INBOX", None, None, b"Subject: tail\r\n\r\nwritten by hand\r\n")  # type: ignore[arg-type]
    cluster.homes["a"].lab.kill()
    cluster.homes["b"].lab.resume()
    (await asyncio.to_thread(log_in, cluster, ann, 0, 30)).logout()
    assert home(cluster, ann)[0] == "b"
    send(cluster, ann, text="new")
    cluster.await_quiet()
    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"], "the return", 30)
    await_whole(cluster)
    (last,), (told,) = failover(cluster)["recent"], cluster.edge.events("returned")
    assert (last["accounts"], last["returned"], last["added"], last["aside"]) == (1, 1, told["added"], told["aside"])
    for server in ("a", "b"):
        there = mailbox(cluster, server, ann)["INBOX"][1].values()
        texts = sorted(raw.rpartition(b"\r\n\r\n")[2] for _, _, raw in there)
        assert texts == sorted([f"{text} for {ann}\r\n".encode() for text in ("carried", "new")]
                               + [b"written by hand\r\n"]), server


async def test_the_linker_dies_in_the_middle(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    cluster = pair_of(make_cluster, make_home, "node", people=30)
    send(cluster, *cluster.people)
    cluster.await_quiet()
    await_whole(cluster)
    cluster.homes["a"].lab.kill()
    wait_until(lambda: home(cluster, cluster.people[0])[0] == "b", "the commit", 20)
    os.kill(linker(cluster), signal.SIGKILL)
    for account in cluster.people:
        (await asyncio.to_thread(log_in, cluster, account)).logout()
    # The status, as there may be no linker to answer yet.
    wait_until(lambda: control(cluster.edge, "status")["failover"].get("pending") == 0, "all promotions", 20)
    for account in cluster.people:
        assert len(mailbox(cluster, "b", account)["INBOX"][1]) == 1
