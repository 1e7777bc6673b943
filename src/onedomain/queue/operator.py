"""What an operator sees of the queue, and may do to it.

Knows the verbs. Does not know who asks, nor how the answer is shown: items are frozen values, `dataclasses.asdict` of
them is JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from onedomain.model.message import State
from onedomain.model.ports import Clock, Trace
from onedomain.queue.dispatch import Dispatcher
from onedomain.queue.entry import Entry
from onedomain.queue.lane import Job
from onedomain.queue.net import Net

LOOKED_AT_ONCE = 1000
DONE_AT_ONCE = 100
"""Of messages, before sessions and deliveries have their turn: there may be a million."""


@dataclass(frozen=True, slots=True)
class TargetItem:
    """`next_in` in seconds: 0 is now, None is the server's return, or nothing. `reason`: the last failure. `state` is
    that of model.message.State, or "netted": delivered, and held until a replica has it.
    """

    address: str
    account: str
    server: str
    state: str
    attempts: int
    next_in: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A message that is waiting. `age` in seconds, `size` in bytes, `received` in seconds since 1970."""

    id: str
    message_id: str
    received: float
    age: float
    size: int
    sender: str
    client: str
    login: str
    held: bool
    bounce_of: str
    targets: tuple[TargetItem, ...]


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """`waiting` and `active` are jobs; `pause` the seconds until the server is tried again by itself."""

    server: str
    waiting: int
    active: int
    failures: int
    pause: float


@dataclass(frozen=True, slots=True)
class Figures:
    """`oldest` is the age of the oldest message in seconds; `trouble` why no mail is accepted, or "".

    `net` messages are delivered and held by the safety net: bytes in the log and set aside, `net_oldest` seconds,
    `net_moving` accounts whose messages are yet to be put onto a new primary.
    """

    messages: int
    bytes: int
    oldest: float
    in_doubt: int
    trouble: str
    lanes: tuple[LaneFigures, ...]
    net: int = 0
    net_bytes: int = 0
    net_aside: int = 0
    net_oldest: float = 0.0
    net_moving: int = 0


