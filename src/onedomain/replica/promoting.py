"""Carries promotions out, account by account: whose turn it is, the plan at the new primary, and that it is done.

A promotion is a row in the database until it is settled, so whoever runs the links next finds it; the plan may be
repeated. Accounts that somebody waits for come first, the rest a bounded number at a time. Does not know why a server
was given up (failover), nor what a plan does (decision/link/promote).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from onedomain.backend.link.base import Letter, LinkEnd, LinkServer
from onedomain.decision.link.order import Order
from onedomain.decision.link.promote import promote
from onedomain.decision.link.sweep import sweep
from onedomain.decision.link.validities import canonical
from onedomain.directory.leases import EdgeLease
from onedomain.directory.promotions import Promoted, Settled
from onedomain.model.account import Account, DirectoryView
from onedomain.model.failure import Failed, again
from onedomain.model.ports import Clock, Count, Trace
from onedomain.model.replica import LinkState, Numbering, Promotion, Side
from onedomain.model.server import ServerClass
from onedomain.model.validities import Validities, validities
from onedomain.replica.aside import Origin
from onedomain.replica.performer import Performer
from onedomain.replica.sent import Sent

AT_ONCE = 16
PER_TRANSACTION = 200
LAST_PASSES = 3
"""Passes over an old primary that still answers, before its replica is promoted all the same."""
AGAIN = (0.2, 10.0)
"""Seconds until the next try, doubled up to the longest."""
LOST_MARGIN = 5.0
"""Seconds after the end of an edge's lease in which what it had forwarded may still have changed something."""
MAKES_IDENTITIES = frozenset({"dovecot", "imap"})
"""Kinds that no link tells what a folder's identity is to be."""
KEEPS_MODSEQ = frozenset({"node"})
"""Kinds that links tell MODSEQs, so that what clients remember of the server before goes on."""


class Store(Protocol):
    """directory/promotions.py over a database that may be away: each raises Failed then."""

    async def details(self, account: str, epoch: int) -> Promoted | None: ...
    async def left(self, account: str, server: str) -> LinkState | None: ...
    async def edges(self) -> Sequence[EdgeLease]: ...
    async def save_state(self, account: str, epoch: int, state: LinkState) -> None: ...
    async def settle(self, settled: Sequence[Settled]) -> frozenset[str]: ...


