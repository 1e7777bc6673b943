"""What a dead primary had acknowledged and no link had carried yet is put onto the new one by the safety net."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_failover import AUTOMATIC, LONG, failover, judged, log_in, pair_of
from tests.acceptance.test_links import await_whole, linker, mailbox, pairs, send
from tests.acceptance.test_seen import metric
from tests.lab.process import wait_until

BEHIND = 1000

@pytest.mark.parametrize("kind", ["node", "dovecot"])
async def test_what_no_link_had_carried(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kind: str
) -> None:
    cluster = pair_of(make_cluster, make_home, kind)
    ann, bob, _ = cluster.people
    send(cluster, *cluster.people, text="carried")
    cluster.await_quiet()
    await_whole(cluster)
    held = linker(cluster)
    os.kill(held, signal.SIGSTOP)
    try:
        for number in range(5):
            send(cluster, ann, bob, text=f"only there {number}")
        for account in (ann, bob):  # asked of the server: the edge's status would wait for the linker
            wait_until(lambda account=account: len(mailbox(cluster, "a", account)["INBOX"][1]) == 6, "delivered", 10)
        cluster.homes["a"].lab.kill()
    finally:
        os.kill(held, signal.SIGCONT)
    (await asyncio.to_thread(log_in, cluster, ann)).logout()
    cluster.await_quiet(30)
    for account in (ann, bob):
        texts = [raw for _, _, raw in mailbox(cluster, "b", account)["INBOX"][1].values()]
        assert len(texts) == 6, f"{len(texts)} of {account}"
    assert control(cluster.edge, "status")["rescued"] == [{"from": "a", "to": "b", "messages": 10}]
    wait_until(lambda: metric(cluster, "net_rescued_total", source="a", target="b") == 10, "in metrics", 10)
    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"], "the return", 30)
    await_whole(cluster)
    assert len(mailbox(cluster, "a", ann)["INBOX"][1]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["node", *["dovecot"] * LONG])
async def test_a_replica_that_is_a_thousand_messages_behind(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kind: str
) -> None:
    """It hung while they were delivered, and the primary dies before any is carried. All are there, once, from the
    safety net; and when the old primary returns with the same ones, nothing is there twice.
    """
    cluster = pair_of(make_cluster, make_home, kind, extra={"failover": {**AUTOMATIC["failover"], "max_lag": "10m"}})
    ann = cluster.people[0]
    send(cluster, *cluster.people, text="carried")
    cluster.await_quiet()
    await_whole(cluster)
    replica = cluster.homes["b"].lab
    replica.pause()
    outcome = await cluster.send(count=BEHIND, max_size=4096, sessions=8, persistent=True)
    assert outcome.acked >= BEHIND
    wait_until(lambda: control(cluster.edge, "status")["queue"]["messages"] == 0, "all delivered", 60)
    wait_until(lambda: pairs(cluster)[0]["uncovered"] >= BEHIND, "the linker's knowledge of them", 20)
    cluster.homes["a"].lab.kill()
    replica.resume()
    died = time.monotonic()
    (await asyncio.to_thread(log_in, cluster, ann, 0, 60)).logout()
    answered = time.monotonic() - died
    await asyncio.to_thread(judged, cluster, "b")
    print(f"{kind}: log-in {answered:.1f} s after the kill, all {BEHIND} there after {time.monotonic() - died:.1f} s")

    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"], "the return", 120)
    await_whole(cluster, 120)
    for server in ("a", "b"):
        await asyncio.to_thread(judged, cluster, server)
    assert mailbox(cluster, "a", ann) == mailbox(cluster, "b", ann)
