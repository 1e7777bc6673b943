"""The journal on a disk that forgets: what was committed is there, nothing else is, damage costs itself only."""

from __future__ import annotations

import asyncio
import errno
import random
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.failure import Failed, again
from onedomain.store import segment
from onedomain.store.disk import RealDisk
from onedomain.store.journal import Journal
from onedomain.store.segment import (
    HEADER_SIZE,
    MAX_RECORD,
    RECORD_HEADER_SIZE,
    BadHeader,
    Damage,
    Position,
    pack_header,
    unpack_header,
)
from tests.store.forgetful import ForgetfulDisk, PowerLoss
from tests.store.inline import HeldThreads, InlineThreads, SeededNonce

NAME = "/log/log-0000000001.segment"


def journal(
    disk: ForgetfulDisk, *, segment_size: int = 4096, seed: int = 1, threads: Executor | None = None
) -> Journal:
    disk.make_directory("/log")
    return Journal(
        disk, "/log", "log", nonce=SeededNonce(seed), threads=threads or InlineThreads(), segment_size=segment_size
    )


def replayed(disk: ForgetfulDisk) -> tuple[list[bytes], list[Damage]]:
    again = journal(disk, seed=2)
    damage = again.open()
    payloads = []
    for item in again.replay():
        if isinstance(item, Damage):
            damage.append(item)
        else:
            payloads.append(item[1])
            assert again.read(item[0]) == item[1]
    return payloads, damage


async def test_committed_records_survive_in_order() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    log.open()
    wrote = [bytes([number]) * (number * 37 % 900) for number in range(40)]
    places = []
    for payload in wrote:
        places.append(log.append(payload[:5], payload[5:]))
        await log.commit()
    assert len(log.sizes) > 3, "the work must rotate segments"
    assert [log.read(place) for place in places] == wrote
    disk.crash(1)
    assert replayed(disk) == (wrote, [])


async def test_what_others_append_meanwhile_shares_a_sync() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)

    async def one(number: int) -> None:
        log.append(b"x" * number)
        await log.commit()

    await asyncio.gather(*[one(number) for number in range(50)])
    assert disk.log.count("sync") <= 4


async def test_a_sync_waits_for_those_who_keep_coming_and_not_for_long() -> None:
    log = journal(ForgetfulDisk(), segment_size=1 << 20)

    async def one(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        log.append(b"x")
        await log.commit()
        return log.syncs

    await one(0)
    assert log.syncs == 1
    # alone: whoever comes a turn later gets a sync of its own
    assert await asyncio.gather(one(0), one(1)) == [2, 3]
    # two are the beginning of more
    assert await asyncio.gather(one(0), one(0), one(1), one(2)) == [4] * 4
    # and somebody in every turn does not keep the first waiting
    first, *_, last = await asyncio.gather(one(0), *[one(turn) for turn in range(50)])
    assert first == 5 < last


async def test_as_many_as_came_lately_are_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    log = journal(ForgetfulDisk(), segment_size=1 << 20)

    async def one(turns: int = 0) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        log.append(b"x")
        await log.commit()
        return log.syncs

    monkeypatch.setattr("onedomain.store.journal.PATIENCE", 600.0)
    assert await asyncio.gather(one(), one(), one()) == [1] * 3
    # the last of as many as lately begins the sync
    assert await asyncio.gather(one(), one(), one(20)) == [2] * 3
    # nobody is waited for any longer than that, and then nobody any more
    monkeypatch.setattr("onedomain.store.journal.PATIENCE", 0.001)
    assert await one() == 3
    monkeypatch.setattr("onedomain.store.journal.PATIENCE", 600.0)
    assert await one() == 4


async def test_those_who_have_no_task_are_told() -> None:
    log = journal(disk := ForgetfulDisk())
    told: list[object] = []
    log.when_durable(told.append)
    assert told == [None], "there is nothing to be made durable"
    log.append(b"x")
    log.when_durable(told.append)
    assert told == [None] and not disk.log.count("sync")
    await log.commit()
    assert told == [None, None]
    log.poison = again(452, "4.3.1", "broken")
    log.when_durable(told.append)
    assert told[2:] == [log.poison]


async def test_a_defect_of_one_who_is_told_leaves_nobody_without_an_answer() -> None:
    log = journal(ForgetfulDisk())
    defects: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: defects.append(context["exception"]))
    log.append(b"x")
    log.when_durable(lambda failure: defects[1])  # type: ignore[arg-type, return-value]
    told: list[object] = []
    log.when_durable(told.append)
    await log.commit()
    assert [type(defect) for defect in defects] == [IndexError] and told == [None]


