"""What this worker tells the linker of its accounts' mailboxes, and what it hears of them.

Every change gets a ticket and is kept until a pass of the link has covered it; when the line to the keeper is new, all
that is kept is told again, so keeper and linker may die at any time. Told once per turn of the loop.

Knows tickets and who waits for them. Does not know links, passes or servers. An account without replicas costs one
look-up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from onedomain.control.link import Handler, Link, LinkError
from onedomain.decision.net import TRY_SECONDS, is_linked
from onedomain.model.account import Account, DirectoryView
from onedomain.model.ports import Clock

PER_ACCOUNT = 64
"""Most changes of one account that are kept apart: beyond it they are one, "look at everything"."""
IN_ALL = 50_000
PER_LINE = 500
READY_SECONDS = 10.0


class Change(NamedTuple):
    """`what` "": anything may have changed, anywhere in the account."""

    ticket: int
    what: str
    folder: str
    deliveries: tuple[str, ...]


class _Open:
    """What is not covered yet of one account, and who waits for which ticket."""

    __slots__ = ("changes", "waiting")

    def __init__(self) -> None:
        self.changes: deque[Change] = deque()
        self.waiting: list[tuple[int, asyncio.Future[bool]]] = []

    def is_open(self, ticket: int) -> bool:
        return any(change.ticket == ticket or (not change.what and change.ticket > ticket) for change in self.changes)


class Way(Protocol):
    """app/line.py, as it is seen here."""

    @property
    def connected(self) -> bool: ...
    def tell(self, verb: str, **arguments: Any) -> None: ...
    async def call(self, verb: str, *, timeout: float, **arguments: Any) -> Any: ...


class Holder(Protocol):
    """The safety net, as it is seen here."""

    def release(self, account: str, confirmed: Iterable[str], consumed: Iterable[str], epoch: int) -> None: ...
    def held(self, account: str = "") -> dict[str, list[tuple[str, float]]]: ...


class Events:
    """Implements model.ports.Changes and LinkView. Tickets ascend over all processes of a slot: they begin with the
    time, so that no answer meant for a predecessor covers anything here.
    """

    def __init__(self, view: DirectoryView, line: Way, clock: Clock, net: Holder) -> None:
        self._view = view
        self._line = line
        self._net = net
        self._ticket = int(clock.time() * 1_000_000)
        self._accounts: dict[str, _Open] = {}
        self._count = 0
        self._untold: list[tuple[str, Change]] = []
        self._stopped: frozenset[str] = frozenset()
        self._asking: dict[str, asyncio.Task[bool]] = {}

    def handlers(self) -> dict[str, Handler]:
        return {"covered": self._take_covered, "released": self._take_released, "links": self._take_links,
                "retell": self._take_retell, "net": self._tell_net}

    # -- telling

    def changed(self, account: str, what: str, folder: str = "", deliveries: tuple[str, ...] = ()) -> int:
        row = self._view.account(account)
        if row is None or not row.home.replicas or not is_linked(self._view, row):
            return 0
        self._ticket += 1
        change = Change(self._ticket, what, folder, deliveries)
        self._keep(account, change)
        if not self._untold:
            asyncio.get_running_loop().call_soon(self._tell)
        self._untold.append((account, change))
        return change.ticket

    def _keep(self, account: str, change: Change) -> None:
        kept = self._accounts.get(account)
        if kept is None:
            kept = self._accounts[account] = _Open()
        kept.changes.append(change)
        self._count += 1
        if len(kept.changes) > (PER_ACCOUNT if self._count <= IN_ALL else 1):
            # A link that stopped must not fill our memory. Deliveries are not forgotten: the safety net has them.
            self._count -= len(kept.changes) - 1
            kept.changes.clear()
            kept.changes.append(Change(change.ticket, "", "", ()))

    def _tell(self) -> None:
        untold, self._untold = self._untold, []
        self._send(untold)

    def _send(self, changes: list[tuple[str, Change]]) -> None:
        for start in range(0, len(changes), PER_LINE):
            events = [[one.ticket, account, one.what, one.folder, list(one.deliveries)]
                      for account, one in changes[start : start + PER_LINE]]
            self._line.tell("touched", events=events)

    def tell_all(self) -> None:
        """To a keeper or a linker that knows nothing: all that is not covered."""
        self._untold.clear()
        self._send(sorted(((account, change) for account, kept in self._accounts.items() for change in kept.changes),
                          key=lambda item: item[1].ticket))

    # -- waiting

    async def covered(self, account: str, ticket: int, seconds: float) -> bool:
        if not ticket:
            return True
        kept = self._accounts.get(account)
        if kept is None or not kept.is_open(ticket):
            return True
        if account in self._stopped or seconds <= 0:
            return False
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        place = ticket, waiter
        kept.waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            return False
        finally:
            if place in kept.waiting:
                kept.waiting.remove(place)

    def trouble(self, account: str) -> str:
        if not self._line.connected:
            return "the keeper is not there"
        row = self._view.account(account)
        if row is None or not is_linked(self._view, row):
            return "the account has no replica"
        if row.home.pending:
            return "the account's server was changed a moment ago"
        return "its link has stopped" if account in self._stopped else ""

    async def ready(self, account: str, seconds: float = READY_SECONDS) -> bool:
        """True once the account's promotion has been carried out at its new primary; asks that it be done now."""
        if (row := self._view.account(account)) is None or not row.home.pending:
            return True
        asking = self._asking.get(account)
        if asking is None:
            asking = self._asking[account] = asyncio.get_running_loop().create_task(self._ask(account))
            asking.add_done_callback(lambda task: self._asking.pop(account, None))
        done, _ = await asyncio.wait([asking], timeout=seconds)
        return bool(done) and not asking.cancelled() and asking.result()

    async def _ask(self, account: str) -> bool:
        try:
            await self._line.call("ready", timeout=READY_SECONDS, account=account)
        except LinkError:
            return False
        return True

    async def may_try(self, account: str) -> bool:
        """Whether a message that an old primary may have, too, may be given to the new one: for TRY_SECONDS it is not
        brought then. Where there is nobody to ask, mail goes on; what is looked up last is not older than that look.
        """
        try:
            return bool(await self._line.call("trying", timeout=TRY_SECONDS / 2, account=account))
        except LinkError:
            return True

    # -- the directory changed

    def account_changed(self, address: str, now: Account | None) -> None:
        """Nobody covers anything for an account that has no replica any more."""
        kept = self._accounts.get(address)
        if kept is not None and not is_linked(self._view, now):
            self._count -= len(kept.changes)
            del self._accounts[address]
            _answer(kept.waiting, False)

    # -- what the linker says

    async def _take_covered(self, link: Link, account: str, ticket: int) -> None:
        kept = self._accounts.get(account)
        if kept is None:
            return
        while kept.changes and kept.changes[0].ticket <= ticket:
            kept.changes.popleft()
            self._count -= 1
        self._settle(account, kept)

    async def _take_released(self, link: Link, account: str, confirmed: list[str] | None = None,
                             consumed: list[str] | None = None, epoch: int = 0) -> None:
        """`epoch` is that of the link's home; 0: not said."""
        confirmed, consumed = confirmed or [], consumed or []
        self._net.release(account, confirmed, consumed, epoch)
        kept = self._accounts.get(account)
        if kept is not None and not self._is_late(account, epoch):
            seen = {*confirmed, *consumed}
            left = [change for change in kept.changes if not (change.deliveries and seen.issuperset(change.deliveries))]
            self._count -= len(kept.changes) - len(left)
            kept.changes = deque(left)
            self._settle(account, kept)

    def _is_late(self, account: str, epoch: int) -> bool:
        row = self._view.account(account)
        return bool(epoch) and row is not None and row.home.epoch != epoch

    def _settle(self, account: str, kept: _Open) -> None:
        """Whoever waits for what is not open any more is told."""
        done = [place for place in kept.waiting if not kept.is_open(place[0])]
        kept.waiting = [place for place in kept.waiting if place not in done]
        _answer(done, True)
        if not kept.changes and not kept.waiting:
            del self._accounts[account]

    async def _take_links(self, link: Link, stopped: list[str]) -> None:
        """`stopped` are all accounts whose links do not run."""
        self._stopped = frozenset(stopped)
        for account in self._stopped & self._accounts.keys():
            _answer(self._accounts[account].waiting, False)

    async def _take_retell(self, link: Link) -> None:
        self.tell_all()

    async def _tell_net(self, link: Link, account: str = "") -> dict[str, list[tuple[str, float]]]:
        return self._net.held(account)


def _answer(waiting: list[tuple[int, asyncio.Future[bool]]], answer: bool) -> None:
    for _, waiter in waiting:
        if not waiter.done():
            waiter.set_result(answer)
