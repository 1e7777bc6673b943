"""Bodies set aside: durable, found again, bounded; and states saved together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from onedomain.backend.link.base import Letter
from onedomain.model.failure import Failed, again
from onedomain.model.replica import LinkState, Side
from onedomain.replica import aside
from onedomain.replica.aside import Aside, Origin, Room
from onedomain.replica.saving import Saver, Saving
from onedomain.store.disk import RealDisk

from ..store.forgetful import ForgetfulDisk, PowerLoss
from ..store.inline import InlineThreads, SeededNonce


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


HERE = Origin("ann@x", "a", "Sent", Side.TARGET)
REFUSED = Origin("ann@x", "a", "INBOX", Side.SOURCE)


def opened(directory: str, clock: Clock, room: Room | None = None, disk: object = None) -> Aside:
    store = Aside(disk or RealDisk(), directory, clock=clock, nonce=SeededNonce(), threads=InlineThreads(),  # type: ignore[arg-type]
                  room=room)
    assert not store.open()
    return store


def letter(uid: int, raw: bytes) -> Letter:
    return Letter(uid, frozenset({"\\Seen"}), 77, raw)


async def test_what_is_kept_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "PART", 1000)
    store = opened(str(tmp_path), Clock())
    large = bytes(range(256)) * 20 + b'\n{"account":"eve@x","part":0}\n'
    await store.keep(HERE, [letter(1, b"one"), letter(2, large), letter(3, b"")], "deleted")
    await store.keep(REFUSED, [letter(9, b"\0")], "NUL")
    await store.close()
    store = opened(str(tmp_path), Clock())
    found = await store.kept("deleted")
    assert [(each.uid, store.body("deleted", each)) for each in found] == [(1, b"one"), (2, large), (3, b"")]
    assert found[0].flags == ("\\Seen",) and found[0].date == 77 and found[0].folder == "Sent"
    [one] = await store.kept("refused", "ann@x")
    assert (store.body("refused", one), one.why) == (b"\0", "NUL")
    assert not await store.kept("refused", "eve@x") and store.messages == {"deleted": 3, "refused": 1}
    await store.close()


async def test_deleted_ones_are_bounded_and_refused_ones_refuse(tmp_path: Path) -> None:
    clock = Clock()
    store = opened(str(tmp_path), clock, Room(seconds=100, deleted=4 << 20, refused=1 << 20))
    for number in range(20):
        await store.keep(HERE, [letter(number, bytes(500_000))], "deleted")
        await store.tidy()
    assert store.size("deleted") <= 5 << 20
    assert [each.uid for each in await store.kept("deleted")][-1] == 19
    await store.keep(REFUSED, [letter(1, bytes(900_000))], "size")
    with pytest.raises(Failed, match="no room"):
        await store.keep(REFUSED, [letter(2, bytes(900_000))], "size")
    clock.now += 200
    await store.tidy()
    assert not await store.kept("deleted") and len(await store.kept("refused")) == 1
    await store.close()


async def test_nothing_deleted_is_kept_where_there_is_no_room_for_it(tmp_path: Path) -> None:
    store = opened(str(tmp_path), Clock(), Room(deleted=0))
    await store.keep(HERE, [letter(1, b"x")], "deleted")
    assert not await store.kept("deleted")
    await store.close()


async def test_what_was_given_back_is_told_no_more_and_goes_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "PART", 150_000)
    clock = Clock()
    store = opened(str(tmp_path), clock, Room(deleted=16 << 20))  # a segment of 1 MiB
    for number in range(6):
        await store.keep(REFUSED, [letter(number, bytes(400_000))], "size")
    await store.keep(Origin("eve@x", "a", "INBOX", Side.SOURCE), [letter(77, b"eve's")], "NUL")
    first = await store.kept("refused", "ann@x")
    await store.keep(REFUSED, [letter(6, b"late")], "size")
    clock.now -= 1000  # a clock that is set back loses nothing
    await store.done("refused", first[-1])
    await store.keep(REFUSED, [letter(7, b"later")], "size")
    before = store.size("refused")
    for _ in range(2):
        assert [each.uid for each in await store.kept("refused", "ann@x")] == [6, 7]
        assert [each.uid for each in await store.kept("refused")] == [77, 6, 7]
        await store.close()
        store = opened(str(tmp_path), clock, Room(deleted=16 << 20))
    await store.tidy()
    assert store.size("refused") < before / 2, "its place is free again"
    assert [each.uid for each in await store.kept("refused")] == [77, 6, 7]
    for account in ("ann@x", "eve@x"):
        await store.done("refused", (await store.kept("refused", account))[-1])
    await store.tidy()
    assert not await store.kept("refused") and not store.size("refused")
    await store.close()


async def live(disk: ForgetfulDisk, acknowledged: list[bytes]) -> None:
    disk.make_directory("/aside")
    disk.sync_directory("/")
    for life in range(3):
        store = opened("/aside", Clock(), disk=disk)
        for number in range(4):
            raw = b"%d-%d" % (life, number) * 300
            await store.keep(REFUSED, [letter(number, raw), letter(99, raw[:7])], "NUL")
            acknowledged += [raw, raw[:7]]
        await store.close()


@pytest.mark.parametrize("honest", [True, False])
def test_what_was_answered_for_survives_the_power(honest: bool) -> None:
    lost, at = 0, 0
    while True:
        at += 1
        disk, acknowledged = ForgetfulDisk(honest=honest), []
        disk.fail_at = at
        try:
            asyncio.run(live(disk, acknowledged))
        except (PowerLoss, Failed):
            assert disk.off
            disk.crash(at)
        else:
            break
        if "aside" not in disk.list_directory("/"):
            assert not acknowledged
            continue
        store = Aside(disk, "/aside", clock=Clock(), nonce=SeededNonce(), threads=InlineThreads())
        store.open()
        found = [store.body("refused", each) for each in asyncio.run(store.kept("refused"))]
        lost += any(raw not in found for raw in acknowledged)
    assert (lost == 0) is honest and at > 30


class Recorded:
    """A writer of states that takes a turn for each transaction."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.fails = False
        self.refused: set[str] = set()

    async def __call__(self, savings: Sequence[Saving]) -> frozenset[str]:
        await asyncio.sleep(0)
        self.transactions.append([each.account for each in savings])
        if self.fails:
            raise Failed(again(451, "4.3.0", "the database is away"))
        return frozenset(each.account for each in savings) - self.refused


def saving(account: str) -> Saving:
    return Saving(account, "a", "b", 1, LinkState())


async def test_states_are_saved_together() -> None:
    write = Recorded()
    saver = Saver(write)
    await asyncio.gather(*(saver.save(saving(str(number))) for number in range(50)))
    assert len(write.transactions) <= 2 and sum(map(len, write.transactions)) == 50
    write.refused = {"moved"}
    told = await asyncio.gather(saver.save(saving("moved")), saver.save(saving("good")), return_exceptions=True)
    assert isinstance(told[0], Failed) and told[1] is None
    write.fails = True
    with pytest.raises(Failed, match="away"):
        await saver.save(saving("good"))
    write.fails = False
    await saver.save(saving("good"))
