"""A server dies: its accounts get their replicas as primaries; it comes back: it becomes a replica.

Watches the primaries of linked accounts while this edge runs the links. What is committed is in the database, so this
may be cut off anywhere and go on elsewhere:

    seen down by most live edges, patience over -> homes and epochs committed, pending (one transaction)
    -> every edge goes by it, or its lease has run out -> each account's plan at its new primary (promoting)
    -> the old primary is up again -> its tail is brought, the link runs the other way (returning)

If the new one dies before its plans are carried out, and the old one is up again, that is the primary again.

Knows verdicts, candidates, leases by their ports. Decides by decision/link/succession. Does not know processes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onedomain.decision.link.succession import Promote, gone, may_promote, successor
from onedomain.directory.promotions import Promoted
from onedomain.model.account import Account
from onedomain.model.failure import Failed
from onedomain.model.health import Verdict
from onedomain.model.server import ServerClass
from onedomain.replica import promoting
from onedomain.replica.heirs import PENDING, Heirs
from onedomain.replica.promoting import Means, Promoting
from onedomain.replica.returning import Returning
from onedomain.replica.world import Asked, Rules, Store, World

LOOK_EVERY = 0.1
ACKNOWLEDGED_EVERY = 0.02
GRACE = 1.0
"""Seconds after a start before a server is given up: workers tell first what their safety nets hold."""
SHARE = 20
"""Part of the time in which accounts are looked at that stay: there may be very many, for days."""
TOLD_AFTER = 10.0
"""Seconds that a dead server's accounts may stay before a person is told: edges and replicas may come back."""
RECENT = 86_400.0
SHOWN = 20