async def test_commit_waits_for_its_own_sync(tmp_path: Path) -> None:
    """With a real thread: whoever commits while a sync is in flight gets the next one, not that one."""

    class SlowDisk(RealDisk):
        def open(self, path: str, *, create: bool = False):  # type: ignore[no-untyped-def]
            file = super().open(path, create=create)
            disk = self

            class Slow(type(file)):  # type: ignore[misc]
                __slots__ = ()

                def sync(self) -> None:
                    order.append("sync begins")
                    disk.loop.call_soon_threadsafe(disk.begun.set)
                    asyncio.run_coroutine_threadsafe(disk.gate.acquire(), disk.loop).result(10)
                    super().sync()
                    order.append("sync ends")

            file.__class__ = Slow
            return file

    order: list[str] = []
    disk = SlowDisk()
    disk.loop = asyncio.get_running_loop()  # type: ignore[attr-defined]
    disk.begun = asyncio.Event()  # type: ignore[attr-defined]
    disk.gate = asyncio.Semaphore(0)  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as threads:
        log = Journal(disk, str(tmp_path), "log", nonce=SeededNonce(), threads=threads)
        log.append(b"first")
        first = asyncio.create_task(log.commit())
        await disk.begun.wait()  # type: ignore[attr-defined]
        log.append(b"second")
        second = asyncio.create_task(log.commit())
        disk.gate.release()  # type: ignore[attr-defined]
        await first
        assert not second.done()
        disk.gate.release()  # type: ignore[attr-defined]
        await second
        assert order == ["sync begins", "sync ends"] * 2
        disk.gate.release()  # type: ignore[attr-defined]
        await log.close()


async def script(disk: ForgetfulDisk) -> tuple[list[bytes], list[bytes]]:
    """-> what was acknowledged, what was appended; stops where the power goes."""
    acknowledged: list[bytes] = []
    appended: list[bytes] = []
    chance = random.Random(5)
    try:
        log = journal(disk, segment_size=2048)
        log.open()
        for number in range(12):
            batch = [b"%d/%d " % (number, part) + chance.randbytes(chance.randrange(700)) for part in range(2)]
            for payload in batch:
                appended.append(payload)
                log.append(payload)
            await log.commit()
            acknowledged += batch
        await log.close()
    except PowerLoss:
        pass
    except Failed:
        assert disk.off
    return acknowledged, appended