class Keep(Protocol):
    """replica/aside.py, as it is seen here."""

    async def keep(self, origin: Origin, letters: Sequence[Letter], why: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What promotions and returns are carried out with. `quiet` returns when no pass of an account is under way.

    `allowed(account, folders, lost)`: how many UIDs each folder of its primary may have given since its last whole
    pass, if that began after `lost` (wall clock). `sent(account)`: what passes from here have sent to its replica and
    not saved. `may_write`: whether this is carried out here still.
    """

    view: DirectoryView
    servers: Callable[[str], LinkServer]
    usable: Callable[[str], bool]
    quiet: Callable[[str], Any]
    allowed: Callable[[str, Collection[str], float], Mapping[str, int]]
    sent: Callable[[str], Sent]
    aside: Keep
    alert: Callable[[str, str, str], None]
    clock: Clock
    trace: Trace
    count: Count
    may_write: Callable[[], bool]


class Ours:
    """A performer.Keeping for one plan about one account."""

    def __init__(self, means: Means, account: str, servers: tuple[str, str], save: Callable[[LinkState], Any]) -> None:
        self._means = means
        self._account = account
        self._servers = servers
        self._save = save

    async def set_aside(self, side: Side, folder: str, letters: Sequence[Letter], why: str) -> None:
        server = self._servers[side is Side.TARGET]
        await self._means.aside.keep(Origin(self._account, server, folder, side), letters, why)

    async def confirm(self, deliveries: Collection[str]) -> None:
        """Safety nets look for themselves after a change of home."""

    async def whole(self) -> None:
        """No pass."""

    async def save(self, state: LinkState) -> None:
        await self._save(state)

    async def alert(self, folder: str, text: str) -> None:
        self._means.trace.note("link alert", account=self._account, folder=folder, reason=text)
        self._means.alert(self._account, folder, text)


class Nobody:
    """The end of a link whose server is gone. No plan of a promotion asks it anything."""

    def __getattr__(self, name: str) -> Any:
        raise Failed(again(451, "4.4.1", "the old primary is gone", name))


@dataclass(slots=True)
class _Waiting:
    promoted: Promoted
    done: asyncio.Future[None]
    tries: int = 0
    urgent: bool = False
    void: bool = False


class Promoting:
    """`settled` is told of each promotion that is done, before anybody else can know; `dropped` of each account whose
    promotion is not to be carried out any more.
    """

    def __init__(
        self, means: Means, store: Store, settled: Callable[[Promoted], None], dropped: Callable[[str], None],
        at_once: int = AT_ONCE,
    ) -> None:
        self._means = means
        self._store = store
        self._tell = settled
        self._dropped = dropped
        self._at_once = at_once
        self._waiting: dict[str, _Waiting] = {}
        self._under_way: set[str] = set()  # accounts; the plan may be of an older promotion than the one that waits
        self._urgent: deque[str] = deque()
        self._rest: deque[str] = deque()
        self._wake = asyncio.Event()
        self._settling: list[tuple[Settled, asyncio.Future[bool]]] = []
        self._settler = asyncio.Event()
        self.trouble: dict[str, str] = {}

    def __contains__(self, account: object) -> bool:
        return account in self._waiting

    @property
    def waiting(self) -> Counter[str]:
        """How many are not settled, by new primary."""
        return Counter(each.promoted.new for each in self._waiting.values())

    def add(self, promoted: Iterable[Promoted]) -> None:
        """To be carried out from now on: no edge lets anybody write to their old primaries any more."""
        for each in promoted:
            known = self._waiting.get(each.account)
            if known is None or known.promoted.epoch < each.epoch:
                done = known.done if known is not None else asyncio.get_running_loop().create_future()
                self._waiting[each.account] = _Waiting(each, done)
                self._rest.append(each.account)
        self._wake.set()

    def promoted(self, account: str) -> Promoted | None:
        """The one that is to be carried out."""
        waiting = self._waiting.get(account)
        return waiting.promoted if waiting is not None else None

    def drop(self, account: str, epoch: int) -> None:
        """The promotion of that epoch was taken back. What is under way of it comes to its end first."""
        waiting = self._waiting.get(account)
        if waiting is not None and waiting.promoted.epoch == epoch:
            waiting.void = True
            if account not in self._under_way:
                self._drop(waiting)

    async def ready(self, account: str) -> None:
        """Returns when the account's promotion is settled; it is done before those that nobody waits for."""
        waiting = self._waiting.get(account)
        if waiting is None:
            return
        if not waiting.urgent:
            waiting.urgent = True
            self._urgent.append(account)
            self._wake.set()
        await asyncio.shield(waiting.done)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settle())
            for _ in range(self._at_once):
                group.create_task(self._work())

    # -- whose turn

    async def _next(self) -> _Waiting:
        while True:
            for queue in (self._urgent, self._rest):
                while queue:
                    waiting = self._waiting.get(account := queue.popleft())
                    if waiting is not None and account not in self._under_way:
                        return waiting
            self._wake.clear()
            await self._wake.wait()

    async def _work(self) -> None:
        while True:
            waiting = await self._next()
            account = waiting.promoted.account
            self._under_way.add(account)
            try:
                await self._carry(waiting)
            except Failed as error:
                self._again(waiting, error.failure.reason or error.failure.text)
            except Exception as error:  # noqa: BLE001  one account's oddity must not stop the others; it is told
                if not waiting.tries:
                    self._means.alert(account, "", f"its promotion fails: {error!r}")
                self._again(waiting, repr(error))
            finally:
                self._under_way.discard(account)
            newest = self._waiting.get(account)
            if newest is not None and newest.void:
                self._drop(newest)
            elif newest is not None and newest is not waiting:
                self._back(account, newest.urgent)  # its turn may have come meanwhile

    def _again(self, waiting: _Waiting, reason: str) -> None:
        if waiting.void:
            return
        promoted = waiting.promoted
        if not waiting.tries:
            self._means.trace.note("promotion waits", account=promoted.account, server=promoted.new, reason=reason)
        self.trouble[promoted.account] = reason
        pause = min(AGAIN[1], AGAIN[0] * 2.0 ** min(waiting.tries, 30))
        waiting.tries += 1
        asyncio.get_running_loop().call_later(pause, self._back, promoted.account, waiting.urgent)

    def _back(self, account: str, urgent: bool) -> None:
        (self._urgent if urgent else self._rest).append(account)
        self._wake.set()

    # -- one account

    async def _carry(self, waiting: _Waiting) -> None:
        promoted = waiting.promoted
        account = self._means.view.account(promoted.account)
        if account is None or account.home.epoch > promoted.epoch:
            self._drop(waiting)  # it has left, or has yet another home
            return
        await self._means.quiet(promoted.account)
        found = await self._store.details(promoted.account, promoted.epoch)
        if found is None:
            self._drop(waiting)  # it has left just now
            return
        if account.home.epoch < promoted.epoch:
            raise Failed(again(451, "4.3.0", "the directory is behind", f"epoch {promoted.epoch} is not here yet"))
        before = validities(account.home.shown)  # until it is settled, what was shown at the old primary
        result = await self._plan(promoted, account, found.state, before)
        if not await self._settled(self._outcome(promoted, account, result, before)):
            self._drop(waiting)  # its home is another just now
            return
        self._tell(replace(promoted, settled=self._means.clock.time()))
        self._means.trace.note("promoted", account=promoted.account, server=promoted.new, before=promoted.old,
                               epoch=promoted.epoch, refused=result.refused,
                               seconds=round(self._means.clock.time() - promoted.at, 3))
        self._over(waiting)

    def _over(self, waiting: _Waiting) -> bool:
        """False: another promotion has its place by now."""
        account = waiting.promoted.account
        if self._waiting.get(account) is not waiting:
            return False
        self.trouble.pop(account, None)
        del self._waiting[account]
        if not waiting.done.done():
            waiting.done.set_result(None)
        return True

    def _drop(self, waiting: _Waiting) -> None:
        if self._over(waiting):
            self._dropped(waiting.promoted.account)

    async def _plan(
        self, promoted: Promoted, account: Account, state: LinkState | None, before: Validities
    ) -> Promotion:
        """What it came to; the link as it is left is saved."""
        # Without a state nothing was ever carried: somebody wanted it all the same, or nobody would have come here.
        kept = [replace(state or LinkState(), epoch=promoted.epoch - 1)]

        async def save(state: LinkState) -> None:
            await self._store.save_state(promoted.account, promoted.epoch, state)
            kept[0] = state

        keeping = Ours(self._means, promoted.account, (promoted.old, promoted.new), save)
        target = await self._means.servers(promoted.new).end(account)
        broken = True
        try:
            still = state is not None and self._means.usable(promoted.old) and (
                await self._last_pass(promoted, account, target, keeping, kept))
            # Nobody wrote to the source after a last pass that was whole: no UID beyond the marks was ever shown.
            allowed: Mapping[str, int] = {link.source_name: 0 for link in kept[0].folders} if still else {}
            if not still and target.powers.numbering is Numbering.BURNED:
                allowed = await self._allowed(promoted, kept[0])
            performer = Performer(Nobody(), target, keeping, may_write=self._means.may_write)
            was = None
            if account.home.modseq_of == promoted.new and self._kind(promoted.new) in MAKES_IDENTITIES:
                was = await self._store.left(promoted.account, promoted.new)
            now, sent = int(self._means.clock.time()), self._means.sent(promoted.account).by_folder()
            result = await performer.run(promote(kept[0], target.powers, allowed, before, was, now, sent))
            broken = False
            return result
        finally:
            await target.close(broken=broken)

    async def _allowed(self, promoted: Promoted, state: LinkState) -> Mapping[str, int]:
        """How many UIDs the old primary may have given that nobody has seen since, by folder."""
        old = self._means.view.server(promoted.old)
        if old is None or old.class_ is not ServerClass.EXCLUSIVE:
            return {}  # not all that happens there comes past us
        gone = [lease.left for lease in await self._store.edges() if lease.left <= 0.0]
        lost = self._means.clock.time() + max(gone) + LOST_MARGIN if gone else 0.0
        folders = [link.source_name for link in state.folders if not link.gone]
        return self._means.allowed(promoted.account, folders, lost)

    async def _last_pass(
        self, promoted: Promoted, account: Account, target: LinkEnd, keeping: Ours, kept: list[LinkState]
    ) -> bool:
        """The old primary still answers: what it has is carried. True: all of it. Its failure is no reason to wait."""
        source: LinkEnd | None = None
        performer: Performer | None = None
        broken = True
        try:
            source = await self._means.servers(promoted.old).end(account)
            for _ in range(LAST_PASSES):
                performer = Performer(source, target, keeping, may_write=self._means.may_write,
                                      sent=self._means.sent(promoted.account))
                order = Order(self._means.clock.time())
                report = await performer.run(sweep(kept[0], source.powers, target.powers, order))
                if report.whole:
                    broken = False
                    return True
                # A replica that was put back just now is paired again by the next one, before anybody sees it.
            broken = False
        except Failed:
            if performer is not None and performer.asked is Side.TARGET:
                raise
        finally:
            if source is not None:
                await source.close(broken=broken)
        return False

    def _outcome(self, promoted: Promoted, account: Account, result: Promotion, before: Validities) -> Settled:
        """With what clients would be told otherwise than before."""
        old, new = self._means.view.server(promoted.old), self._means.view.server(promoted.new)
        shown = canonical(result, before, self._means.clock.time())
        keeps = self._kind(promoted.new) in KEEPS_MODSEQ
        if account.home.no_modseq:
            keeps = result.modseqs_again  # nobody was shown any since
        hidden = not keeps or bool(result.refused) or bool(shown)
        modseq_of = (account.home.modseq_of if account.home.no_modseq else promoted.old) if hidden else ""
        uidl = account.home.uidl or (old.uidl_format if old is not None else "")
        uidl = "" if new is not None and uidl == new.uidl_format else uidl
        return Settled(promoted.account, promoted.epoch, result, hidden, shown.spelt(), uidl, modseq_of)

    def _kind(self, server: str) -> str:
        found = self._means.view.server(server)
        return found.kind if found is not None else ""

    # -- done, many in one transaction

    async def _settled(self, settled: Settled) -> bool:
        """Raises Failed where it can't be written now."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._settling.append((settled, done))
        self._settler.set()
        return await done

    async def _settle(self) -> None:
        while True:
            await self._settler.wait()
            self._settler.clear()
            while self._settling:
                some, self._settling = self._settling[:PER_TRANSACTION], self._settling[PER_TRANSACTION:]
                try:
                    written = await self._store.settle([settled for settled, _ in some])
                except Failed as error:
                    for _, done in some:
                        if not done.done():
                            done.set_exception(Failed(error.failure))
                    continue
                for settled, done in some:
                    if not done.done():
                        done.set_result(settled.account in written)
