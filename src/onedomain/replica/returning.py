"""Old primaries come back: what only they have is brought to the new ones, and then they are replicas.

Until that is done no link runs for the account: a pass the other way would take the tail for a stranger's. Knows which
promotions are open in that sense, and paces them. Does not know what is brought (decision/link/bring_back).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Protocol

from onedomain.backend.link.base import LinkEnd
from onedomain.decision.link.actions import Identities, ListFolders, Plan, ReadIdentities
from onedomain.decision.link.bring_back import Brought, bring_back, rows_from
from onedomain.decision.net import TRY_SECONDS
from onedomain.directory.links import SavedLink
from onedomain.directory.promotions import Promoted
from onedomain.model.account import Account
from onedomain.model.failure import Failed, again
from onedomain.model.replica import LinkState, Listing, Side
from onedomain.replica.performer import Performer
from onedomain.replica.promoting import AGAIN, Means, Ours

AT_ONCE = 8
LOOK_EVERY = 0.25
CALM = 1.0
"""Seconds that an old primary has to be up before it is asked for anything."""


MOVED = again(451, "4.3.2", "the account's home changed meanwhile", "home changed")


NETS_FIRST = again(451, "4.3.2", "safety nets put theirs onto the new primary first", "safety nets are not done")
NETS_SECONDS = 30.0
"""Then what they hold is brought, too: whoever comes second looks first."""


class Store(Protocol):
    """directory/promotions.py; raises Failed where the database is away."""

    async def details(self, account: str, epoch: int) -> Promoted | None: ...
    async def returned(
        self, account: str, epoch: int, link: SavedLink | None, added: int = 0, aside: int = 0
    ) -> bool: ...


class Returning:
    """`relink(account, even)` is called when the link of an account may run; `even`: the replica has all that the new
    primary had when it became one. `held(account)`: delivery ids that safety nets hold which can be reached.
    """

    def __init__(self, means: Means, store: Store, relink: Callable[[str, bool], None],
                 held: Callable[[str], Awaitable[Collection[str]]], at_once: int = AT_ONCE) -> None:
        self._means = means
        self._store = store
        self._relink = relink
        self._held = held
        self._limit = asyncio.Semaphore(at_once)
        self._open: dict[str, Promoted] = {}
        self._tries: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        self._up_since: dict[str, float] = {}
        self._nets_since: dict[str, float] = {}  # their nets were not done
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._bringing: set[str] = set()
        self._tried: dict[str, float] = {}  # until when a try holds the return up
        self._next: dict[str, float] = {}   # until when no other try may hold it up
        self.trouble: dict[str, str] = {}

    def __contains__(self, account: object) -> bool:
        return account in self._open

    @property
    def accounts(self) -> tuple[str, ...]:
        return tuple(self._open)

    @property
    def waiting(self) -> Counter[str]:
        """How many have not been brought back, by old primary."""
        return Counter(each.old for each in self._open.values())

    def add(self, promoted: Iterable[Promoted]) -> None:
        """Settled ones. An account's newest counts: what an older one left is on a server that is no replica now."""
        for each in promoted:
            known = self._open.get(each.account)
            if known is None or known.epoch < each.epoch:
                self._open[each.account] = each

    def forget(self, account: str) -> None:
        for known in (self._open, self._tries, self._not_before, self._nets_since, self.trouble):
            known.pop(account, None)

    def may_try(self, account: str) -> bool:
        """Whether an edge may give the new primary a message that the old one may have, too. Its look-up and the
        return's exclude each other: whoever comes second finds what the first put there. One try holds a return up.
        """
        now = self._means.clock.monotonic()
        if account in self._bringing or now < self._next.get(account, now):
            return False
        self._tried[account] = now + TRY_SECONDS  # also where nothing is open yet
        return True

    def _holds_up(self, account: str) -> bool:
        """Whether the return has to wait for a try."""
        now = self._means.clock.monotonic()
        until = self._tried.get(account, now)
        if now < until:
            self._not_before[account] = until
            self._next[account] = until + CALM  # if the old primary is down then, tries go on
        return now < until

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._look()
                await asyncio.sleep(LOOK_EVERY)
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _look(self) -> None:
        now = self._means.clock.monotonic()
        for known in (self._tried, self._next):
            for account in [account for account, until in known.items() if until <= now]:
                del known[account]
        for server in {each.old for each in self._open.values()}:
            if self._means.usable(server):
                self._up_since.setdefault(server, now)
            else:
                self._up_since.pop(server, None)
        for account, each in list(self._open.items()):
            row = self._means.view.account(account)
            # While a promotion is pending it may be taken back.
            elsewhere = row is not None and row.home.primary != each.new and not row.home.pending
            if row is None or (row.home.epoch > each.epoch and elsewhere):
                self.forget(account)  # it has left, or lives elsewhere by now
                continue
            calm = now - self._up_since.get(each.old, now) >= CALM
            ready = calm and not row.home.pending and self._means.usable(each.new)
            if ready and account not in self._tasks and now >= self._not_before.get(account, 0.0):
                task = self._tasks[account] = asyncio.create_task(self._one(each, row))
                task.add_done_callback(partial(self._ended, account))

    def _ended(self, account: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(account, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._not_before[account] = self._means.clock.monotonic() + AGAIN[1]
            self.trouble[account] = repr(error)
            self._means.trace.note("return broke", account=account, reason=repr(error))

    async def _one(self, each: Promoted, row: Account) -> None:
        async with self._limit:
            if self._holds_up(each.account):
                return
            self._next.pop(each.account, None)
            self._bringing.add(each.account)
            try:
                brought = await self._bring(each, row)
            except (Failed, KeyError) as error:
                reason = error.failure.reason or error.failure.text if isinstance(error, Failed) else f"unknown {error}"
                tries = self._tries[each.account]
                if not tries:
                    self._means.trace.note("return waits", account=each.account, server=each.old, reason=reason)
                self._tries[each.account] += 1
                pause = min(AGAIN[1], AGAIN[0] * 2.0 ** min(tries, 30))
                self._not_before[each.account] = self._means.clock.monotonic() + pause
                self.trouble[each.account] = reason
                return
            finally:
                self._bringing.discard(each.account)
        self.forget(each.account)
        self._means.trace.note("returned", account=each.account, server=each.old, primary=each.new,
                               added=brought.added if brought else 0, aside=brought.aside if brought else 0)
        self._relink(each.account, brought.even if brought else False)

    async def _bring(self, each: Promoted, row: Account) -> Brought | None:
        """None: the old primary is no replica of the account any more, so nothing of it is asked for."""
        if each.old not in row.home.replicas:
            await self._store.returned(each.account, each.epoch, None)
            return None
        found = await self._store.details(each.account, each.epoch)
        if found is None or found.result is None:
            raise Failed(MOVED)
        # Without a link nothing is known to be equal: everything that is there is the tail.
        state = found.state or LinkState(each.epoch - 1)
        ends: dict[str, LinkEnd] = {}
        broken = True
        try:
            for name in sorted((each.old, each.new)):  # in one order everywhere, or two may wait for ever
                ends[name] = await self._means.servers(name).end(row)
            source, target = ends[each.old], ends[each.new]
            keeping = Ours(self._means, each.account, (each.old, each.new), _nothing)
            performer = Performer(source, target, keeping, may_write=self._means.may_write)
            ids = await performer.run(tail(state))
            held = await self._held(each.account)  # asked for first: what they put there meanwhile is found
            known = await target.find(ids)
            if not ids.isdisjoint(set(held) - known) and self._nets_may_take(each.account):
                broken = False
                raise Failed(NETS_FIRST)
            brought = await performer.run(bring_back(state, found.result, known))
            broken = False
        finally:
            for end in ends.values():
                await end.close(broken=broken)
        link = SavedLink(each.account, each.new, each.old, row.home.epoch, brought.state)
        if not await self._store.returned(each.account, each.epoch, link, brought.added, brought.aside):
            raise Failed(MOVED)
        return brought


    def _nets_may_take(self, account: str) -> bool:
        now = self._means.clock.monotonic()
        return now - self._nets_since.setdefault(account, now) < NETS_SECONDS


def tail(state: LinkState) -> Plan[frozenset[str]]:
    """The delivery ids of what the old primary has above the marks."""
    links = {link.source_name: link for link in state.folders if not link.gone}
    here: Listing = yield ListFolders(Side.SOURCE)
    found: set[str] = set()
    for folder in here.folders:
        link = links.get(folder.name)
        rows = yield from rows_from(Side.SOURCE, folder, link.source.uidnext if link else 1)
        if uids := tuple(row.uid for row in rows):
            known: Identities = yield ReadIdentities(Side.SOURCE, folder.name, uids)
            found.update(it.delivery for it in known.values() if it.delivery)
    return frozenset(found)


async def _nothing(state: LinkState) -> None:
    """No plan of a return saves anything before its end."""