async def outcome_of_crash(
    fail_at: int, seed: int, *, honest: bool = True
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    disk = ForgetfulDisk(seed=seed, honest=honest)
    disk.fail_at = fail_at
    acknowledged, appended = await script(disk)
    disk.crash(seed)
    found, _ = replayed(disk)
    return acknowledged, appended, found


async def operations() -> int:
    disk = ForgetfulDisk()
    await script(disk)
    return disk.operations


async def test_power_loss_at_every_operation_loses_nothing_and_invents_nothing() -> None:
    for fail_at in range(1, await operations() + 2):
        for seed in range(6):
            acknowledged, appended, found = await outcome_of_crash(fail_at, seed)
            assert [payload for payload in found if payload in acknowledged] == acknowledged
            assert set(found) <= set(appended)


async def test_the_same_crashes_are_seen_to_lose_records_when_sync_lies() -> None:
    lost = 0
    for fail_at in range(1, await operations() + 2, 3):
        acknowledged, _, found = await outcome_of_crash(fail_at, fail_at, honest=False)
        lost += len(set(acknowledged) - set(found))
    assert lost


async def test_failed_sync_poisons() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    log.append(b"before")
    await log.commit()
    disk.failing_syncs = {disk.syncs + 1}
    log.append(b"lost")
    with pytest.raises(Failed) as caught:
        await log.commit()
    assert caught.value.failure.code == 452
    assert "poison" in caught.value.failure.reason
    for refused in (lambda: log.append(b"later"), lambda: log.append(b"")):
        with pytest.raises(Failed):
            refused()
    with pytest.raises(Failed):
        await log.commit()
    assert log.poison
    disk.crash(3)
    assert replayed(disk)[0] == [b"before"]


async def test_failed_sync_fails_everybody_who_waits() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    disk.failing_syncs = {1}

    async def one(number: int) -> None:
        log.append(b"%d" % number)
        await log.commit()

    results = await asyncio.gather(*[one(number) for number in range(5)], return_exceptions=True)
    assert all(isinstance(result, Failed) for result in results)
    disk.kill()
    assert replayed(disk)[0] == [], "those who were told no are not found after a restart of the process alone"


async def test_a_poisoned_journal_closes_behind_its_last_sync_and_what_came_of_that() -> None:
    disk, threads = ForgetfulDisk(), HeldThreads()
    log = journal(disk, threads=threads)
    disk.failing_syncs = {1}
    log.append(b"refused")
    commit = asyncio.create_task(log.commit())
    sync = await threads.begun()
    log.poison = again(452, "4.3.1", "broken")  # a write, meanwhile
    close = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    sync()
    for _ in range(2):  # what became of the refused is cut off, and the files are closed
        (await threads.begun())()
    async with asyncio.timeout(5):
        await close
        with pytest.raises(Failed, match="Storage failure"):
            await commit
    assert not disk.after_close
    disk.kill()
    assert replayed(disk)[0] == [], "who was told no is not found after a restart"


async def test_a_close_that_is_given_up_closes_nothing_before_the_sync_that_others_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = journal(disk := ForgetfulDisk())
    log.append(b"company")
    await asyncio.gather(*[log.commit() for _ in range(3)])
    monkeypatch.setattr("onedomain.store.journal.PATIENCE", 600.0)
    log.append(b"mail")
    commit = asyncio.create_task(log.commit())
    close = asyncio.create_task(log.close())
    for turn in range(20):
        await asyncio.sleep(0)
        if turn == 10:
            close.cancel()
    assert log.syncs == 1, "two wait for the third"
    log.when_durable(lambda failure: None)
    async with asyncio.timeout(5):
        await commit
        with pytest.raises(asyncio.CancelledError):
            await close
    assert not disk.after_close and not log.poison


async def test_a_closed_journal_accepts_nothing() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    log.append(b"before")
    await log.close()
    names = disk.list_directory("/log")
    with pytest.raises(Failed) as caught:
        log.append(b"after")
    assert caught.value.failure.code == 452
    assert disk.list_directory("/log") == names
    assert not log.poison, "closed is no trouble"
    await log.close()


async def test_full_disk_refuses_and_goes_on_when_there_is_room() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    log.append(b"a" * 100)
    await log.commit()
    disk.capacity = disk.used() + 50
    with pytest.raises(Failed) as caught:
        log.append(b"b" * 100)
    assert (caught.value.failure.code, caught.value.failure.enhanced) == (452, "4.3.1")
    assert not log.poison
    log.append(b"c")
    disk.capacity += 1000
    log.append(b"d" * 100)
    await log.commit()
    disk.crash(1)
    assert replayed(disk) == ([b"a" * 100, b"c", b"d" * 100], [])


async def test_full_disk_at_a_new_segment_leaves_no_files_behind() -> None:
    disk = ForgetfulDisk()
    log = journal(disk, segment_size=2000)
    log.append(b"a" * 900)
    await log.commit()
    disk.capacity = disk.used() + 100
    for _ in range(3):
        with pytest.raises(Failed):
            log.append(b"b" * 900)
    assert disk.list_directory("/log") == ["log-0000000001.segment"]
    disk.capacity += 100_000
    log.append(b"b" * 900)
    await log.commit()
    disk.crash(1)
    assert replayed(disk)[0] == [b"a" * 900, b"b" * 900]


async def test_a_new_segment_that_cannot_be_taken_back_is_a_failure_too() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    disk.capacity = disk.used() + 100

    def refuse(what: str) -> None:
        if what == "unlink":
            raise OSError(errno.EROFS, "Read-only file system")

    disk.on_step = refuse
    with pytest.raises(Failed):
        log.append(b"a")
    assert log.poison, "what lies under the name of the next segment is nobody's"


async def written(payloads: list[bytes]) -> tuple[ForgetfulDisk, list[Position]]:
    disk = ForgetfulDisk()
    log = journal(disk, segment_size=1 << 20)
    places = [log.append(payload) for payload in payloads]
    await log.commit()
    disk.kill()
    return disk, places


async def test_a_flipped_bit_costs_its_record_and_no_other() -> None:
    payloads = [bytes([65 + number]) * 50 for number in range(8)]
    size = RECORD_HEADER_SIZE + 50
    for victim in range(8):
        for where in (0, 5, 10, RECORD_HEADER_SIZE, size - 1):
            for bit in (0, 7):
                disk, places = await written(payloads)
                disk.flip(NAME, places[victim].offset + where, bit)
                found, damage = replayed(disk)
                assert found == payloads[:victim] + payloads[victim + 1 :]
                assert [(one.offset, one.length, one.tail) for one in damage] == [
                    (places[victim].offset, size, victim == 7)
                ]
                assert f"log-0000000001.segment.{places[victim].offset}.damaged" in disk.list_directory("/log")
                assert replayed(disk)[0] == found, "a second replay is no different"


async def test_damage_on_a_full_disk_is_reported_and_keeps_nobody_from_starting() -> None:
    """There is no room to keep the torn bytes aside; the records have to be read all the same, to make room."""
    disk, places = await written([b"a" * 100, b"b" * 100, b"c" * 100])
    disk.flip(NAME, places[1].offset + 30)
    for room in (0, 50):
        disk.capacity = disk.used() + room
        found, damage = replayed(disk)
        assert found == [b"a" * 100, b"c" * 100] and len(damage) == 1
        assert disk.list_directory("/log") == ["log-0000000001.segment"]
    disk.capacity += 1000
    assert replayed(disk)[0] == found
    assert len(disk.list_directory("/log")) == 2


async def test_other_files_in_the_folder_are_none_of_ours() -> None:
    disk, _ = await written([b"kept"])
    disk.open("/log/log-before-upgrade.segment", create=True)
    assert replayed(disk) == ([b"kept"], [])


async def test_either_copy_of_the_header_will_do() -> None:
    for sector in (0, 512):
        for where in (0, 8, 12, 30, 40):
            disk, _ = await written([b"kept"])
            disk.flip(NAME, sector + where)
            assert replayed(disk) == ([b"kept"], [])
    disk, _ = await written([b"kept"])
    disk.flip(NAME, 12)
    disk.flip(NAME, 512 + 12)
    found, damage = replayed(disk)
    assert not found
    assert [one.tail for one in damage] == [False]
    assert NAME.removeprefix("/log/") in disk.list_directory("/log"), "what can't be read is left for a human"


async def test_a_payload_cannot_forge_a_record() -> None:
    """Not even a payload that is itself a whole segment with the very same records."""
    disk, places = await written([b"victim " * 3, b"another"])
    whole = disk.content(NAME)
    log = journal(disk, seed=1)
    log.open()
    log.append(whole)
    log.append(b"padding" + whole[places[0].offset :])
    await log.commit()
    disk.kill()
    found, damage = replayed(disk)
    assert len(found) == 4
    assert not damage
    disk.flip("/log/log-0000000002.segment", HEADER_SIZE + 3)  # framing is lost, search goes through the payload
    found, damage = replayed(disk)
    assert len(found) == 3
    assert len(damage) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=12), st.binary(max_size=200), st.data())
