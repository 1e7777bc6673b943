"""What 250 promises at the levels "primary" and "replica" (README, promise 1), through running edges and real servers.

Mailboxes are read at the servers themselves, the ledger is the senders' own.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from onedomain.ledger.verify import verify
from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_failover import LONG
from tests.acceptance.test_links import await_whole, mailbox, pairs
from tests.lab.process import wait_until

KINDS = [("node", "node"), *[("dovecot", "cyrus"), ("cyrus", "dovecot"), ("dovecot", "node")] * LONG]


@pytest.fixture
def sender() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def linked(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str], people: int = 1,
    **unit: Any,
) -> Cluster:
    """`unit`: what its table says besides."""
    homes = [make_home(kind, name) for kind, name in zip(kinds, "ab", strict=True)]
    cluster = make_cluster(*homes, lives=["a"], replicas={"a": "b"}, people=people,
                           units=[{"name": "all", "servers": ["a", "b"], **unit}])
    # Workers hear a moment later that a link runs.
    wait_until(lambda: all(said(cluster, "begun", each).startswith("250") for each in cluster.people), "mail", 20)
    cluster.await_quiet()
    await_whole(cluster)
    wait_until(lambda: all(said(cluster, "kept", each).endswith(kept(cluster)) for each in cluster.people),
               "the level is kept", 20)
    return cluster


def kept(cluster: Cluster) -> str:
    """The end of a 250."""
    (unit,) = cluster.edge.tables["unit"]
    return {"replica": ", delivered and copied", "primary": " and delivered"}[unit["level"]]


def said(cluster: Cluster, text: str, account: str = "") -> str:
    """What the edge answers to one message: to RCPT where it is refused there, else to the body."""
    with cluster.smtp() as session:
        session.ehlo()
        session.mail("ann@example.org")
        code, answer = session.rcpt(account or cluster.people[0])
        if code == 250:
            code, answer = session.data(f"Subject: {text}\r\n\r\nhello\r\n".encode())
        return f"{code} {answer.decode()}"


def count(cluster: Cluster, server: str) -> int:
    return len(mailbox(cluster, server, cluster.people[0])["INBOX"][1])


def unanswered(cluster: Cluster, answer: Future[str]) -> None:
    """Not after a while, either: workers have been asked twice meanwhile."""
    for _ in range(2):
        assert not answer.done(), answer.result()
        control(cluster.edge, "status")
    with pytest.raises(TimeoutError):
        answer.result(0.3)


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_there_is_no_250_before_the_replica_has_it(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], sender: ThreadPoolExecutor,
    kinds: tuple[str, str],
) -> None:
    cluster = linked(make_cluster, make_home, kinds, level="replica")
    before = count(cluster, "a")
    for number in range(3):
        assert said(cluster, "quick").endswith(kept(cluster))
        assert count(cluster, "b") == before + 1 + number
    replica = cluster.homes["b"].lab
    replica.pause()
    try:
        answer = sender.submit(said, cluster, "held")
        wait_until(lambda: count(cluster, "a") == before + 4, "it is at the primary", 10)
        unanswered(cluster, answer)
    finally:
        replica.resume()
    assert answer.result(20).endswith(kept(cluster))
    assert count(cluster, "b") == before + 4


def test_there_is_no_250_before_the_primary_has_it(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], sender: ThreadPoolExecutor
) -> None:
    cluster = linked(make_cluster, make_home, ("node", "node"), level="primary")
    primary, before = cluster.homes["a"].lab, count(cluster, "a")
    primary.pause()
    try:
        answer = sender.submit(said, cluster, "held")
        unanswered(cluster, answer)
    finally:
        primary.resume()
    assert answer.result(20).endswith(kept(cluster))
    assert count(cluster, "a") == before + 1


@pytest.mark.parametrize("strict", [False, True])
def test_a_replica_that_is_away(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], strict: bool
) -> None:
    """After the body there is no way back: who is not strict is told how far it got, at once; a strict unit says 451 at
    RCPT, and 250 again when the replica has caught up.
    """
    cluster = linked(make_cluster, make_home, ("node", "node"), level="replica", strict=strict)
    before, missed = count(cluster, "a"), len(cluster.edge.events("level missed"))
    cluster.homes["b"].lab.kill()
    wait_until(lambda: pairs(cluster)[0]["stopped"] == 1, "the link stopped", 20)
    control(cluster.edge, "status")  # the workers have been told
    answer = said(cluster, "away")
    if strict:
        assert answer.startswith("451 4.3.2"), answer
        assert count(cluster, "a") == before
    else:
        assert answer.endswith(" and delivered"), answer
        assert count(cluster, "a") == before + 1
        assert [each["reached"] for each in cluster.edge.events("level missed")[missed:]] == ["primary"]
    cluster.homes["b"].lab.start()
    await_whole(cluster)
    wait_until(lambda: said(cluster, "again").endswith(kept(cluster)), "the level is kept again", 10)
    assert mailbox(cluster, "a", cluster.people[0]) == mailbox(cluster, "b", cluster.people[0])


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
async def test_primary_and_edge_are_lost_with_their_disks(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str]
) -> None:
    """In the middle of the mail: what had its 250 is at the replica, with nobody's help, once."""
    cluster = linked(make_cluster, make_home, kinds, people=3, level="replica", strict=True)
    load = asyncio.create_task(cluster.send(duration=4, rate=60, sessions=8))
    await asyncio.sleep(2.5)
    cluster.edge.kill()
    cluster.homes["a"].lab.kill()
    shutil.rmtree(cluster.edge.state)
    outcome = await load
    assert outcome.acked > 60
    report = verify(cluster.ledger, [cluster.homes["b"].mailbox(account) for account in cluster.people])
    assert report.ok, report.table()
