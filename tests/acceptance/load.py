"""Mail that keeps coming while a test does something else."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from onedomain.ledger.ledger import Ledger
from onedomain.ledger.load import Load, Plan
from tests.acceptance.cluster import Cluster
from tests.lab.process import wait_until

SEED = int(os.environ.get("ONEDOMAIN_SEED") or random.SystemRandom().randrange(10**6))

QUICK = {"retry": {"first": "0.5s", "longest": "3s"}}
"""Recipients that a home puts off for a moment are tried again soon: the tests wait for them."""


@asynccontextmanager
async def load(cluster: Cluster, **plan: Any) -> AsyncIterator[Load]:
    """Mail keeps coming, from senders that do not give up; ends with the block, when all that was begun is settled."""
    plan = {"recipients": cluster.people, "max_size": 16 << 10, "sessions": 6, "rate": 60, "seed": SEED} | plan
    targets = [(edge.host, edge.port["smtp"]) for edge in cluster.edges]
    with Ledger(cluster.ledger) as ledger:
        running = Load(Plan(targets=targets, persistent=True, patience=300, duration=3600, **plan), ledger)
        task = asyncio.create_task(running.run())
        try:
            yield running
            running.stop()
            await task
        finally:
            task.cancel()


async def acknowledged(running: Load, more: int) -> None:
    """Until so many more recipients have been acknowledged."""
    wanted = running.outcome.acked + more
    await asyncio.to_thread(wait_until, lambda: running.outcome.acked >= wanted, f"{more} more acknowledgements")