class Operator:
    def __init__(self, dispatcher: Dispatcher, *, clock: Clock, trace: Trace, net: Net | None = None) -> None:
        self._dispatcher = dispatcher
        self._net = net
        self._spool = dispatcher.spool
        self._clock = clock
        self._trace = trace

    # -- seeing

    async def waiting(self, *, limit: int = 100, address: str = "", net: bool = False) -> list[QueueItem]:
        """The oldest first; with `net` those that do not wait and are held by the safety net. `address` is part of a
        sender's or recipient's.
        """
        wanted = address.lower()
        found: list[QueueItem] = []
        entries = self._spool.netted if net else self._spool.entries
        for number, entry in enumerate(sorted(entries.values(), key=lambda entry: entry.received), start=1):
            if len(found) >= limit:
                break
            if number % LOOKED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if entry.id in entries and (not wanted or _mentions(entry, wanted)):
                found.append(self._item(entry))
        return found

    def show(self, id: str) -> QueueItem | None:
        entry = self._spool.find(id)
        return self._item(entry) if entry is not None else None

    def _item(self, entry: Entry) -> QueueItem:
        head = entry.head
        places = {index: (server, doubt) for index, server, doubt in self._dispatcher.whereabouts(entry)}
        return QueueItem(
            id=entry.id,
            message_id=head.message_id,
            received=entry.received,
            age=round(self._clock.time() - entry.received, 3),
            size=entry.size,
            sender=head.envelope.sender,
            client=head.envelope.client,
            login=head.envelope.login,
            held=entry.held,
            bounce_of=head.bounce_of,
            targets=tuple(
                self._target(entry, index, target.address, target.account, places.get(index))
                for index, target in enumerate(head.envelope.targets)
            ),
        )

    def _target(
        self, entry: Entry, index: int, address: str, account: str, place: tuple[str, bool] | None
    ) -> TargetItem:
        progress = entry.of(index)
        outcome = progress.outcome
        failure = outcome.failure if outcome else None
        return TargetItem(
            address=address,
            account=account,
            server=place[0] if place else progress.server,
            state="netted" if progress.netted else progress.state.value,
            attempts=progress.attempts,
            next_in=None if place is None or entry.held else self._next_in(entry.id, *place),
            reason=(outcome.reply or str(failure or "")) if outcome and progress.state is not State.DONE else "",
        )

    def _next_in(self, id: str, server: str, doubt: bool) -> float | None:
        if not self._dispatcher.usable(server):
            return None
        lane = self._dispatcher.lane(server)
        until = max(lane.until(Job(id, doubt)) or 0.0, lane.paused_until)
        return round(max(0.0, until - asyncio.get_running_loop().time()), 1)

    def figures(self) -> Figures:
        now = asyncio.get_running_loop().time()
        oldest = self._spool.oldest
        trouble = self._spool.trouble
        netted = self._spool.netted
        in_log, aside = self._spool.net_sizes
        return Figures(
            messages=len(self._spool.entries),
            bytes=self._spool.size,
            oldest=self._clock.time() - oldest if oldest is not None else 0.0,
            in_doubt=sum(lane.doubts for lane in self._dispatcher.lanes.values()),
            trouble=trouble.reason if trouble else "",
            lanes=tuple(
                LaneFigures(lane.server, len(lane), lane.active, lane.failures, max(0.0, lane.paused_until - now))
                for lane in self._dispatcher.lanes.values()
            ),
            net=len(netted),
            net_bytes=in_log,
            net_aside=aside,
            net_oldest=self._clock.time() - min(entry.received for entry in netted.values()) if netted else 0.0,
            net_moving=len(self._net.moving) if self._net is not None else 0,
        )

    # -- doing; `ids` None is every message; each returns the ids that it was done to

    async def retry(self, ids: Iterable[str] | None = None) -> list[str]:
        """Now, whatever pause they are in; not what is held. What is in doubt is looked up first, as ever."""
        return await self._each(ids, "retry", self._retry)

    def _retry(self, entry: Entry) -> bool:
        if entry.held:
            return False
        self._dispatcher.retry_now(entry)
        return True

    async def hold(self, ids: Iterable[str] | None = None) -> list[str]:
        return await self._each(ids, "hold", lambda entry: self._hold(entry, True))

    async def release(self, ids: Iterable[str] | None = None) -> list[str]:
        return await self._each(ids, "release", lambda entry: self._hold(entry, False))

    def _hold(self, entry: Entry, held: bool) -> bool:
        if entry.held == held:
            return False
        self._spool.hold(entry, held)
        self._dispatcher.enqueue(entry)
        return True

    async def delete(self, ids: Iterable[str] | None = None) -> list[str]:
        """Nobody is told. What is being delivered at this moment may still arrive. What the safety net holds is let go
        of only if it is named.
        """
        return await self._each(ids, "delete", self._delete)

    def _delete(self, entry: Entry) -> bool:
        if self._net is not None:
            self._net.forget(entry)
        self._spool.remove(entry)
        return True

    async def _each(self, ids: Iterable[str] | None, verb: str, act: Callable[[Entry], bool]) -> list[str]:
        done = []
        for number, id in enumerate(list(self._spool.entries) if ids is None else ids, start=1):
            if number % DONE_AT_ONCE == 0:
                await asyncio.sleep(0)
            entry = self._spool.find(id)
            if entry is not None and (not entry.finished or act == self._delete) and act(entry):
                self._trace.note("operator", queue_id=id, action=verb)
                done.append(id)
        return done


def _mentions(entry: Entry, wanted: str) -> bool:
    """Whether a sender's or recipient's address has that in it, in small letters."""
    if wanted.isascii() and not entry.mentions(wanted):
        return False  # at a tenth of the price
    return any(wanted in one.lower() for one in _addresses(entry))


def _addresses(entry: Entry) -> Iterator[str]:
    envelope = entry.envelope
    yield envelope.sender
    for target in envelope.targets:
        yield target.address
        yield target.account
        yield target.original
