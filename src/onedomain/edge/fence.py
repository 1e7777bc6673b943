"""What this process may still write, and to whom it may let clients: the one place that says so.

With several edges, an edge that can't reach the directory's database does not know whether a replica was promoted
meanwhile. So it holds a lease, counted from when it was asked for, on its own steady clock; without it nothing goes to
the homes of accounts that have replicas. Goes by decision/link/succession.Fence, which the simulation tests.

Knows the directory in memory, the lease, a clock. Does not know how the lease is come by, nor relays or queues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from onedomain.decision.link.succession import Fence
from onedomain.model.account import Account, DirectoryView
from onedomain.model.ports import Clock

NEVER = float("-inf")


class EdgeFence:
    """Implements model.ports.Gate. `lease` in seconds; None: nobody else could promote anything, so none is needed.

    `on_close` and `on_open` are called when the lease runs out and when there is one again.
    """

    def __init__(self, view: DirectoryView, clock: Clock, lease: float | None) -> None:
        self._view = view
        self._clock = clock
        self._lease = lease
        self._asked = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._open = lease is None
        self.on_close: list[Callable[[], None]] = []
        self.on_open: list[Callable[[], None]] = []

    def granted(self, asked: float) -> None:
        """The keeper says: a lease was granted that it asked for at `asked`, by the clock of this machine."""
        if self._lease is None or asked <= self._asked:
            return
        self._asked = asked
        left = asked + self._lease - self._clock.monotonic()
        if left <= 0:
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._look)
        if not self._open:
            self._open = True
            for tell in self.on_open:
                tell()

    @property
    def may_close(self) -> bool:
        return self._lease is not None

    def may_forward(self, account: Account) -> bool:
        """Whether what a session says that began for `account` as it was then may go on to its home now."""
        if self._lease is None or not account.home.replicas:
            return True
        known = self._view.account(account.address)
        fence = Fence(known.home.epoch if known is not None else 0, self._asked)
        return fence.may_forward(account.home.epoch, self._clock.monotonic(), self._lease)

    def may_write(self, account: Account) -> bool:
        """Whether deliveries and new log-ins may go to the home that the directory names now."""
        return not account.home.pending and self.may_forward(account)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        assert self._lease is not None
        left = self._asked + self._lease - self._clock.monotonic()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self._look)
            return
        self._timer = None
        self._open = False
        for tell in self.on_close:
            tell()
