"""What the spool promises one by one: limits, full disks, failed syncs, damage, large bodies, adoption, locks."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from onedomain.model.failure import Failed, give_up
from onedomain.model.message import Envelope, Outcome, State, Target
from onedomain.queue import notes, record
from onedomain.queue.ids import derived_id
from onedomain.queue.limits import SpoolLimits
from onedomain.queue.spool import Spool
from onedomain.store.disk import RealDisk
from tests.queue.fakes import TINY, ListTrace, ManualClock, open_spool
from tests.store.forgetful import ForgetfulDisk
from tests.store.inline import SeededNonce

ENVELOPE = Envelope(
    "sender@example.net",
    (Target("a..b@example.com", "a..b@example.com", "<a..b@example.com>", "NEVER"), Target("out@example.net")),
    smtputf8=True, eight_bit=True, ret="FULL", envid="e+1", client="192.0.2.1", login="me@example.com",
)
DONE = Outcome(State.DONE, "s1", "250 ok")


@pytest.fixture(autouse=True)
def small_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "RESERVE_SIZE", 3000)


async def put(spool: Spool, body: bytes = b"A: b\r\n\r\nbody", envelope: Envelope = ENVELOPE) -> str:
    draft = spool.draft()
    await draft.write(body)
    await draft.commit(envelope, message_id="<m@x>")
    return draft.id


async def content(spool: Spool, id: str, step: int = 7000) -> bytes:
    body = spool.body(spool.entries[id])
    parts: list[bytes] = []
    while part := await body.read(sum(map(len, parts)), step):
        parts.append(part)
    assert sum(map(len, parts)) == body.size
    return b"".join(parts)


async def test_everything_comes_back_after_a_power_loss() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    bodies = [b"", b"x", bytes(range(256)) * 3, b"y" * 300, b"z" * 301, b"w" * 2000]
    ids = [await put(spool, body) for body in bodies]
    assert sorted(ids) == ids
    disk.crash(1)
    spool = await open_spool(disk, seed=2)
    assert list(spool.entries) == ids
    for id, body in zip(ids, bodies, strict=True):
        for step in (1, 100, 10_000):
            assert await content(spool, id, step) == body
        assert spool.entries[id].envelope == ENVELOPE
        assert spool.entries[id].head.message_id == "<m@x>"
        assert spool.entries[id].size == len(body)
    assert not spool.damage


async def test_a_fresh_body_is_not_read_back() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk, limits=replace(TINY, fresh=100))
    first, second = await put(spool, b"1" * 60), await put(spool, b"2" * 60)
    disk.flip("/spool/0/log-0000000001.segment", disk._file("/spool/0/log-0000000001.segment").cached.index(b"2" * 60))
    assert await content(spool, second) == b"2" * 60, "from memory"
    assert await content(spool, first) == b"1" * 60, "from the disk: there is room for one only"


async def test_an_aborted_draft_leaves_nothing() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    for size in (10, 1000):
        draft = spool.draft()
        await draft.write(bytes(size))
        draft.abort()
        draft.abort()
        with pytest.raises(RuntimeError):
            await draft.write(b"more")
    assert not spool.accepting.held(0)
    disk.kill()
    spool = await open_spool(disk, seed=2)
    assert not spool.entries
    await spool.tidy()
    assert disk.list_directory("/spool/0") == ["reserve"], "not even its chunks"


async def test_many_large_drafts_go_to_the_disk_early() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk, limits=replace(TINY, inline=5000, chunk=1600, in_memory=2000, segment=1 << 20))
    drafts = [spool.draft() for _ in range(20)]
    for _ in range(8):
        for draft in drafts:
            await draft.write(b"d" * 100)
            assert spool.accepting.in_memory <= 2000 + 20 * 100
    for draft in drafts:
        await draft.commit(ENVELOPE)
    disk.crash(1)
    spool = await open_spool(disk, seed=2)
    assert [await content(spool, draft.id) for draft in drafts] == [b"d" * 800] * 20


async def test_too_many_messages_and_too_large_a_queue() -> None:
    for limits in (replace(TINY, messages=2), replace(TINY, size=400)):
        spool = await open_spool(ForgetfulDisk(), limits=limits)
        for _ in range(2):
            await put(spool)
        with pytest.raises(Failed) as caught:
            await put(spool)
        assert (caught.value.failure.code, caught.value.failure.enhanced) == (452, "4.3.1")


@pytest.mark.parametrize("size", [20, 280, 3000])
async def test_a_full_disk_refuses_loses_nothing_and_can_be_emptied(size: int) -> None:
    disk = ForgetfulDisk()
    trace = ListTrace()
    spool = await open_spool(disk, trace=trace)
    disk.capacity = disk.used() + 6000
    ids = []
    for _ in range(200):
        try:
            ids.append(await put(spool, bytes(size)))
        except Failed as error:
            assert error.failure.code == 452
            break
    else:
        raise AssertionError("it never filled")
    assert ids or size > 2000
    disk.capacity = disk.used()  # not one byte more, but for the reserve
    for id in ids[:3]:
        await spool.attempt(spool.entries[id], (0, 1), "s1")
        spool.outcomes(spool.entries[id], {0: DONE, 1: DONE})
    await spool.settle()
    disk.crash(1)
    disk.capacity += 1 << 20
    spool = await open_spool(disk, seed=2)
    assert list(spool.entries) == ids[3:]
    assert [await content(spool, id) for id in ids[3:]] == [bytes(size)] * len(ids[3:])


async def test_with_less_room_than_is_reserved_nothing_is_accepted() -> None:
    disk = ForgetfulDisk(capacity=100_000)
    clock = ManualClock()
    spool = await open_spool(disk, limits=replace(TINY, room=90_000), clock=clock)
    await put(spool)
    disk.capacity = 90_000
    clock.now += 2
    with pytest.raises(Failed) as caught:
        spool.draft()
    assert caught.value.failure.code == 452
    disk.capacity = 200_000
    clock.now += 2
    await put(spool)


async def test_a_failed_sync_refuses_everything_until_a_restart() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    kept = await put(spool)
    disk.failing_syncs = {disk.syncs + 1}
    for _ in range(2):
        with pytest.raises(Failed) as caught:
            await put(spool)
        assert caught.value.failure.code == 452
    assert spool.trouble
    with pytest.raises(Failed):
        spool.draft()
    assert list(spool.entries) == [kept]
    await spool.close()
    spool = await open_spool(disk, seed=2)
    assert list(spool.entries) == [kept]
    assert not spool.trouble


async def test_a_failed_sync_of_outcomes_stops_dispatch_and_leaves_doubt() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    id = await put(spool)
    entry = spool.entries[id]
    await spool.attempt(entry, (0,), "s1")
    disk.failing_syncs = {disk.syncs + 1}
    spool.outcomes(entry, {0: DONE})
    with pytest.raises(Failed):
        await spool.settle()
    with pytest.raises(Failed):
        await spool.attempt(entry, (1,), "s1")
    with pytest.raises(Failed):
        spool.draft()
    disk.crash(5)
    spool = await open_spool(disk, seed=2)
    assert spool.entries[id].of(0).state is State.IN_DOUBT
    assert spool.entries[id].of(1).state is State.AGAIN


async def test_damage_is_set_aside_and_reported_and_costs_one_message() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk, limits=replace(TINY, segment=1 << 20))
    ids = [await put(spool, b"%d" % number * 50) for number in range(5)]
    place = spool.entries[ids[2]].place
    disk.kill()
    disk.flip("/spool/0/log-0000000001.segment", place.offset + 100)
    trace = ListTrace()
    spool = await open_spool(disk, seed=2, trace=trace)
    assert list(spool.entries) == ids[:2] + ids[3:]
    (report,) = trace.named("spool damaged")
    assert report["offset"] == place.offset
    assert any(name.endswith(".damaged") for name in disk.list_directory("/spool/0"))


async def test_a_large_message_with_a_damaged_part_is_held() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk, limits=replace(TINY, segment=1 << 20))
    id = await put(spool, b"x" * 2000)
    chunk = spool.entries[id].chunks[3]
    disk.flip("/spool/0/log-0000000001.segment", chunk.offset + 50)
    with pytest.raises(Failed):
        await content(spool, id)
    disk.kill()
    spool = await open_spool(disk, seed=2)
    assert spool.entries[id].held
    assert spool.damage


async def test_damage_among_the_outcomes_puts_everything_in_doubt() -> None:
    """An attempt may be among what is lost: nothing may be sent again unseen."""
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    ids = [await put(spool) for _ in range(3)]
    for id in ids[:2]:
        await spool.attempt(spool.entries[id], (0, 1), "s1")
    disk.kill()
    name = "/spool/0/state-0000000001.segment"
    disk.flip(name, disk._file(name).cached.index(ids[0].encode()))
    for seed in (2, 3):
        spool = await open_spool(disk, seed=seed)
        assert all(entry.indexes(State.IN_DOUBT) == (0, 1) for entry in spool.entries.values())
        assert list(spool.entries) == ids
        await spool.settle()
        disk.crash(1)


async def test_what_a_later_version_wrote_is_reported_not_guessed() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    id = await put(spool)
    spool._messages.append(b"Q\x09 something new")
    await spool._messages.commit()
    await spool._notes.commit(record.STATE + b'["new kind","' + id.encode() + b'"]', b"\x07unheard of")
    disk.kill()
    spool = await open_spool(disk, seed=2)
    assert list(spool.entries) == [id]
    assert [one.reason.partition(":")[0] for one in spool.damage] == ["not understood"] * 3


async def test_one_process_owns_a_spool() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    with pytest.raises(BlockingIOError):
        await open_spool(disk, seed=2)
    other = await open_spool(disk, "/spool/1", seed=3)
    with pytest.raises(BlockingIOError):
        await other.adopt("/spool/0")
    await spool.close()
    assert await other.adopt("/spool/0") == 0


async def test_adoption_takes_messages_and_what_happened_to_them() -> None:
    disk = ForgetfulDisk()
    dead = await open_spool(disk, "/spool/1")
    waiting, attempted, large, held = [await put(dead, body) for body in (b"w", b"a", b"l" * 1500, b"h")]
    finished = await put(dead)
    await dead.attempt(dead.entries[attempted], (1,), "s1")
    await dead.attempt(dead.entries[finished], (0, 1), "s1")
    dead.outcomes(dead.entries[finished], {0: DONE, 1: DONE})
    dead.hold(dead.entries[held], True)
    await dead.settle()
    disk.kill()
    heir = await open_spool(disk, "/spool/0", seed=5)
    own = await put(heir)
    arrived: list[str] = []
    heir.arrived = lambda entry: arrived.append(entry.id)
    assert await heir.adopt("/spool/1") == 4
    assert await heir.adopt("/spool/1") == 0
    assert arrived == [waiting, attempted, large, held]
    disk.crash(3)
    heir = await open_spool(disk, "/spool/0", seed=6)
    assert set(heir.entries) == {own, waiting, attempted, large, held}
    assert heir.entries[attempted].of(1).state is State.IN_DOUBT
    assert heir.entries[held].held
    assert await content(heir, large) == b"l" * 1500
    assert "1" not in disk.list_directory("/spool")


async def test_an_adoption_cut_off_by_a_full_disk_is_finished_at_the_next_start() -> None:
    disk = ForgetfulDisk()
    dead = await open_spool(disk, "/spool/1")
    ids = [await put(dead, b"x" * 250) for _ in range(10)]
    disk.kill()
    heir = await open_spool(disk, "/spool/0", seed=5)
    disk.capacity = disk.used() + 2000
    with pytest.raises(Failed):
        await heir.adopt("/spool/1")
    disk.crash(1)
    disk.capacity += 100_000
    heir = await open_spool(disk, "/spool/0", seed=6)
    assert sorted(heir.entries) == ids


async def test_an_adoption_cut_off_by_a_full_disk_goes_on_without_a_restart() -> None:
    disk = ForgetfulDisk()
    dead = await open_spool(disk, "/spool/1")
    ids = [await put(dead, b"x" * 250) for _ in range(10)]
    disk.kill()
    heir = await open_spool(disk, "/spool/0", seed=5)
    arrived: list[str] = []
    heir.arrived = lambda entry: arrived.append(entry.id)
    disk.capacity = disk.used() + 2000
    with pytest.raises(Failed):
        await heir.adopt("/spool/1")
    early = list(arrived)
    assert 0 < len(early) < 10
    await heir.attempt(heir.entries[early[0]], (0, 1), "s1")
    heir.outcomes(heir.entries[early[0]], {0: DONE, 1: DONE})
    await heir.tidy()
    disk.capacity += 100_000
    assert await heir.adopt() == 10 - len(early)
    assert sorted(arrived) == ids, "each once"
    assert sorted(heir.entries) == sorted(set(ids) - {early[0]})
    await heir.tidy()
    disk.crash(1)
    heir = await open_spool(disk, "/spool/0", seed=6)
    assert sorted(heir.entries) == sorted(set(ids) - {early[0]})


async def test_room_is_given_back() -> None:
    disk = ForgetfulDisk()
    clock = ManualClock()
    spool = await open_spool(disk, clock=clock)
    waiting = await put(spool, b"w" * 250)
    before = disk.used()
    for _ in range(100):
        id = await put(spool, b"x" * 250)
        await spool.attempt(spool.entries[id], (0, 1), "s1")
        spool.outcomes(spool.entries[id], {0: DONE, 1: DONE})
        clock.now += 11
        await spool.tidy()
    assert disk.used() - before < 4 * TINY.segment + 100 * 400
    assert spool.entries[waiting].place.segment > 1, "it was carried over"
    assert await content(spool, waiting) == b"w" * 250
    disk.crash(1)
    assert list((await open_spool(disk, seed=2)).entries) == [waiting]


async def test_an_outcome_is_durable_after_a_moment_by_itself() -> None:
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    id = await put(spool)
    await spool.attempt(spool.entries[id], (0, 1), "s1")
    spool.outcomes(spool.entries[id], {0: DONE, 1: DONE})
    await asyncio.sleep(notes.FLUSH_SECONDS * 3)
    disk.crash(1)
    assert not (await open_spool(disk, seed=2)).entries


async def test_100_mb_pass_with_flat_memory(tmp_path: Path) -> None:
    spool = await Spool.open(
        str(tmp_path / "0"), disk=RealDisk(), clock=ManualClock(), nonce=SeededNonce(), trace=ListTrace(),
        limits=SpoolLimits(room=0),
    )
    piece = bytes(range(256)) * 256
    tracemalloc.start()
    try:
        draft = spool.draft()
        for _ in range(1600):
            await draft.write(piece)
        entry = await draft.commit(ENVELOPE)
        body = spool.body(entry)
        offset = 0
        while part := await body.read(offset, 1 << 16):
            assert part[0] == offset % 256
            offset += len(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert offset == body.size == 100 << 20
    assert peak < 4 << 20
    await spool.close()


async def test_a_bounce_on_the_disk_is_proof_of_the_failure_it_reports() -> None:
    """The power goes between the bounce and the note of the failure: nobody is asked, nor told, a second time."""
    disk = ForgetfulDisk()
    spool = await open_spool(disk)
    parent, other = await put(spool), await put(spool)
    verdict = Outcome(State.FAILED, "s1", "550 no", give_up(550, "5.1.1", "no"))
    bounce = spool.draft_named(derived_id(parent, "failed 0"))
    await bounce.write(b"report")
    await bounce.commit(Envelope("", (Target("s@x"),)), bounce_of=parent, verdicts=((0, verdict),))
    for seed in (2, 3):
        disk.crash(seed)
        spool = await open_spool(disk, seed=seed)
        assert set(spool.entries) == {parent, other, bounce.id}
        assert spool.entries[parent].of(0).outcome == verdict
        assert spool.entries[parent].indexes(State.AGAIN) == (1,)
        assert spool.entries[other].indexes(State.AGAIN) == (0, 1)
        await spool.settle()


def test_a_loop_that_ends_while_notes_wait_leaves_no_task_that_never_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "FLUSH_SECONDS", 0.0)

    async def life() -> None:
        spool = await open_spool(ForgetfulDisk())
        entry = spool.entries[await put(spool)]
        await spool.attempt(entry, (0,), "s1")
        spool.outcomes(entry, {0: DONE})  # and the process ends: nobody closes the spool

    loop = asyncio.new_event_loop()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loop.run_until_complete(life())
        loop.close()
        gc.collect()
    assert not [str(each.message) for each in told if "never awaited" in str(each.message)]
