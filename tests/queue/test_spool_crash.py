"""The spool when the power goes, at every single operation of a disk that forgets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from onedomain.model.failure import Failed
from onedomain.model.message import Envelope, Outcome, State, Target
from onedomain.queue import notes
from onedomain.queue.spool import Spool
from tests.queue.fakes import ManualClock, open_spool
from tests.store.forgetful import ForgetfulDisk, PowerLoss

DONE = Outcome(State.DONE, "s1", "250 ok")
LATER = Outcome(State.AGAIN, "s1", "451 later")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "CHECKPOINT_SIZE", 1200)
    monkeypatch.setattr(notes, "RESERVE_SIZE", 600)


class Ledger:
    """What the outside world knows: what it was promised, and what the servers got. Keyed by (id, index of target)."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}
        self.acknowledged: dict[str, int] = {}
        self.sent: set[tuple[str, int]] = set()
        self.settled: set[tuple[str, int]] = set()
        self.noted: set[tuple[str, int]] = set()
        self.netted: set[tuple[str, int]] = set()     # to be held, even when a server has them
        self.released: set[tuple[str, int]] = set()   # need be held no longer


def body_of(spool: Spool, id: str) -> bytes:
    async def read() -> bytes:
        entry = spool.find(id)
        assert entry is not None
        body = spool.body(entry)
        parts = []
        while part := await body.read(sum(map(len, parts)), 170):
            parts.append(part)
        return b"".join(parts)

    return asyncio.run(read())


async def put(spool: Spool, ledger: Ledger, chance: random.Random, size: int, targets: int) -> str:
    draft = spool.draft()
    body = chance.randbytes(size)
    ledger.written[draft.id] = body
    for start in range(0, size, 120):
        await draft.write(body[start : start + 120])
    names = tuple(Target(f"u{index}@example.com", f"u{index}@example.com") for index in range(targets))
    await draft.commit(Envelope("a@b", names))
    ledger.acknowledged[draft.id] = targets
    return draft.id


async def send(
    spool: Spool, ledger: Ledger, id: str, *indexes: int, outcome: Outcome | None = DONE, epoch: int = 0
) -> None:
    entry = spool.entries[id]
    if epoch:
        ledger.netted |= {(id, index) for index in indexes}
    await spool.attempt(entry, indexes, "s1", dict.fromkeys(indexes, epoch) if epoch else {})
    if outcome is None or outcome.state is State.DONE:
        ledger.sent |= {(id, index) for index in indexes}
    if outcome:
        spool.outcomes(entry, dict.fromkeys(indexes, outcome))
        if outcome.state is State.DONE:
            ledger.noted |= {(id, index) for index in indexes}


async def settle(spool: Spool, ledger: Ledger) -> None:
    await spool.settle()
    ledger.settled |= ledger.noted


def release(spool: Spool, ledger: Ledger, id: str, *indexes: int) -> None:
    entry = spool.find(id)
    assert entry is not None
    ledger.released |= {(id, index) for index in indexes}
    spool.set_epochs(entry, dict.fromkeys(indexes, 0))


async def net_script(disk: ForgetfulDisk, ledger: Ledger) -> None:
    """A life of two safety nets: messages held in the log and set aside, released, compacted, restarted, adopted."""
    chance = random.Random(4)
    clock = ManualClock()
    for slot in ("/spool/1", "/spool/0"):
        spool = await open_spool(disk, slot, clock=clock, seed=1 if slot == "/spool/1" else 2)
        two = await put(spool, ledger, chance, 100, 2)
        large = await put(spool, ledger, chance, 1500, 1)
        many = [await put(spool, ledger, chance, 250, 1) for _ in range(9)]
        await send(spool, ledger, two, 0, epoch=3)
        await send(spool, ledger, two, 1, outcome=LATER, epoch=3)
        for id in (large, *many[:6]):
            await send(spool, ledger, id, 0, epoch=3)
        for id in many[6:8]:
            await send(spool, ledger, id, 0)
        await settle(spool, ledger)
        assert len(spool.netted) == 7
        release(spool, ledger, many[0], 0)
        assert await spool.set_aside([large, *many[1:4], many[7]]) == 4
        release(spool, ledger, many[1], 0)
        await send(spool, ledger, two, 1, epoch=3)
        release(spool, ledger, two, 0)
        clock.now += 11
        await spool.tidy()
        await put(spool, ledger, chance, 400, 1)
        await send(spool, ledger, many[8], 0, outcome=None, epoch=3)
        clock.now += 11
        await spool.tidy()
        assert await spool.set_aside([two, many[4]]) == 2
        release(spool, ledger, large, 0)
        release(spool, ledger, two, 1)
        await settle(spool, ledger)
        clock.now += 11
        await spool.tidy()
        if slot == "/spool/1":
            await spool.close()
    await spool.adopt("/spool/1")
    clock.now += 11
    await spool.tidy()
    for id in list(spool.netted)[::2]:
        release(spool, ledger, id, 0)
    await settle(spool, ledger)
    clock.now += 11
    await spool.tidy()
    await spool.close()