class Failover:
    def __init__(
        self, means: Means, store: Store, world: World, rules: Rules, at_once: int = promoting.AT_ONCE
    ) -> None:
        self._means = means
        self._store = store
        self._world = world
        self._rules = rules
        self._heirs = Heirs(means, world, rules)
        self._promoting = Promoting(
            means, store, lambda promoted: self._returning.add([promoted]), self._relink, at_once)
        self._returning = Returning(means, store, self._relink, self._held)
        self._down: dict[str, float] = {}
        self._due: dict[str, float] = {}  # when the patience with it is over, as far as its verdict is known
        self._waits: dict[str, str] = {}
        self._told: set[str] = set()  # of which a person knows that accounts stay there
        self._committed: dict[str, Promoted] = {}  # and not yet acknowledged by all edges
        self._fewer = asyncio.Event()  # the next time that some of them are
        self._loaded = asyncio.Event()
        self._committing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._seq = 0
        self._unsure = False

    async def run(self) -> None:
        """Until cancelled, which may happen anywhere."""
        begun = self._means.clock.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._promoting.run())
            group.create_task(self._returning.run())
            group.create_task(self._acknowledge())
            await self._load()
            await asyncio.sleep(max(0.0, GRACE - (self._means.clock.monotonic() - begun)))
            while True:
                if self._unsure:
                    await self._reread()
                await self._look()
                now = self._means.clock.monotonic()
                await asyncio.sleep(min([LOOK_EVERY, *(at - now for at in self._due.values() if at > now)]))

    async def _reread(self) -> None:
        """A commit whose answer was lost: it is in the database, or it is not."""
        try:
            pending, seq = await self._store.pending(), await self._store.last()
        except Failed:
            return  # at the next look
        self._unsure = False
        self._wait_for_edges([each for each in pending if each.account not in self._promoting], seq)

    async def _load(self) -> None:
        """What was committed before this linker came to be, and is not done."""
        while True:
            try:
                pending, unreturned = await self._store.pending(), await self._store.unreturned()
                seq = await self._store.last()
                break
            except Failed as error:
                self._means.trace.note("promotions unknown", reason=error.failure.reason or error.failure.text)
                await asyncio.sleep(1.0)
        self._returning.add(unreturned)
        self._wait_for_edges(pending, seq)
        self._loaded.set()
        self._world.relink("", False)

    # -- what others ask

    async def loaded(self) -> None:
        """Returns when it is known which accounts' links may run, and they have been configured."""
        await self._loaded.wait()

    async def ready(self, account: str) -> None:
        """Returns when the promotion of an account that the directory calls pending is settled."""
        await self._loaded.wait()
        while account in self._committed:
            await self._fewer.wait()
        await self._promoting.ready(account)

    def may_try(self, account: str) -> bool:
        """Whether a message that an old primary may have, too, may be given to the new one now."""
        return self._returning.may_try(account)

    def may_link(self, account: Account) -> bool:
        """Whether a link may run for it as its home is now. Not before what is open is known."""
        address = account.address
        if not self._loaded.is_set() or account.home.pending:
            return False
        return address not in self._committed and address not in self._promoting and address not in self._returning

    def unlinked(self) -> list[str]:
        """Accounts for whose changes nobody should wait."""
        return [*self._committed, *self._returning.accounts]

    async def _held(self, account: str) -> Collection[str]:
        held = self._world.held(account)
        row = self._means.view.account(account)
        if not held or row is None:
            return ()
        live = (await self._world.observe(row.home.primary)).live
        return [each for each, edge in held.items() if edge in live]

    def _relink(self, account: str, even: bool = False) -> None:
        self._world.relink(account, even)

    async def promote(
        self, accounts: Sequence[Account], to: str, *, cause: str, force: bool = False, dry: bool = False
    ) -> list[Asked]:
        """By hand. `to` "": each one's first replica that is fit. `force`: although something is known to be missing.
        Raises Failed where the database is away.
        """
        await self._loaded.wait()
        if not accounts:
            return []
        sight = await self._world.observe(accounts[0].home.primary)
        answers = [self._heirs.by_hand(account, to, sight, self._way_back(account), force=force)
                   for account in accounts]
        chosen = {each.account: each.to for each in answers if not each.reason}
        if dry or not chosen:
            return answers
        pending = {account.address for account in accounts if account.home.pending}
        back = {address: chosen.pop(address) for address in pending & chosen.keys()}
        done = {each.account for each in await self._take_back(back, cause)} if back else set()
        if not chosen:
            return [_undone(each, done) for each in answers]

        def choose(account: Account) -> str:
            return "" if account.home.pending else chosen.get(account.address, "")

        async with self._committing:
            try:
                promoted, seq = await self._store.promote_accounts(list(chosen), choose, cause)
            except Failed:
                self._unsure = True
                raise
        self._announce(promoted, seq, cause)
        done |= {each.account for each in promoted}
        return [_undone(each, done) for each in answers]

    def figures(self) -> dict[str, int]:
        """Accounts whose promotion is not done, or whose old primary is not back; dead servers whose accounts stay."""
        return {"pending": len(self._committed) + sum(self._promoting.waiting.values()),
                "unreturned": sum(self._returning.waiting.values()), "waiting_servers": len(self._waits)}

    async def status(self) -> dict[str, Any]:
        """For people: what is under way, what waits and why, the last promotions by pair. Raises Failed."""
        recent = await self._store.recent(self._means.clock.time() - RECENT)
        groups: dict[tuple[str, str, str], list[Promoted]] = {}
        for each in sorted(recent, key=lambda one: -one.at):
            groups.setdefault((each.old, each.new, each.cause), []).append(each)
        shown = [
            {"from": old, "to": new, "cause": cause, "accounts": len(some), "at": some[0].at,
             "settled": sum(each.settled > 0 for each in some), "returned": sum(each.returned > 0 for each in some),
             "renumbered": sum(each.renumbered for each in some), "added": sum(each.added for each in some),
             "aside": sum(each.aside for each in some),
             "seconds": max((each.settled - each.at for each in some if each.settled), default=None)}
            for (old, new, cause), some in list(groups.items())[:SHOWN]
        ]  # fmt: skip
        return {
            "automatic": self._rules.automatic,
            "waits": [{"server": server, "reason": reason} for server, reason in sorted(self._waits.items())],
            "pending": self.figures()["pending"],
            "unreturned": dict(self._returning.waiting),
            "trouble": dict([*self._promoting.trouble.items(), *self._returning.trouble.items()][:SHOWN]),
            "recent": shown,
        }  # fmt: skip

    # -- by itself

    async def _look(self) -> None:
        now = self._means.clock.monotonic()
        primaries = set(self._world.primaries())
        for known in (self._down, self._due, self._waits):
            for server in known.keys() - primaries:  # its accounts have gone on elsewhere
                del known[server]
        self._told &= primaries
        for server in primaries:
            if self._means.usable(server):
                self._down.pop(server, None)
                self._told.discard(server)
                self._due.pop(server, None)
                if self._waits.pop(server, ""):
                    self._means.trace.note("failover not needed", server=server)
            else:
                # Also if this linker is new: who saw it die may be dead, too, and its patience has begun.
                since = self._world.down_since(server)
                self._down.setdefault(server, now if since is None else since)
        for server in self._down.keys() & primaries:
            if self._rules.automatic:
                try:
                    await self._consider(server, now)
                except Failed as error:
                    self._say(server, error.failure.reason or error.failure.text)

    async def _consider(self, server: str, now: float) -> None:
        row = self._means.view.server(server)
        since = self._down[server]
        waits = self._rules.waits
        # All edges are asked when it may be decided, and not until then: they have other things to do at such a moment.
        if row is None or now < self._due.setdefault(server, since + min(waits.refusing, waits.silent)):
            return
        sight = await self._world.observe(server)
        if not gone(sight.live, sight.seen):
            agree = sum(not verdict.usable for verdict in sight.seen.values())
            self._say(server, f"{agree} of {len(sight.live)} live edges see it down")
            return
        verdicts = [verdict for verdict in sight.seen.values() if not verdict.usable]
        verdict = Verdict.SILENT if Verdict.SILENT in verdicts else Verdict.REFUSING
        self._due[server] = since + waits.patience(verdict)
        reasons: Counter[str] = Counter()
        chosen: dict[str, str] = {}
        back: dict[str, str] = {}
        lasting = 0
        now = self._means.clock.monotonic()
        for account in self._world.accounts(server):
            if account.home.pending:
                over = now >= self._due[server] and row.class_ is ServerClass.EXCLUSIVE
                if over and (old := self._way_back(account)):
                    back[account.address] = old
                else:
                    reasons[PENDING] += 1
                continue
            answer = successor(verdict, since, now, self._heirs.candidates(account, sight, since), waits,
                               max_lag=self._rules.max_lag, exclusive=row.class_ is ServerClass.EXCLUSIVE)
            if isinstance(answer, Promote):
                chosen[account.address] = answer.server
            else:
                reasons[answer.reason] += 1
                lasting += not answer.passes
        looked = self._means.clock.monotonic()
        self._due[server] = max(self._due[server], looked + SHARE * (looked - now))
        if back:
            await self._take_back(back, f"{server} is {verdict.value}")
        if chosen:
            await self._commit(server, chosen, f"{server} is {verdict.value}")
        if reasons:
            reason, count = reasons.most_common(1)[0]
            stay = f"{sum(reasons.values())} account(s) stay: {reason}" + (
                f" ({count} of them)" if len(reasons) > 1 else "")
            self._say(server, stay)
            if lasting and now - since >= TOLD_AFTER and server not in self._told:
                self._told.add(server)
                self._means.alert("", "", f"{server} is {verdict.value} and {stay}. `onedomain server promote {server} "
                                          "--dry-run` names them. Either it comes back, or with --force their replicas "
                                          "go on without what they lack, which is added again when it is back")

    def _say(self, server: str, reason: str) -> None:
        if self._waits.get(server) != reason:
            self._waits[server] = reason
            self._means.trace.note("failover waits", server=server, reason=reason)

    # -- from the decision to the plans

    def _way_back(self, account: Account) -> str:
        """The old primary of a promotion that is not carried out, if it can be used again: nobody has written at the
        new one, so nothing is lost by going back to it. "": there is none.
        """
        promoted = self._committed.get(account.address) or self._promoting.promoted(account.address)
        if promoted is None or promoted.epoch != account.home.epoch or promoted.old not in account.home.replicas:
            return ""  # nothing of it is here yet, or a person has said that the old one is no replica of it any more
        return promoted.old if self._means.usable(promoted.old) else ""

    async def _take_back(self, olds: Mapping[str, str], cause: str) -> list[Promoted]:
        """An answer that was lost is seen by what the directory says."""
        async with self._committing:
            taken = await self._store.take_back(olds, cause)
        self._uncommit(each.account for each in taken)
        for each in taken:
            if each.account in self._promoting:
                self._promoting.drop(each.account, each.epoch - 1)
            else:
                self._relink(each.account)
        self._tell(taken, cause)
        return taken

    async def _commit(self, server: str, chosen: Mapping[str, str], cause: str) -> list[Promoted]:
        def choose(account: Account) -> str:
            return "" if account.home.pending else chosen.get(account.address, "")

        async with self._committing:
            try:
                promoted, seq = await self._store.promote_server(server, choose, cause)
            except Failed:
                self._unsure = True
                raise
        self._announce(promoted, seq, cause)
        return promoted

    def _announce(self, promoted: Sequence[Promoted], seq: int, cause: str) -> None:
        self._tell(promoted, cause)
        for each in promoted:
            self._world.promoted(each.account)
        self._wait_for_edges(promoted, seq)

    def _tell(self, promoted: Sequence[Promoted], cause: str) -> None:
        for (old, new), count in Counter((each.old, each.new) for each in promoted).items():
            self._means.trace.note("failover", server=new, before=old, accounts=count, reason=cause)
            self._means.count.add("failover_accounts_total", count, source=old, target=new)
            self._means.count.set("failover_last_timestamp_seconds", self._means.clock.time(), source=old, target=new)
            self._means.alert("", "", f"{count} account(s) of {old} go on at {new}: {cause}")

    def _wait_for_edges(self, promoted: Sequence[Promoted], seq: int) -> None:
        """Their plans begin when every edge goes by change `seq`."""
        self._committed.update({each.account: each for each in promoted})
        self._seq = max(self._seq, seq)
        self._changed.set()

    async def _acknowledge(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._committed:
                some, seq = dict(self._committed), self._seq
                try:
                    ready = await self._gone_by(seq)
                except Failed as error:
                    self._means.trace.note("leases unknown", reason=error.failure.reason or error.failure.text)
                    ready = False
                if ready and seq == self._seq:
                    # Those that came meanwhile wait for their own change; others were taken back.
                    self._promoting.add(each for at, each in some.items() if self._committed.get(at) is each)
                    self._uncommit(some)
                else:
                    await asyncio.sleep(ACKNOWLEDGED_EVERY)

    def _uncommit(self, accounts: Iterable[str]) -> None:
        gone = frozenset(accounts)
        self._committed = {at: each for at, each in self._committed.items() if at not in gone}
        self._fewer.set()
        self._fewer = asyncio.Event()

    async def _gone_by(self, seq: int) -> bool:
        leases = await self._store.edges()
        granted = {lease.edge: lease.left - self._rules.waits.lease for lease in leases}
        acknowledged = {lease.edge for lease in leases if lease.seq >= seq}
        if not may_promote(granted, acknowledged, 0.0, self._rules.waits.lease):
            return False
        return await self._world.applied(seq)


def _undone(asked: Asked, done: Collection[str]) -> Asked:
    if asked.reason or asked.account in done:
        return asked
    return replace(asked, reason="its home has changed just now")
