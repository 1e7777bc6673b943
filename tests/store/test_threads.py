"""The thread of a journal: in order, one at a time, and nothing that is submitted can end it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from onedomain.store.threads import OneThread


@pytest.fixture
def thread() -> Iterator[OneThread]:
    made = OneThread("test")
    yield made
    made.shutdown()


def test_one_after_the_other_in_one_thread(thread: OneThread) -> None:
    order: list[int] = []
    names: set[str] = set()

    def work(number: int, *, name: str) -> str:
        order.append(number)
        names.add(threading.current_thread().name)
        return f"{name}{number}"

    futures = [thread.submit(work, number, name="n") for number in range(50)]
    assert [future.result(5) for future in futures] == [f"n{number}" for number in range(50)]
    assert order == list(range(50)) and names == {"test"}


def test_what_is_raised_is_the_futures(thread: OneThread) -> None:
    def fail() -> None:
        raise SystemExit("no")

    failed = thread.submit(fail)
    assert isinstance(failed.exception(5), SystemExit)
    assert thread.submit(int, "7").result(5) == 7


def test_what_nobody_wants_any_more_is_not_done_or_not_told(thread: OneThread) -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait(5)

    running = thread.submit(wait)
    assert begun.wait(5)
    waiting = thread.submit(done.set)
    assert waiting.cancel() and not running.cancel()
    go.set()
    assert thread.submit(int, "7").result(5) == 7
    assert running.result(5) is None and not done.is_set()


async def test_a_loop_that_waits_no_longer_does_no_harm(thread: OneThread) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait(5)

    task = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(thread, wait))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    assert await asyncio.get_running_loop().run_in_executor(thread, int, "7") == 7


def test_the_end() -> None:
    thread = OneThread("test")
    thread.shutdown()  # never begun
    begun, go = threading.Event(), threading.Event()
    thread = OneThread("test")

    def wait() -> str:
        begun.set()
        go.wait(5)
        return "done"

    first = thread.submit(wait)
    assert begun.wait(5)
    second = thread.submit(wait)
    thread.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="ended"):
        thread.submit(wait)
    go.set()
    thread.shutdown()
    assert first.result(0) == "done" and second.cancelled()