async def script(disk: ForgetfulDisk, ledger: Ledger) -> None:
    """A life of two spools: messages small and large, attempts, outcomes, an abort, compaction, restart, adoption."""
    chance = random.Random(3)
    clock = ManualClock()
    for slot in ("/spool/1", "/spool/0"):
        spool = await open_spool(disk, slot, clock=clock, seed=1 if slot == "/spool/1" else 2)
        first = await put(spool, ledger, chance, 100, 2)
        large = await put(spool, ledger, chance, 1500, 1)
        many = [await put(spool, ledger, chance, 250, 1) for _ in range(8)]
        await send(spool, ledger, first, 0)
        await send(spool, ledger, first, 1, outcome=LATER)
        for id in many[:3]:
            await send(spool, ledger, id, 0)
        await settle(spool, ledger)
        aborted = spool.draft()
        await aborted.write(bytes(700))
        aborted.abort()
        await send(spool, ledger, many[3], 0, outcome=None)
        for id in many[4:]:
            await send(spool, ledger, id, 0)
        await settle(spool, ledger)
        clock.now += 11
        await spool.tidy()
        await put(spool, ledger, chance, 400, 1)
        clock.now += 11
        await spool.tidy()
        if slot == "/spool/1":
            await spool.close()
    await spool.adopt("/spool/1")
    clock.now += 11
    await spool.tidy()
    await send(spool, ledger, large, 0)
    await settle(spool, ledger)
    clock.now += 11
    await spool.tidy()
    await spool.close()


Script = Callable[[ForgetfulDisk, Ledger], Coroutine[Any, Any, None]]


def run_until_crash(disk: ForgetfulDisk, ledger: Ledger, life: Script) -> None:
    async def body() -> None:
        try:
            await life(disk, ledger)
        except PowerLoss:
            pass
        except Failed:
            assert disk.off, "nothing else may fail"

    asyncio.run(body())


def losses(disk: ForgetfulDisk, ledger: Ledger) -> list[str]:
    """Opens both spools again and compares with the ledger -> what is wrong."""
    wrong: list[str] = []
    found: dict[str, Spool] = {}

    async def reopen() -> list[Spool]:
        spools = [await open_spool(disk, "/spool/0", seed=7)]
        if "1" in disk.list_directory("/spool"):
            spools.append(await open_spool(disk, "/spool/1", seed=8))
        for spool in spools:
            for id in (*spool.entries, *spool.netted):
                if id in found:
                    wrong.append(f"{id} is in two spools")
                found[id] = spool
        return spools

    asyncio.run(reopen())
    for id, spool in found.items():
        if id not in ledger.written:
            wrong.append(f"{id} was never written")
            continue
        try:
            if body_of(spool, id) != ledger.written[id]:
                wrong.append(f"{id} has another body")
        except Failed:
            wrong.append(f"{id} can't be read")
    for id, targets in ledger.acknowledged.items():
        for index in range(targets):
            entry = found[id].find(id) if id in found else None
            state = entry.of(index).state if entry else State.DONE
            key = (id, index)
            held = entry is not None and (state is not State.DONE or entry.of(index).netted)
            if key in ledger.netted - ledger.released and not held:
                wrong.append(f"{key} is not held any more")
            if key not in ledger.sent and state is State.DONE:
                wrong.append(f"{key} is lost")
            if key in ledger.sent and state is State.AGAIN:
                wrong.append(f"{key} would be sent a second time")
            if key in ledger.settled and state is not State.DONE:
                wrong.append(f"{key} was settled and is {state}")
    return wrong


def attempt_all(honest: bool, seeds: range, step: int = 1, life: Script = script) -> list[str]:
    disk = ForgetfulDisk()
    ledger = Ledger()
    run_until_crash(disk, ledger, life)
    operations = disk.operations
    assert not losses(disk, ledger)
    assert {"create", "unlink", "rename", "sync", "sync directory"} <= set(disk.log)
    wrong: list[str] = []
    for fail_at in range(1, operations + 1, step):
        for seed in seeds:
            disk = ForgetfulDisk(seed=seed, honest=honest)
            disk.fail_at = fail_at
            ledger = Ledger()
            run_until_crash(disk, ledger, life)
            disk.crash(seed * 1000 + fail_at)
            wrong += [f"operation {fail_at}, seed {seed}: {one}" for one in losses(disk, ledger)]
    return wrong


def test_nothing_is_lost_doubled_or_forged_whenever_the_power_goes() -> None:
    assert attempt_all(True, range(1)) == []
    assert attempt_all(True, range(1, 3), step=4) == []


@pytest.mark.parametrize("flush", [notes.FLUSH_SECONDS, 0.001])
def test_nothing_leaves_the_net_whenever_the_power_goes(flush: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon flushed, checkpoints come while attempts are being made durable."""
    monkeypatch.setattr(notes, "FLUSH_SECONDS", flush)
    assert attempt_all(True, range(1), life=net_script) == []
    assert attempt_all(True, range(1, 3), step=9, life=net_script) == []


def test_a_taken_over_spool_is_removed_in_no_order_that_forgets_what_became_of_its_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever of the removals the disk has kept: seeds that lost the states and not the messages are among these.
    Without checkpoints, so that there are several files of states.
    """
    monkeypatch.setattr(notes, "CHECKPOINT_SIZE", 1 << 20)
    disk = ForgetfulDisk()
    run_until_crash(disk, Ledger(), net_script)
    removals = [number for number, what in enumerate(disk.log, 1) if what == "unlink"]
    wrong: list[str] = []
    for fail_at in removals:
        for seed in range(12):
            disk, ledger = ForgetfulDisk(seed=seed), Ledger()
            disk.fail_at = fail_at
            run_until_crash(disk, ledger, net_script)
            disk.crash(seed * 1000 + fail_at)
            wrong += [f"operation {fail_at}, seed {seed}: {one}" for one in losses(disk, ledger)]
    assert wrong == []


def test_the_net_is_seen_to_lose_mail_when_sync_lies() -> None:
    assert any("is not held" in one for one in attempt_all(False, range(1), step=5, life=net_script))


def test_the_same_crashes_are_seen_to_lose_mail_when_sync_lies() -> None:
    wrong = attempt_all(False, range(1), step=5)
    assert any("is lost" in one for one in wrong)
    assert any("second time" in one for one in wrong)
