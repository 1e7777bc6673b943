"""The safety net: messages that an account's server has taken and its replica may not have yet.

Each is held in the spool, for the account it was delivered to, until the link says that it is there (or that a filter
consumed it). After a while it is set aside, so that a link that stopped does not fill the log. A link that leaves more
behind than its quota is told of; nothing is dropped for it.

Knows who is held for whom, and since when. Does not know links, nor how a message gets onto another server (rescue.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from onedomain.decision.net import Fate, fate, is_linked
from onedomain.model.account import DirectoryView
from onedomain.model.failure import Failed
from onedomain.model.message import Outcome, State
from onedomain.model.ports import Clock, Count, Trace
from onedomain.queue.entry import Entry
from onedomain.queue.spool import Spool

LOOK_EVERY = 10.0
LOOK_AT_ALL_EVERY = 3600.0
AT_ONCE = 200                  # messages set aside with one sync
PAUSE = 1.0                    # between two rounds of setting aside, so that each has something to do
GONE_AFTER = 7 * 86400.0       # an account that left the directory that long ago will not come back


@dataclass(frozen=True, slots=True)
class NetLimits:
    """Seconds and bytes. `aside_after` and `log_bytes`: what stays in the log; `account_…` and `server_…`: the quotas
    of one account's link, and of all links from one server, at this worker.
    """

    aside_after: float = 300.0
    log_bytes: int = 256 << 20
    account_messages: int = 5_000
    account_bytes: int = 1 << 30
    server_messages: int = 200_000
    server_bytes: int = 20 << 30
    alert_every: float = 3600.0


class Catch:
    """One message held for one account. `since` on the monotonic clock. `fresh`: this process saw it delivered, so
    nobody but this process can have tried to put it anywhere else.
    """

    __slots__ = ("entry", "fresh", "index", "server", "since")

    def __init__(self, entry: Entry, index: int, since: float, *, fresh: bool) -> None:
        self.entry = entry
        self.index = index
        self.server = entry.of(index).server
        self.since = since
        self.fresh = fresh


class _Tally:
    __slots__ = ("alerted", "bytes", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.alerted = float("-inf")


class Net:
    """`rescue` is called with an account whose messages have to be on a new primary; `moving` are those of which not
    all is there yet. Belongs to one loop.
    """

    def __init__(self, spool: Spool, view: DirectoryView, *, clock: Clock, trace: Trace, count: Count,
                 limits: NetLimits | None = None) -> None:
        self.rescue: Callable[[str], None] = lambda account: None
        self._spool = spool
        self._view = view
        self._clock = clock
        self._trace = trace
        self._count = count
        self._limits = limits or NetLimits()
        self._accounts: dict[str, dict[str, Catch]] = {}
        self._tallies: dict[tuple[str, str], _Tally] = {}  # ("account" or "server", name)
        self._unreadable: set[str] = set()
        self.moving: set[str] = set()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- life

    def start(self) -> None:
        """To be called once the directory is there."""
        for entry in [*self._spool.entries.values(), *self._spool.netted.values()]:
            self._catch(entry, fresh=False)
        self._spool.caught = self._catch
        self._task = asyncio.get_running_loop().create_task(self._run())
        self.look_at_all()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        looked = self._clock.monotonic()
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._wanted.wait()
                await asyncio.sleep(PAUSE)
            except TimeoutError:
                pass  # nothing urgent
            self._wanted.clear()
            await self._set_aside()
            if self._clock.monotonic() - looked >= LOOK_AT_ALL_EVERY:
                looked = self._clock.monotonic()
                self.look_at_all()

    # -- in

    def _catch(self, entry: Entry, *, fresh: bool = True) -> None:
        targets = entry.envelope.targets
        for index in entry.netted:
            account = targets[index].account
            held = self._accounts.setdefault(account, {})
            if entry.id in held:
                continue
            catch = held[entry.id] = Catch(entry, index, self._clock.monotonic(), fresh=fresh)
            for kind, name in (("account", account), ("server", catch.server)):
                self._weigh(kind, name, entry.size)
            row = self._view.account(account)
            if row is None or row.home.epoch != entry.of(index).epoch:
                self.account_changed(account)
        if self._spool.net_sizes[0] > self._limits.log_bytes:
            self._wanted.set()

    def _weigh(self, kind: str, name: str, size: int) -> None:
        tally = self._tallies.setdefault((kind, name), _Tally())
        tally.messages += 1
        tally.bytes += size
        if self._is_over(kind, tally):
            self._wanted.set()
            now = self._clock.monotonic()
            if now - tally.alerted >= self._limits.alert_every:
                tally.alerted = now
                self._trace.note("net quota", **{kind: name}, messages=tally.messages, bytes=tally.bytes,
                                 reason="a link leaves more behind than its quota; nothing is dropped")
                self._count.add("net_quota_alerts_total")

    def _is_over(self, kind: str, tally: _Tally | None) -> bool:
        limits = self._limits
        if tally is None:
            return False
        if kind == "account":
            return tally.messages > limits.account_messages or tally.bytes > limits.account_bytes
        return tally.messages > limits.server_messages or tally.bytes > limits.server_bytes

    # -- out

    def release(self, account: str, confirmed: Iterable[str], consumed: Iterable[str], epoch: int) -> None:
        """The link of the home's `epoch` (0: not said) has seen these on the replica, or found that filters took them.
        What a later home got is not let go for what an earlier link saw.
        """
        held = self._accounts.get(account, {})
        for how, ids in (("replicated", confirmed), ("consumed", consumed)):
            for id in ids:
                catch = held.get(id)
                if catch is None or 0 < epoch < catch.entry.of(catch.index).epoch:
                    continue
                self._trace.note(how, queue_id=id, account=account, server=catch.server,
                                 seconds=round(self._clock.monotonic() - catch.since, 3))
                self._count.add(f"net_{how}_total")
                self._let_go(account, catch)

    def _let_go(self, account: str, catch: Catch) -> None:
        self._forget(account, catch)
        self._spool.set_epochs(catch.entry, {catch.index: 0})

    def _forget(self, account: str, catch: Catch) -> None:
        held = self._accounts.get(account, {})
        if held.pop(catch.entry.id, None) is None:
            return
        if not held:
            del self._accounts[account]
        for key in (("account", account), ("server", catch.server)):
            tally = self._tallies[key]
            tally.messages -= 1
            tally.bytes -= catch.entry.size
            if not tally.messages:
                del self._tallies[key]

    def forget(self, entry: Entry) -> None:
        """The operator has deleted it."""
        for target in entry.envelope.targets:
            catch = self._accounts.get(target.account, {}).get(entry.id)
            if catch is not None:
                self._forget(target.account, catch)

    # -- what is held

    def held(self, account: str = "") -> dict[str, list[tuple[str, float]]]:
        """Ids and for how many seconds, by account; all accounts if none is named."""
        now = self._clock.monotonic()
        accounts = [account] if account else list(self._accounts)
        return {
            name: [(id, round(now - catch.since, 3)) for id, catch in self._accounts.get(name, {}).items()]
            for name in accounts
        }

    def catches(self, account: str) -> list[Catch]:
        return list(self._accounts.get(account, {}).values())

    def __len__(self) -> int:
        return sum(map(len, self._accounts.values()))

    # -- homes change

    def account_changed(self, account: str) -> None:
        held = self._accounts.get(account)
        if not held:
            self.moving.discard(account)
            return
        row = self._view.account(account)
        linked = is_linked(self._view, row)
        rescue = waits = False
        for catch in list(held.values()):
            progress = catch.entry.of(catch.index)
            match fate(row, linked, progress.epoch, progress.server):
                case Fate.LET_GO:
                    self._trace.note("net let go", queue_id=catch.entry.id, account=account, server=catch.server,
                                     reason="no link runs for the account any more")
                    self._let_go(account, catch)
                case Fate.RENEW if row is not None:
                    self._spool.set_epochs(catch.entry, {catch.index: row.home.epoch})
                case Fate.RESCUE:
                    rescue = True
                case Fate.WAIT if row is not None:
                    waits = True
                case Fate.WAIT if row is None and self._clock.time() - catch.entry.received > GONE_AFTER:
                    self._trace.note("net let go", queue_id=catch.entry.id, account=account, server=catch.server,
                                     reason="the account has left the directory")
                    self._let_go(account, catch)
        (self.moving.add if rescue or waits else self.moving.discard)(account)
        if rescue:
            self.rescue(account)

    def look_at_all(self) -> None:
        for account in list(self._accounts):
            self.account_changed(account)

    def to_rescue(self, account: str) -> list[Catch]:
        """What has to be on the account's new primary, the oldest first."""
        row = self._view.account(account)
        linked = is_linked(self._view, row)
        found = []
        for catch in self.catches(account):
            progress = catch.entry.of(catch.index)
            if self._spool.find(catch.entry.id) is None:
                self._forget(account, catch)
            elif fate(row, linked, progress.epoch, progress.server) is Fate.RESCUE:
                found.append(catch)
        if not found and not (row is not None and row.home.pending):
            self.moving.discard(account)
        return sorted(found, key=lambda catch: catch.entry.received)

    def rescued(self, account: str, catch: Catch, server: str, reply: str, epoch: int) -> None:
        """It is on `server` now; held on for the home's `epoch`, or (0) no longer."""
        self._forget(account, catch)
        self._spool.outcomes(catch.entry, {catch.index: Outcome(State.DONE, server, reply)}, {catch.index: epoch})

    # -- setting aside

    async def _set_aside(self) -> None:
        due = list(self._due())
        for start in range(0, len(due), AT_ONCE):
            ids = due[start : start + AT_ONCE]
            try:
                moved = await self._spool.set_aside(ids)
            except Failed as error:
                self._trace.note("net not set aside", reason=error.failure.reason or str(error.failure))
                return
            left = [id for id in ids if (entry := self._spool.find(id)) is not None and not entry.aside]
            self._unreadable.update(left)
            self._trace.note("net set aside", messages=moved, unreadable=len(left))

    def _due(self) -> Iterator[str]:
        """What leaves the log: what has been there for long, or is too much, the oldest first."""
        limits, now = self._limits, self._clock.monotonic()
        left = self._spool.net_sizes[0]
        least = limits.log_bytes // 2 if left > limits.log_bytes else left
        for entry in self._spool.netted_in_log():
            if entry.id in self._unreadable:
                continue
            catches = [
                (target.account, catch) for target in entry.envelope.targets
                if (catch := self._accounts.get(target.account, {}).get(entry.id)) is not None
            ]
            if (
                left > least
                or any(now - catch.since >= limits.aside_after for _, catch in catches)
                or any(self._is_over("account", self._tallies.get(("account", account)))
                       or self._is_over("server", self._tallies.get(("server", catch.server)))
                       for account, catch in catches)
            ):
                left -= entry.length
                yield entry.id
