"""A server dies, comes back, and soon after it the one that took over dies: its people go on at the one that is back.

Each has the copies of the other, people work and mail flows all the time. Log-ins are tried from outside, the ledger is
the senders' own. ONEDOMAIN_LONG=1: again and again, as mailboxes grow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from onedomain.drill.people import People
from onedomain.drill.theatre import Door
from tests.acceptance.cluster import PASSWORD, Cluster
from tests.acceptance.load import QUICK, load
from tests.acceptance.test_failover import AUTOMATIC, LONG, log_in
from tests.acceptance.test_links import await_whole, send
from tests.backend.link.mailbox import append_many

AWAY = 5.0
SOON = 10.0
"""Seconds in which it is seen up, its tail is brought, and it has all."""
MESSAGES = 1000
AT_ONCE = 200
TURNS = 8 if LONG else 2


def fill(cluster: Cluster) -> None:
    for account, home in cluster.accounts.items():
        with cluster.homes[home].mailbox(account).open() as session:
            for start in range(0, MESSAGES, AT_ONCE):
                append_many(session, "INBOX", [b"Subject: %d for %b\r\n\r\nold\r\n" % (number, account.encode())
                                               for number in range(start, start + AT_ONCE)])


async def test_the_one_that_took_over_dies_soon_after_the_other_is_back(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    cluster = make_cluster(make_home("node", "a"), make_home("node", "b"), people=2, replicas={"a": "b", "b": "a"},
                           extra={**AUTOMATIC, **QUICK})
    fill(cluster)
    send(cluster, *cluster.people, text="before")
    cluster.await_quiet()
    await_whole(cluster, 60)
    door = Door(cluster.edge.name, cluster.edge.host, *(cluster.edge.port[each] for each in ("smtp", "imap", "pop3")))
    people = People([door], cluster.people, PASSWORD, cluster.folder / "work.jsonl")
    took: list[float] = []
    async with load(cluster, rate=25):
        people.start()
        try:
            await asyncio.sleep(2)
            for turn in range(TURNS):
                lab = cluster.homes["b" if turn % 2 == 0 else "a"].lab
                lab.kill()
                died = time.monotonic()
                for session in await asyncio.gather(
                        *(asyncio.to_thread(log_in, cluster, account, 0, 30) for account in cluster.people)):
                    session.logout()
                took.append(time.monotonic() - died)
                print(f"log-ins {took[-1]:.2f} s after kill {turn + 1}")
                await asyncio.sleep(max(0.0, AWAY - took[-1]))
                await asyncio.to_thread(lab.start)
                await asyncio.sleep(SOON)
        finally:
            people.stop()
    assert max(took) < 3, took
