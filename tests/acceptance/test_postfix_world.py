"""A Postfix, as the world outside, sends to one domain on Dovecot, Cyrus and a node: all arrives, once, as sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from onedomain.ledger.corpus import DEFAULT_KINDS
from onedomain.ledger.ledger import ACKED, read
from tests.acceptance.cluster import Cluster
from tests.acceptance.load import QUICK
from tests.lab.process import wait_until

MESSAGES = 1000


async def through_postfix(cluster: Cluster, start_postfix: Callable[..., Any], count: int, **plan: Any) -> None:
    """Send, wait until Postfix is rid of it all, and the edges too."""
    edge = cluster.edge
    world = start_postfix(relay={"example.com": (edge.host, edge.port["smtp"])})
    outcome = await cluster.send(
        targets=[(world.host, world.smtp_port)], count=count, recipients_per_message=5, sessions=20, **plan
    )
    # Postfix itself refuses a few of the odd senders; what it took is ours.
    bad_senders = sum(number for reply, number in outcome.replies.items() if reply.startswith("501 5.1.7"))
    assert outcome.refused == bad_senders < outcome.acked / 20 and not outcome.unknown, outcome.summary()
    wait_until(lambda: not world.queue(), "Postfix's empty queue", 120)


@pytest.mark.slow
async def test_a_thousand_messages_to_three_servers(
    make_cluster: Callable[..., Cluster], start_postfix: Callable[..., Any]
) -> None:
    cluster = make_cluster("dovecot", "cyrus", "node", people=7)
    await through_postfix(cluster, start_postfix, MESSAGES, recipients=cluster.people[:20])
    report = cluster.assert_exact()
    acts = [act for act in read(cluster.ledger) if act.state == ACKED]
    assert report.found == report.acknowledged == len(acts) > 2 * MESSAGES
    homes = Counter(cluster.accounts[act.account] for act in acts)
    assert min(homes.values()) > MESSAGES / 2
    spread: dict[str, set[str]] = {}
    for act in acts:
        spread.setdefault(act.token, set()).add(cluster.accounts[act.account])
    assert len(spread) > MESSAGES * 0.95
    assert sum(len(names) == 3 for names in spread.values()) > MESSAGES / 4
    assert {"shift_jis", "iso_2022_jp"} <= set(DEFAULT_KINDS)


async def test_first_deliveries_that_race(
    make_cluster: Callable[..., Cluster], start_postfix: Callable[..., Any]
) -> None:
    """Nobody has a folder yet. Dovecot refuses some with 451, and its lmtp dies of others, taking answers with it."""
    cluster = make_cluster("dovecot", "cyrus", "node", people=5, prepared=False, extra=QUICK)
    await through_postfix(cluster, start_postfix, 100, max_size=8 << 10)
    cluster.assert_exact()
