"""Invariant 12 of docs/replication.md in simulation: filters at work while servers and we ourselves die at any moment.

Dispatcher, safety net and rescue are those of the product, and so is what a link says was consumed. A filter acts on
what comes by LMTP, and on nothing else.
"""

from __future__ import annotations

import os
import random
import zlib
from collections import Counter
from typing import Any

import pytest

from onedomain.decision.link.release import release
from onedomain.queue.dispatch import Dispatcher
from onedomain.queue.spool import Spool
from tests.queue.simulation import SimServer
from tests.queue.test_failover_simulation import FAULTS, FailoverWorld, played, small

__all__ = ["small"]
SEEDS = 150 if os.environ.get("ONEDOMAIN_LONG") else 8
ACTIONS = ("keep", "keep", "discard", "redirect", "vacation")


def script(mailbox: str, id: str) -> str:
    """What everybody's filter does with a message: the same at every server."""
    return ACTIONS[zlib.crc32(f"{mailbox} {id}".encode()) % len(ACTIONS)]


class Filtering(SimServer):
    def __init__(self, name: str, chance: random.Random, **options: Any) -> None:
        super().__init__(name, chance, **options)
        self.seen: Counter[tuple[str, str]] = Counter()
        self.sent: Counter[tuple[str, str]] = Counter()

    def filtered(self, mailbox: str, id: str) -> None:
        self.seen[mailbox, id] += 1
        what = script(mailbox, id)
        if what in ("redirect", "vacation"):
            self.sent[mailbox, id] += 1
        if what in ("keep", "vacation"):
            self.store(mailbox, id)


class FilteredWorld(FailoverWorld):
    kind = Filtering

    def __init__(self, seed: int, **faults: float) -> None:
        super().__init__(seed, **faults)
        self.waiting: dict[tuple[str, int], dict[str, int]] = {}

    async def open(self) -> tuple[Spool, Dispatcher]:
        opened = await super().open()
        self.fortune.released = self.passed
        return opened

    def passed(self, account: str, ids: list[str], epoch: int) -> None:
        """The link of this epoch has gone over the account once, and all is on both sides."""
        assert self.net is not None
        begun = {catch.entry.id for catch in self.net.catches(account)}
        begun -= {catch.entry.id for catch in self.net.to_rescue(account)}
        before = self.waiting.get((account, epoch), {})
        waiting = {id: before.get(id, 0) for id in begun}
        released = release(waiting, ids, begun, whole=True)
        self.waiting[account, epoch] = dict(released.waiting)
        self.net.release(account, released.confirmed, released.consumed, epoch)

    def count(self, what: str) -> Counter[tuple[str, str]]:
        servers = [server for server in self.servers.values() if isinstance(server, Filtering)]
        return sum((getattr(server, what) for server in servers), Counter())

    def wrong(self) -> list[str]:
        """Neither doubled nor lost, but for what its filter took; nothing answered or redirected more than once, unless
        its answer had been lost and nobody could find it.
        """
        copies, seen, sent = self.copies(), self.count("seen"), self.count("sent")
        again = Counter((event["account"], event["queue_id"]) for event in self.trace.named("looked up")
                        if event["found"] != "yes")
        wrong = [f"{key} is there {count} times" for key, count in copies.items() if count > 1]
        wrong += [f"{key} was answered {count} times" for key, count in sent.items() if count > 1 + again[key]]
        for id, (_, targets) in self.acknowledged.items():
            for target in targets:
                consumed = script(target, id) in ("discard", "redirect") and seen[target, id]
                if not copies[target, id] and not consumed:
                    wrong.append(f"{target} never got {id}")
        return wrong


def drama(seed: int) -> FilteredWorld:
    return played(FilteredWorld(seed, **FAULTS), seed)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_12_filters_double_nothing_and_hold_nothing_for_ever(seed: int) -> None:
    """The last life of each world does not end before its net is empty."""
    world = drama(seed)
    assert len(world.acknowledged) > 20
    assert world.wrong() == []
    assert world.trace.named("consumed"), "filters took nothing that a net held"


def test_if_the_net_came_by_lmtp_its_mail_is_seen_to_be_answered_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Filtering, "unfiltered", Filtering.filtered)
    assert any("answered" in one for seed in range(4) for one in drama(seed).wrong())