def test_garbage_anywhere_is_set_aside(payloads: list[bytes], garbage: bytes, data: st.DataObject) -> None:
    async def body() -> None:
        disk, places = await written(payloads)
        if not places:
            return
        at = data.draw(st.sampled_from(places))
        node = disk._file(NAME)
        end = at.offset + RECORD_HEADER_SIZE + at.length
        node.cached[at.offset : at.offset + len(garbage)] = garbage
        touched = at.offset + len(garbage)
        expected = [
            payload
            for place, payload in zip(places, payloads, strict=True)
            if not (at.offset <= place.offset < max(end, touched))
        ]
        found, _ = replayed(disk)
        if garbage:
            # a garbage byte may by chance be the byte that was there
            assert [payload for payload in found if payload in expected or payload in payloads] == found
            assert len(found) >= len(expected)
        else:
            assert found == payloads

    asyncio.run(body())


async def test_a_torn_tail_of_any_length_is_reported_as_such() -> None:
    disk, places = await written([b"whole", b"to be torn"])
    content = disk.content(NAME)
    for cut in range(places[1].offset + 1, len(content)):
        torn = ForgetfulDisk()
        torn.make_directory("/log")
        torn.open(NAME, create=True).write([content[:cut]], 0)
        found, damage = replayed(torn)
        assert found == [b"whole"]
        assert [(one.offset, one.length) for one in damage] == [(places[1].offset, cut - places[1].offset)]
        assert damage[0].tail


