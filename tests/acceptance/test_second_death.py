"""The server that took over dies while the other, which is back, is being made its replica: who follows, who stays, and
that nothing which was acknowledged is missing to those who follow. ONEDOMAIN_LONG=1: at more moments, between Dovecots.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_edges_failover import leader, new_pair, whole
from tests.acceptance.test_failover import LONG, failover, home, log_in, pair_of
from tests.acceptance.test_links import await_whole, client, mailbox, send
from tests.backend.link.mailbox import append_many
from tests.lab.process import wait_until

KINDS = ["node", pytest.param("dovecot", marks=pytest.mark.slow)]
BULK = 2_000
"""Messages of 50 KB, put onto a server behind our back: a pass is busy with them for a second or more."""


def died(cluster: Cluster, server: str, *accounts: str) -> None:
    """Its people go on elsewhere, or have been told that they don't."""
    cluster.homes[server].lab.kill()
    other = "b" if server == "a" else "a"
    wait_until(lambda: {home(cluster, each)[0] for each in accounts} == {other}, "the failover", 20)


def bulk(cluster: Cluster, server: str, account: str) -> None:
    with cluster.homes[server].mailbox(account).open() as session:
        for start in range(0, BULK, 200):
            append_many(session, "INBOX", [b"Subject: bulk %d\r\n\r\n" % n + b"x" * 50_000
                                           for n in range(start, start + 200)])


def stored(cluster: Cluster, account: str, text: str) -> None:
    with client(cluster, account) as session:
        assert session.append("INBOX", None, None, f"Subject: {text}\r\n\r\n{text}\r\n".encode())[0] == "OK"  # type: ignore[arg-type]


def subjects(cluster: Cluster, server: str, account: str) -> list[bytes]:
    """Of INBOX, but for the bulk."""
    with cluster.homes[server].mailbox(account).open() as session:
        session.select("INBOX", readonly=True)
        answer = session.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    found = [part[1].partition(b"Subject: ")[2].partition(b"\r\n")[0] for part in answer if isinstance(part, tuple)]
    return sorted(each for each in found if not each.startswith(b"bulk"))


def uids(cluster: Cluster, server: str, account: str) -> set[bytes]:
    with cluster.homes[server].mailbox(account).open() as session:
        session.select("INBOX", readonly=True)
        return set(session.uid("SEARCH", "ALL")[1][0].split())


def phase(cluster: Cluster, account: str) -> str:
    found = control(cluster.edge, "link_show", account=account)
    return str(found["phase"]) if found else ""


def stays(cluster: Cluster) -> list[str]:
    return [each["reason"] for each in failover(cluster)["waits"]]


