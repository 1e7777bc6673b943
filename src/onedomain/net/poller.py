"""One epoll per process, nested in the event loop, and one sweep of all deadlines per second.

Knows descriptors, masks and callbacks. Does not know sockets, TLS or protocols.

Why not loop.add_reader for each socket: uvloop reports an error on a descriptor once and then closes its poll, so that
sessions hang, and an add or remove costs four times an epoll_ctl. Level-triggered, because a session that reads one
buffer per event is fair to the others by itself, and TLS needs no failing read to find out that nothing is left.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

IN = select.EPOLLIN
OUT = select.EPOLLOUT
BROKEN = select.EPOLLHUP | select.EPOLLERR
"""Reported whether asked for or not."""

SWEEP_SECONDS = 1.0
RECEIVE_SIZE = 65536
LARGE_SIZE = 1 << 20
"""What is read where a peer sends much and the other takes all of it at once."""

_BATCH = 256

Callback = Callable[[int], None]
"""Told the epoll mask. A hint, no more: a descriptor's number may have been used anew since the kernel looked."""


class Swept(Protocol):
    def sweep(self, now: float) -> None:
        """Called about once a second with loop.time()."""
        ...


class Poller:
    """`now` is loop.time() as of the last batch of events, of which there were `rounds`.

    `buffer` is for whoever reads and passes on at once, and so is `large_buffer`, of which it is the beginning.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = loop.time()
        self.rounds = 0
        self.large_buffer = memoryview(bytearray(LARGE_SIZE))
        self.buffer = self.large_buffer[:RECEIVE_SIZE]
        self._callbacks: dict[int, Callback] = {}
        self._swept: set[Swept] = set()
        self._soon: list[Callable[[], None]] = []
        self._in_batch = False
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._ready)
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep)

    @staticmethod
    def running() -> Poller:
        """The poller of the running loop, made at the first call."""
        loop = asyncio.get_running_loop()
        poller = _pollers.get(loop)
        if poller is None:
            for old in [old for old in _pollers if old.is_closed()]:
                _pollers.pop(old).close()
            poller = _pollers[loop] = Poller(loop)
        return poller

    @property
    def open(self) -> int:
        """How many descriptors are attached."""
        return len(self._callbacks)

    def attach(self, fd: int, callback: Callback) -> None:
        """Events of `fd` go to `callback`; replaces the one before. Nothing comes until `interest` asks for it."""
        self._callbacks[fd] = callback

    def interest(self, fd: int, old: int, new: int) -> None:
        """Change what is asked for. With 0 the descriptor leaves the epoll, or a hang-up would be reported forever."""
        if old == new:
            return
        if new == 0:
            self._epoll.unregister(fd)
        elif old == 0:
            self._epoll.register(fd, new)
        else:
            self._epoll.modify(fd, new)

    def detach(self, fd: int) -> None:
        """To be called before the descriptor is closed, which takes it out of the epoll.

        One that other processes have open, too, stays there: its owner has to ask for 0 first.
        """
        self._callbacks.pop(fd, None)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Once the batch of events that is being gone through is over, which saves the loop a turn; else as the loop's.
        """
        if self._in_batch:
            self._soon.append(callback)
        else:
            self.loop.call_soon(callback)

    def watch(self, item: Swept) -> None:
        self._swept.add(item)

    def unwatch(self, item: Swept) -> None:
        self._swept.discard(item)

    def close(self) -> None:
        """Forget everything. The descriptors watched are their owners' to close."""
        self._timer.cancel()
        if not self.loop.is_closed():
            self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._callbacks.clear()
        self._swept.clear()
        _pollers.pop(self.loop, None)

    def _ready(self) -> None:
        self.now = self.loop.time()
        self.rounds += 1
        callbacks = self._callbacks
        events = self._epoll.poll(0, _BATCH)
        self._in_batch = True
        for fd, mask in events:
            callback = callbacks.get(fd)
            if callback is None:
                self._forget(fd)
                continue
            try:
                callback(mask)
            except Exception as error:  # noqa: BLE001  one session's bug must not take the batch with it
                self._complain("event callback failed", error)
        soon = self._soon
        for after in soon:  # what they add comes behind them
            try:
                after()
            except Exception as error:  # noqa: BLE001  as above
                self._complain("callback failed", error)
        soon.clear()
        self._in_batch = False

    def _forget(self, fd: int) -> None:
        """Nobody's: closed within this batch, or left open by a mistake, of which we would be told again and again."""
        with suppress(OSError):
            self._epoll.unregister(fd)

    def _sweep(self) -> None:
        self.now = self.loop.time()
        self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)
        for item in tuple(self._swept):
            try:
                item.sweep(self.now)
            except Exception as error:  # noqa: BLE001  as above
                self._complain("sweep failed", error)

    def _complain(self, message: str, error: Exception) -> None:
        self.loop.call_exception_handler({"message": message, "exception": error})


_pollers: dict[asyncio.AbstractEventLoop, Poller] = {}
