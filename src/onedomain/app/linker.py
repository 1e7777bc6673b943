"""The linker: one process per edge that keeps replicas; only that of the edge with the lease does anything.

Knows how its parts are put together. Does not know plans, servers' languages, or workers: those are the keeper's. What
it knows is in the database and in the workers' safety nets, so it may die at any time.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import uvloop

from onedomain.app.aside_desk import AsideDesk
from onedomain.app.comparing import compared
from onedomain.app.inherited import LINKER_SLOT, Inherited
from onedomain.app.leadership import Granting, Leadership
from onedomain.app.line import Line
from onedomain.app.link_desk import LinkDesk
from onedomain.app.link_servers import LinkServers
from onedomain.app.link_states import LinkStates
from onedomain.app.memory import freeze
from onedomain.app.outlet import Outlet
from onedomain.app.promotions import Eyes, PromotionStore, Road, copy_of, progress
from onedomain.app.real import RealClock, RealNonce, names
from onedomain.app.reloading import needs_restart
from onedomain.app.standing import Standing
from onedomain.backend.link.registry import make_link_server
from onedomain.backend.mailserver import Tools
from onedomain.config import Config
from onedomain.control.link import Handler, Link
from onedomain.decision.link.brake import Brake
from onedomain.decision.link.succession import Waits
from onedomain.decision.net import is_linked
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.health.mirror import Mirror
from onedomain.health.view import Change
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed
from onedomain.net.tls import ClientContexts
from onedomain.replica.aside import Aside, Room
from onedomain.replica.dropping import Dropping
from onedomain.replica.failover import Failover
from onedomain.replica.figures import GAUGES, gauges, late
from onedomain.replica.links import Links
from onedomain.replica.mover import Mover
from onedomain.replica.pace import Bounds
from onedomain.replica.parts import Parts, Rhythm
from onedomain.replica.promoting import Means
from onedomain.replica.saving import Saver
from onedomain.replica.world import Rules, World
from onedomain.store.disk import RealDisk
from onedomain.store.sql import Database
from onedomain.trace.counters import Counters
from onedomain.trace.recorder import Recorder

BEAT = 1.0
TIDY = 600.0
PRIMARIES_EVERY = 1.0
LATE_EVERY = 5.0
STOPPED_EVERY = 0.2
"""Seconds between two lists of stopped links, if it changed; a long one is told less often."""


class Linker:
    def __init__(self, config: Config, inherited: Inherited) -> None:
        self._config = config
        self._inherited = inherited
        self._clock, self._nonce = RealClock(), RealNonce()
        self.trace = Recorder(config.state / "log", "linker", edge=config.name, clock=self._clock,
                              keep=config.log.keep)
        self._counters = Counters()
        self._book = Book(config.domains, config.units, config.servers)
        self._book_whole = asyncio.Event()
        self._database = Standing(self._open_database)
        self._lease_database = Standing(self._open_database)  # a lease must not wait for what is done under it
        self._states = LinkStates(self._database, self._clock, lambda: self._leadership.token)
        self._leading = asyncio.Event()
        self._told_stopped: list[str] | None = None
        self._leads: list[asyncio.Task[None]] = []
        self._primaries_at = float("-inf")
        self._down_since: dict[str, float] = {}
        self._primaries_known: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        self.trace.bind(loop)
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        beating = asyncio.create_task(self._beat())
        self._put_together()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._aside_opened()
        tasks = [beating, *(asyncio.create_task(self._part(name, part)) for name, part in (
            ("line", self._line.run()), ("leadership", self._lead()), ("stopped", self._tell_stopped()),
            ("late", self._tell_late()), ("tidy", self._tidy())))]
        await ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end()
        await self._servers.close()
        await self._aside.close()
        await self._database.close()
        await self._lease_database.close()
        self.trace.close()

    def _put_together(self) -> None:
        config = self._config
        self._desk = LinkDesk(self._book, lambda: (self._links, self._failover) if self._leading.is_set() else None,
                              lambda name: self._servers(name), self._states.accept, self.trace)
        self._mirror = Mirror(lambda name: 0, lambda: self._line.urgent())
        self._mirror.on_change.append(self._verdict_changed)
        folder = config.state / "aside"
        folder.mkdir(mode=0o700, exist_ok=True)
        table = config.links
        self._aside = Aside(
            RealDisk(), str(folder), clock=self._clock, nonce=self._nonce, threads=ThreadPoolExecutor(1, "aside"),
            room=Room(table.keep_deleted, table.deleted_size, table.refused_size))
        self._aside_desk = AsideDesk(self._aside, self._book, lambda account: self._servers.end(account), self.trace)
        self._line = Line(config.control, LINKER_SLOT, self._handlers(), self._mirror.report)
        self._line.joined += [self._tell_leader, lambda: self._links.lost()]
        self._outlet = Outlet(self._line.tell)
        self._tools = Tools(ClientContexts(names(config)), self._mirror, self._nonce, config.name)
        self._servers = LinkServers(self._tools, make_link_server)
        self._servers.configure(self._book.servers())
        self._links = self._new_links()
        self._failover = self._new_failover()
        self._leadership = Leadership(
            config.name, Granting(self._lease_database), self._leader_changed, clock=self._clock, trace=self.trace)

    def _new_links(self) -> Links:
        table = self._config.links
        parts = Parts(
            servers=self._servers, states=self._states, saver=Saver(self._states.save), aside=self._aside,
            outlet=self._outlet,
            usable=lambda name: self._mirror.verdict(name).usable, clock=self._clock, dice=self._nonce.random,
            trace=self.trace, count=self._counters, may_write=self._leads_still)
        return Links(parts, Rhythm(sweep=table.sweep, audit=table.audit), Bounds(table.passes),
                     Brake(table.brake_messages, table.brake_share))

    def _handlers(self) -> dict[str, Handler]:
        return {"directory": self._take_directory, "board": self._take_board, "figures": self._figures,
                "touched": self._take_touched, "net": self._take_net,
                "lost": self._take_lost, **self._desk.handlers(),
                **self._aside_desk.handlers()}

    def _aside_opened(self) -> None:
        for damage in self._aside.open():
            self.trace.note("aside damaged", reason=damage.reason, octets=damage.length)

    async def _open_database(self) -> Database:
        return await Database.open(self._config.database_url)

    # -- life

    async def _part(self, name: str, run: Any) -> None:
        """A part that fails ends the process: a whole new one beats half of one."""
        try:
            await run
        except Exception as error:  # noqa: BLE001  told below, and the process ends
            self.trace.note("part failed", part=name, reason=repr(error))
            self.trace.flush()
            asyncio.get_running_loop().call_exception_handler({"message": f"{name} failed", "exception": error})
            os._exit(70)

    async def _beat(self) -> None:
        while True:
            self._inherited.beats.beat(self._inherited.linker_beat)
            if (trouble := self._aside.trouble if hasattr(self, "_aside") else None) is not None:
                # After a failed sync memory and disk may differ: a new process reads it again.
                self.trace.note("aside poisoned", reason=trouble.reason or str(trouble))
                self.trace.flush()
                os._exit(75)
            await asyncio.sleep(BEAT)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY)
            await self._aside.tidy()

    def _reload(self) -> None:
        if (new := self._inherited.handed.get().config) is None:
            return
        self._tools.contexts.forget()  # files of authorities may have changed
        restart = needs_restart(self._config, new)
        self._config = new
        self._book.configure(new.domains, new.units, new.servers)
        self._servers.configure(self._book.servers())
        self._configure_all()
        self.trace.note("configuration read", restart_needed=restart)

    # -- the lease

    async def _lead(self) -> None:
        await self._book_whole.wait()
        await self._leadership.run()

    async def _leader_changed(self, token: int, holder: str) -> None:
        if token:
            await self._begin()
        else:
            await self._end()
        self._tell_leader()

    def _tell_leader(self) -> None:
        """Also to a keeper that is new: it then has its workers tell us everything."""
        self._line.tell("leader", edge=self._leadership.holder)

    async def _begin(self) -> None:
        if self._leading.is_set():
            await self._end()
        self._links = self._new_links()
        self._failover = self._new_failover()
        self._leading.set()
        self._configure_all()
        road = Road(self._database, self._clock, lambda: self._failover, self._book.account)
        dropping = Dropping(partial(compared, self._book, self._links, self._servers, octets=True), road.keep_report,
                            self._clock.time, self.trace)
        mover = Mover(road, self._home, lambda account: progress(self._links, account), self._usable, dropping,
                      self.trace)
        self._leads = [asyncio.create_task(self._part(name, part)) for name, part in (
            ("failover", self._failover.run()), ("moves", mover.run()), ("links", self._begin_links()))]

    async def _begin_links(self) -> None:
        """When it is known which may run: what is saved of a link says whether it has ever been whole, and only then
        its replica may take the place of a primary that is dead already.
        """
        await self._failover.loaded()
        try:
            await self._states.tell_all(self._book.account, self._links.known)
        except Failed as error:
            self.trace.note("link states not read", reason=error.failure.reason or error.failure.text)
        self._links.start()

    def _leads_still(self) -> bool:
        return self._leadership.holds

    async def _end(self) -> None:
        self._leading.clear()
        for task in self._leads:
            task.cancel()
        await self._links.stop()  # first of all: no pass goes on while the others come to their ends
        await asyncio.gather(*self._leads, return_exceptions=True)
        self._leads = []
        self._told_stopped = None

    def _configure_all(self) -> None:
        for account in self._book.accounts():
            self._configure(account)

    def _configure(self, account: Account, *, returned: bool = False, even: bool = False) -> None:
        paused = not self._failover.may_link(account)
        self._links.configure(account, linked=is_linked(self._book, account), paused=paused, returned=returned,
                              even=even)

    def _relink(self, address: str, even: bool) -> None:
        if not address:
            self._configure_all()
        elif (account := self._book.account(address)) is not None:
            self._configure(account, returned=True, even=even)

    # -- failover and moves

    def _new_failover(self) -> Failover:
        table = self._config.failover
        eyes = Eyes(self._line, self._config.name)
        means = Means(
            view=self._book, servers=self._servers, usable=lambda name: self._mirror.verdict(name).usable,
            quiet=lambda account: self._links.quiet(account), allowed=lambda *asked: self._links.allowed(*asked),
            sent=lambda account: self._links.sent(account),
            aside=self._aside, alert=self._outlet.alert,
            clock=self._clock, trace=self.trace, count=self._counters, may_write=self._leads_still)
        world = World(
            accounts=lambda server: [account for account in self._book.accounts()
                                     if account.home.primary == server and account.home.replicas],
            primaries=self._primaries, copy=lambda account: copy_of(self._links, account),
            held=lambda account: self._links.held(account), down_since=self._down_since.get,
            observe=eyes.observe, applied=eyes.applied,
            promoted=lambda account: self._links.promoted(account), relink=self._relink)
        rules = Rules(table.automatic, Waits(table.refusing, table.silent, table.lease), table.max_lag)
        store = PromotionStore(self._database, self._clock, lambda: self._leadership.token)
        return Failover(means, store, world, rules)

    def _primaries(self) -> frozenset[str]:
        """Of accounts with replicas; a second old at most, as all accounts have to be looked at for it."""
        now = self._clock.monotonic()
        if now - self._primaries_at > PRIMARIES_EVERY:
            self._primaries_at = now
            self._primaries_known = frozenset(
                account.home.primary for account in self._book.accounts() if account.home.replicas)
        return self._primaries_known

    def _home(self, address: str) -> Home | None:
        account = self._book.account(address)
        return account.home if account is not None else None

    def _usable(self) -> frozenset[str]:
        return frozenset(server.name for server in self._book.servers() if self._mirror.verdict(server.name).usable)

    # -- what the keeper says

    async def _take_directory(self, link: Link, delta: str) -> None:
        change = Delta.decode(delta.encode())
        before = self._book_whole.is_set()
        gone = set(change.gone_accounts)
        self._book.apply(change)
        self._aside_desk.directory_changed()
        if not change.more:
            self._book_whole.set()
        if not self._leading.is_set() or change.more:
            return
        if change.whole or not before:
            self._configure_all()
            freeze()
            return
        for address in {account.address for account in change.accounts} | gone:
            account = self._book.account(address)
            if account is None:
                self._links.remove(address)
            else:
                self._configure(account)

    async def _take_board(self, link: Link, snapshot: dict[str, Any]) -> None:
        self._mirror.apply(snapshot)

    def _verdict_changed(self, change: Change) -> None:
        if change.face:
            return
        if not change.after.usable:
            self._down_since.setdefault(change.server, self._clock.monotonic())
        elif self._down_since.pop(change.server, None) is not None:
            self._links.kick(change.server)

    async def _take_touched(self, link: Link, edge: str, slot: int, events: list[Sequence[Any]]) -> None:
        if self._leading.is_set():
            self._links.touched((edge, slot), events)

    async def _take_net(self, link: Link, edge: str, slot: int, held: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        if self._leading.is_set():
            self._links.net((edge, slot), held)

    async def _take_lost(self, link: Link, edge: str) -> None:
        if self._leading.is_set():
            self._links.lost()

    async def _tell_stopped(self) -> None:
        """Workers let nobody wait for links that do not run."""
        while True:
            await asyncio.sleep(STOPPED_EVERY + len(self._told_stopped or ()) / 20_000)
            if not self._leading.is_set():
                continue
            stopped = sorted({*self._links.stopped(), *self._failover.unlinked()})
            if stopped != self._told_stopped:
                self._told_stopped = stopped
                self._line.tell("links", stopped=stopped)
            self._links.stopped_told(frozenset(stopped))

    async def _tell_late(self) -> None:
        while True:
            await asyncio.sleep(LATE_EVERY)
            for text in late(self._links.pairs(), self._config.alerts.late) if self._leading.is_set() else ():
                self._outlet.alert("", "", text)

    # -- what the keeper asks

    async def _figures(self, link: Link) -> dict[str, Any]:
        self._counters.forget(GAUGES)
        if self._leading.is_set():
            for name, value, labels in gauges(self._links.pairs(), self._failover.figures()):
                self._counters.set(name, value, **labels)
        for name in ("deleted", "refused"):
            self._counters.set("aside_octets", self._aside.size(name), kind=name)
        return {"pid": os.getpid(), "leads": self._leading.is_set(), "counters": self._counters.dump()}


def main(config: Config, inherited: Inherited) -> int:
    """In the fork."""
    inherited.keep(None)
    uvloop.run(Linker(config, inherited).run())
    return 0