@pytest.mark.skipif(not LONG, reason="a pass that has to be caught under way: ONEDOMAIN_LONG=1")
@pytest.mark.parametrize("kind", KINDS)
async def test_while_the_first_pass_back_is_under_way(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kind: str
) -> None:
    """Its replica has been the primary and lacks nothing that anybody was told is stored: it follows at once. Where
    somebody has stored a message since, a person decides.
    """
    cluster = pair_of(make_cluster, make_home, kind, people=2)
    ann, bob = cluster.people
    send(cluster, ann, bob, text="before")
    cluster.await_quiet()
    await_whole(cluster)
    validity, known = mailbox(cluster, "a", ann)["INBOX"][0], uids(cluster, "a", ann)
    died(cluster, "a", ann, bob)
    for account in (ann, bob):
        (await asyncio.to_thread(log_in, cluster, account)).logout()
        await asyncio.to_thread(bulk, cluster, "b", account)
    await asyncio.to_thread(stored, cluster, bob, "stored")
    send(cluster, ann, bob, text="meanwhile")
    cluster.await_quiet()
    cluster.homes["a"].lab.start()
    wait_until(lambda: {phase(cluster, ann), phase(cluster, bob)} == {"first copy"}, "the first passes", 20)
    cluster.homes["b"].lab.kill()
    killed = time.monotonic()
    session = await asyncio.to_thread(log_in, cluster, ann)
    took = time.monotonic() - killed
    session.select("INBOX")
    assert int(session.untagged_responses["UIDVALIDITY"][0]) == validity
    session.logout()
    print(f"log-in {took:.2f} s after the second kill")
    assert home(cluster, ann) == ("a", ["b"])
    assert known <= uids(cluster, "a", ann), "people find what they knew"
    wait_until(lambda: subjects(cluster, "a", ann) == [b"before", b"meanwhile"], "what the safety net had", 20)
    assert home(cluster, bob) == ("b", ["a"])
    wait_until(lambda: any("lacks messages that people have stored" in each for each in stays(cluster)), "told", 20)
    assert took < 3, f"log-in {took:.2f} s after the second kill"

    cluster.edge.run("server", "promote", "b", "--force")
    (await asyncio.to_thread(log_in, cluster, bob)).logout()
    wait_until(lambda: subjects(cluster, "a", bob) == [b"before", b"meanwhile"], "all but what was stored", 20)
    cluster.homes["b"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"], "the return, message by message", 120)
    assert subjects(cluster, "a", bob) == [b"before", b"meanwhile", b"stored"], "it was not lost"
    await_whole(cluster, 60)
    for server in ("a", "b"):
        assert subjects(cluster, server, ann) == [b"before", b"meanwhile"]
        assert subjects(cluster, server, bob) == [b"before", b"meanwhile", b"stored"]


@pytest.mark.skipif(not LONG, reason="a pass that has to be caught under way: ONEDOMAIN_LONG=1")
async def test_what_came_through_either_of_two_edges_is_known() -> None:
    with ExitStack() as stack:
        cluster = new_pair(stack).cluster
        ann, bob = cluster.people
        send(cluster, ann, bob, text="before")
        cluster.await_quiet()
        wait_until(lambda: whole(cluster), "all whole", 30)
        died(cluster, "a", ann, bob)
        other = 1 - leader(cluster)
        for account in (ann, bob):
            (await asyncio.to_thread(log_in, cluster, account, other)).logout()
            await asyncio.to_thread(bulk, cluster, "b", account)
        session = await asyncio.to_thread(log_in, cluster, bob, other)
        assert session.append("INBOX", None, None, b"Subject: stored\r\n\r\nstored\r\n")[0] == "OK"  # type: ignore[arg-type]
        session.logout()
        cluster.homes["a"].lab.start()
        wait_until(lambda: {phase(cluster, ann), phase(cluster, bob)} == {"first copy"}, "the first passes", 20)
        cluster.homes["b"].lab.kill()
        killed = time.monotonic()
        (await asyncio.to_thread(log_in, cluster, ann, other)).logout()
        took = time.monotonic() - killed
        print(f"log-in {took:.2f} s after the second kill")
        assert home(cluster, ann) == ("a", ["b"])
        wait_until(lambda: any("lacks messages that people have stored" in each for each in stays(cluster)), "told", 20)
        assert home(cluster, bob) == ("b", ["a"])
        assert took < 5


@pytest.mark.parametrize("after", [None, *[0.0, 1.5, 3.0, 5.0] * LONG])
@pytest.mark.parametrize("kind", KINDS if LONG else KINDS[:1])
async def test_seconds_after_the_first_is_back(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kind: str, after: float | None
) -> None:
    """Too soon, and they wait for either; nothing is missing to anybody at any time. None: as soon as all are brought
    back, so that most can follow.
    """
    cluster = pair_of(make_cluster, make_home, kind)
    people = cluster.people
    send(cluster, *people, text="before")
    cluster.await_quiet()
    await_whole(cluster)
    died(cluster, "a", *people)
    for account in people:
        (await asyncio.to_thread(log_in, cluster, account)).logout()
    await asyncio.to_thread(stored, cluster, people[0], "stored")
    send(cluster, *people, text="meanwhile")
    cluster.await_quiet()
    cluster.homes["a"].lab.start()
    if after is None:
        wait_until(lambda: all(phase(cluster, account) for account in people), "all are brought back", 30)
    else:
        await asyncio.sleep(after)
    back = {account for account in people if phase(cluster, account)}
    ready = {account for account in people if phase(cluster, account) == "whole"}
    cluster.homes["b"].lab.kill()
    killed = time.monotonic()
    for account in ready or back - {people[0]}:
        (await asyncio.to_thread(log_in, cluster, account)).logout()
    took = time.monotonic() - killed
    print(f"{after}: {len(back)} brought back, {len(ready)} whole, log-ins {took:.2f} s after the second kill")
    fit = ready | (back - {people[0]})
    wait_until(lambda: all(home(cluster, each)[0] == "a" for each in fit), "all that lack nothing follow", 20)
    want = {account: [b"before", b"meanwhile", *([b"stored"] if account == people[0] else [])] for account in people}
    for account in people:
        if home(cluster, account)[0] == "a":
            wait_until(lambda: subjects(cluster, "a", account) == want[account], "all that is acknowledged", 20)  # noqa: B023  before the next turn
    cluster.homes["b"].lab.start()
    for account in people:
        (await asyncio.to_thread(log_in, cluster, account)).logout()
    wait_until(lambda: not failover(cluster)["unreturned"] and not failover(cluster)["pending"], "the return", 30)
    await_whole(cluster)
    for server in ("a", "b"):
        assert {account: subjects(cluster, server, account) for account in people} == want
    assert took < 3, f"log-ins {took:.2f} s after the second kill"
    if after == 5:
        assert ready == set(people)
