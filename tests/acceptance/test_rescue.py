"""What a dead primary had acknowledged and no link had carried yet is put onto the new one by the safety net."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.test_failover import failover, log_in, pair_of
from tests.acceptance.test_links import await_whole, linker, mailbox, send
from tests.lab.process import wait_until


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
            wait_until(lambda account=account: len(mailbox(cluster, "a", account)["INBOX"][1]) == 6, "delivered", 5)
        cluster.homes["a"].lab.kill()
    finally:
        os.kill(held, signal.SIGCONT)
    (await asyncio.to_thread(log_in, cluster, ann)).logout()
    cluster.await_quiet(30)
    for account in (ann, bob):
        texts = [raw for _, _, raw in mailbox(cluster, "b", account)["INBOX"][1].values()]
        assert len(texts) == 6, f"{len(texts)} of {account}"
    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"], "the return", 30)
    await_whole(cluster)
    assert len(mailbox(cluster, "a", ann)["INBOX"][1]) == 6
