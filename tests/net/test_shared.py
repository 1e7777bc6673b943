"""The table shared by forked workers: real forks, dead workers, decay."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from onedomain.net.shared import SharedTable


def in_child(work: Callable[[], object]) -> None:
    """Run `work` in a forked process, and wait for its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_counts_add_up_over_workers() -> None:
    table = SharedTable(1024, 3)

    def worker(number: int) -> None:
        table.start(number)
        for _ in range(10 * (number + 1)):
            table.add("192.0.2.1")
        table.add("192.0.2.2", 7)
        table.add("192.0.2.2", -7)

    for number in range(3):
        in_child(lambda number=number: worker(number))
    assert table.total("192.0.2.1") == 60
    assert table.total("192.0.2.2") == 0
    assert table.total("192.0.2.3") == 0


def test_a_worker_that_died_is_forgotten_by_its_successor() -> None:
    table = SharedTable(1024, 2)
    for number in range(2):
        in_child(lambda number=number: (table.start(number), table.add("a", 5), table.add_penalty("a", 100.0)))
    assert table.total("a") == 10
    in_child(lambda: table.start(1))
    assert table.total("a") == 5
    assert table.penalty("a", 100.0) == 2.0, "penalties outlive the worker"


def test_two_processes_at_once_lose_nothing() -> None:
    table = SharedTable(64, 2)
    ready, go = os.pipe()
    children = []
    for number in range(2):
        pid = os.fork()
        if pid == 0:
            table.start(number)
            os.read(ready, 1)
            for turn in range(20_000):
                table.add(f"key {turn % 5}")
            os._exit(0)
        children.append(pid)
    os.write(go, b"12")
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    os.close(ready)
    os.close(go)
    # 64 slots, five keys: sharing can only make a count too high.
    assert all(table.total(f"key {number}") >= 8_000 for number in range(5))
    assert sum(table._counts) == 2 * 40_000


def test_keys_that_share_a_slot_seldom_share_both() -> None:
    table = SharedTable(1024, 1)
    table.start(0)
    for number in range(300):
        table.add(f"key {number}")
    wrong = sum(table.total(f"key {number}") > 1 for number in range(300))
    assert wrong < 60  # one row alone would have some 76
    assert all(table.total(f"key {number}") >= 1 for number in range(300))


def test_penalties_decay_and_add_up() -> None:
    table = SharedTable(1024, 2, half_life=100.0)
    table.start(0)
    assert table.penalty("user", 0.0) == 0.0
    table.add_penalty("user", 1000.0)
    table.add_penalty("user", 1000.0, 3.0)
    assert table.penalty("user", 1000.0) == 4.0
    assert table.penalty("user", 1100.0) == 2.0
    table.add_penalty("user", 1100.0)
    assert table.penalty("user", 1200.0) == 1.5
    table.start(1)
    table.add_penalty("user", 1200.0, 0.5)
    assert table.penalty("user", 1200.0) == 2.0
    assert table.penalty("user", 1e9) == pytest.approx(0.0)
    assert table.penalty("user", 0.0) == 3.5, "a clock that is behind makes nothing grow"


def test_places_differ_from_run_to_run() -> None:
    keys = [f"key {number}" for number in range(20)]
    first, second = SharedTable(1 << 16), SharedTable(1 << 16)
    assert [first._places(key) for key in keys] != [second._places(key) for key in keys]


def test_wrong_use_is_told() -> None:
    table = SharedTable(16, 1)
    with pytest.raises(RuntimeError, match="start"):
        table.add("a")
    with pytest.raises(ValueError, match="worker 1"):
        table.start(1)
    with pytest.raises(ValueError, match="slots"):
        SharedTable(0)


def test_room_for_so_many_over_all_workers() -> None:
    table = SharedTable(1024, 2)
    for worker in (0, 1):
        table.start(worker)
        assert table.enter("a", 2)
    assert not table.enter("a", 2) and table.enter("b", 2)
    table.add("a", -1)
    assert table.total("a") == 1 and table.enter("a", 2)