async def test_records_longer_than_the_window_and_the_limit() -> None:
    payloads = [b"a" * (3 << 20), b"b", b"c" * (1 << 20)]
    disk = ForgetfulDisk()
    log = journal(disk, segment_size=32 << 20)
    for payload in payloads:
        log.append(payload)
    await log.commit()
    with pytest.raises(ValueError, match="record of"):
        log.append(b"x" * (MAX_RECORD + 1))
    disk.kill()
    disk.flip(NAME, HEADER_SIZE + 4)  # the length: now beyond the limit
    found, damage = replayed(disk)
    assert found == payloads[1:]
    assert damage[0].length == RECORD_HEADER_SIZE + (3 << 20)


async def test_a_refused_record_leaves_no_torn_bytes() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    log.append(b"a" * 100)
    await log.commit()
    disk.capacity = disk.used() + 50
    with pytest.raises(Failed):
        log.append(b"b" * 100)
    disk.kill()
    assert replayed(disk) == ([b"a" * 100], [])


async def test_a_new_segments_name_is_durable_with_its_first_record() -> None:
    for seed in range(20):
        disk = ForgetfulDisk()
        log = journal(disk)
        log.append(b"first")
        await log.commit()
        disk.crash(seed)
        assert replayed(disk)[0] == [b"first"]


async def test_a_marker_across_two_windows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for window in range(210, 225):
        monkeypatch.setattr(segment, "WINDOW", window)
        disk, places = await written([b"a" * 200, b"b" * 30, b"c" * 40])
        disk.flip(NAME, places[0].offset + 40)
        assert replayed(disk)[0] == [b"b" * 30, b"c" * 40]


async def test_dropped_segments_stay_gone() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    first = log.append(b"first")
    log.rotate()
    second = log.append(b"second")
    await log.drop([first.segment])
    assert log.read(first) is None
    assert log.read(second) == b"second"
    disk.crash(9)
    assert replayed(disk)[0] == [b"second"]


async def test_what_is_appended_while_the_current_segment_is_dropped_is_not_dropped_with_it() -> None:
    disk = ForgetfulDisk()
    log = journal(disk)
    first = log.append(b"wanted no more")
    drop = asyncio.create_task(log.drop([first.segment]))
    await asyncio.sleep(0)  # it waits for the sync
    second = log.append(b"wanted")
    await log.commit()
    await drop
    assert log.read(second) == b"wanted"
    disk.crash(9)
    assert replayed(disk)[0] == [b"wanted"]


def test_header_versions() -> None:
    header = pack_header(7, b"k" * 16)
    assert len(header) == HEADER_SIZE
    assert unpack_header(header) == (7, b"k" * 16)
    with pytest.raises(BadHeader, match="no header"):
        unpack_header(b"")
    with pytest.raises(BadHeader, match="no header"):
        unpack_header(bytes(HEADER_SIZE))


async def test_on_a_real_disk(tmp_path: Path) -> None:
    disk = RealDisk()
    directory = str(tmp_path / "deep" / "log")
    disk.make_directory(directory)
    with ThreadPoolExecutor(1) as threads:
        log = Journal(disk, directory, "log", nonce=SeededNonce(), threads=threads, segment_size=100_000)
        wrote = [b"%d " % number * 3000 for number in range(30)]
        places = [log.append(payload) for payload in wrote]
        await log.commit()
        assert [log.read(place) for place in places] == wrote
        await log.close()
        again = Journal(disk, directory, "log", nonce=SeededNonce(), threads=threads)
        assert again.open() == []
        assert [item[1] for item in again.replay() if not isinstance(item, Damage)] == wrote
        await again.drop(list(again.sizes))
        assert disk.list_directory(directory) == []


def test_a_lock_is_exclusive(tmp_path: Path) -> None:
    disk = RealDisk()
    path = str(tmp_path / "lock")
    lock = disk.lock(path)
    with pytest.raises(BlockingIOError):
        disk.lock(path)
    lock.release()
    disk.lock(path).release()


def test_a_closed_file_is_no_other_file(tmp_path: Path) -> None:
    disk = RealDisk()
    closed = disk.open(str(tmp_path / "a"), create=True)
    closed.close()
    other = disk.open(str(tmp_path / "b"), create=True)  # under the number that has come free
    other.write([b"kept"], 0)
    for use in (closed.sync, lambda: closed.truncate(0), lambda: closed.write([b"x"], 0), closed.close):
        with pytest.raises(OSError, match="Bad file descriptor"):
            use()
    assert other.read(0, 10) == b"kept"
    other.close()
