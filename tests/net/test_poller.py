"""The poller: one per loop, failing callbacks, descriptors used anew."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import uvloop

from onedomain.net.poller import IN, OUT, Poller
from onedomain.net.stream import Stream


async def test_one_per_loop() -> None:
    assert Poller.running() is Poller.running()


def test_a_closed_loop_s_poller_is_let_go() -> None:
    async def open_one() -> Poller:
        near, far = socket.socketpair()
        with near, far:
            poller = Poller.running()
            poller.attach(near.fileno(), lambda _: None)
            return poller

    first = uvloop.run(open_one())
    assert first._epoll.closed is False
    second = uvloop.run(open_one())
    assert second is not first
    assert first._epoll.closed is True


async def test_what_is_nobody_s_is_told_of_once() -> None:
    poller = Poller.running()
    near, far = socket.socketpair()
    with near, far:
        poller.attach(near.fileno(), lambda _: None)
        poller.interest(near.fileno(), 0, IN)
        poller.detach(near.fileno())  # and not closed
        before = poller.rounds
        far.send(b"x")
        while poller.rounds == before:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert poller.rounds == before + 1


async def test_a_failing_callback_is_told_and_the_others_go_on() -> None:
    poller = Poller.running()
    loud: list[dict[str, Any]] = []
    poller.loop.set_exception_handler(lambda _, context: loud.append(context))
    pairs = [socket.socketpair() for _ in range(3)]
    seen: list[int] = []

    def callback(fd: int) -> None:
        poller.interest(fd, IN, 0)
        poller.detach(fd)
        seen.append(fd)
        if len(seen) == 1:
            raise ZeroDivisionError

    for near, far in pairs:
        fd = near.fileno()
        poller.attach(fd, lambda _, fd=fd: callback(fd))
        poller.interest(fd, 0, IN)
        far.send(b"x")
    while len(seen) < 3:
        await asyncio.sleep(0)
    assert sorted(seen) == sorted(near.fileno() for near, _ in pairs)
    assert len(loud) == 1
    for near, far in pairs:
        near.close()
        far.close()


async def test_a_failing_sweep_does_not_end_sweeping() -> None:
    poller = Poller.running()
    poller.loop.set_exception_handler(lambda *_: None)
    swept = asyncio.Event()

    class Bad:
        turns = 0

        def sweep(self, now: float) -> None:
            self.turns += 1
            if self.turns == 3:
                swept.set()
            raise ZeroDivisionError

    bad = Bad()
    poller.watch(bad)
    await asyncio.wait_for(swept.wait(), 5)
    poller.unwatch(bad)


async def test_interest_in_nothing_leaves_the_epoll() -> None:
    """A mask of 0 would still report a hang-up, at every turn of the loop."""
    poller = Poller.running()
    near, far = socket.socketpair()
    calls: list[int] = []
    poller.attach(near.fileno(), calls.append)
    poller.interest(near.fileno(), 0, IN | OUT)
    poller.interest(near.fileno(), IN | OUT, 0)
    far.close()
    await asyncio.sleep(0.05)
    assert calls == []
    poller.detach(near.fileno())
    near.close()


async def test_an_idle_process_sleeps() -> None:
    """Open sessions, half-closed ones, broken ones: none of them may keep the processor busy."""
    streams = []
    for number in range(30):
        near, far = socket.socketpair()
        stream = Stream(near, peer=("test", number))
        streams.append(stream)
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        far.send(b"one")
        await reading
        if number % 3:
            far.send(b"two")
        if number % 3 == 2:
            far.close()
        else:
            streams.append(Stream(far, peer=("test", number)))
    await asyncio.sleep(0.05)
    before = os.times()
    await asyncio.sleep(0.3)
    after = os.times()
    assert after.user + after.system - before.user - before.system < 0.1
    for stream in streams:
        stream.close()


async def test_what_comes_behind_a_batch() -> None:
    """In the same turn of the loop, in order, whatever fails; outside of a batch it is the loop's."""
    poller = Poller.running()
    loud: list[dict[str, Any]] = []
    poller.loop.set_exception_handler(lambda _, context: loud.append(context))
    done: list[str] = []
    near, far = socket.socketpair()

    def fails() -> None:
        raise ValueError

    def later() -> None:
        done.append("later")
        poller.call_soon(lambda: done.append("behind it"))

    def heard(mask: int) -> None:
        near.recv(10)
        poller.loop.call_soon(done.append, "the loop's")
        for callback in (fails, later):
            poller.call_soon(callback)
        done.append("event")

    with near, far:
        poller.attach(near.fileno(), heard)
        poller.interest(near.fileno(), 0, IN)
        poller.call_soon(lambda: done.append("no batch"))
        await asyncio.sleep(0)
        far.send(b"x")
        while "the loop's" not in done:
            await asyncio.sleep(0)
        poller.interest(near.fileno(), IN, 0)
        poller.detach(near.fileno())
    assert done == ["no batch", "event", "later", "behind it", "the loop's"]
    assert len(loud) == 1
