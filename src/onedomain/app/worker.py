"""A worker: sessions, spool and deliveries of one core.

Knows how its parts are put together and in what order they start and end. Does not know protocols or policy.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from onedomain.app.backends import Backends
from onedomain.app.events import Events
from onedomain.app.inherited import Inherited
from onedomain.app.line import Line
from onedomain.app.link_servers import LinkServers
from onedomain.app.listening import Conversations, listener
from onedomain.app.memory import freeze
from onedomain.app.real import RealClock, RealNonce, names
from onedomain.app.reloading import needs_restart
from onedomain.app.smarthost import outside
from onedomain.backend.base import Backend
from onedomain.backend.link.registry import make_link_server
from onedomain.backend.mailserver import Tools
from onedomain.config import Config
from onedomain.control.link import Handler, Link, LinkError
from onedomain.decision.retry import Patience, Pauses
from onedomain.directory import credentials
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.edge.fence import EdgeFence
from onedomain.edge.home import Homes
from onedomain.edge.imap import MailboxParts
from onedomain.edge.login import LoginParts, LoginRules, LogIns
from onedomain.edge.relays import Relays
from onedomain.edge.smtp_ports import SmtpParts
from onedomain.edge.submission import SubmissionLogIn
from onedomain.health.mirror import Mirror
from onedomain.health.view import Change
from onedomain.model.failure import Failed
from onedomain.net.listen import Listener
from onedomain.net.poller import Poller
from onedomain.net.tls import ClientContexts
from onedomain.queue.crash import crash_points
from onedomain.queue.dispatch import Dispatcher
from onedomain.queue.net import Net
from onedomain.queue.notice import tell_postmaster
from onedomain.queue.operator import Operator
from onedomain.queue.rescue import Rescue
from onedomain.queue.route import SMARTHOST
from onedomain.queue.spool import Spool, SpoolLimits
from onedomain.store.disk import RealDisk
from onedomain.trace.counters import Counters
from onedomain.trace.recorder import Recorder

LOCK_SECONDS = 20.0
"""How long a predecessor may take to let go of the spool: the supervisor's own patience, and some."""
DRAIN_SECONDS = 5.0
ADOPT_AGAIN = 30.0
BEAT = 1.0
SWITCH = 0.0005
"""Seconds after which the loop lets a thread have the interpreter: who comes back from a sync has an acknowledgement
to hand over. With Python's own 5 ms a busy worker accepts a tenth less mail, for a tenth more CPU.
"""
SUCCESSION = 6.0
"""Seconds that a log-in waits for a replica to take over: less than mail programs wait for an answer."""


class Worker:
    def __init__(self, config: Config, inherited: Inherited, slot: int) -> None:
        self._config = config
        self._inherited = inherited
        self._slot = slot
        self._clock, self._nonce = RealClock(), RealNonce()
        self._points = crash_points(os.environ)
        self.trace = Recorder(config.state / "log", f"worker-{slot}", edge=config.name, clock=self._clock,
                              keep=config.log.keep)
        self._counters = Counters()
        self._book = Book(config.domains, config.units, config.servers)
        self._book_whole = asyncio.Event()
        self._listeners: list[Listener] = []
        self._spool: Spool | None = None
        for table in (inherited.connections, inherited.failures, inherited.known):
            table.start(slot)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Ports are opened when spool and directory are there."""
        loop = asyncio.get_running_loop()
        self.trace.bind(Poller.running())
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        reload_wanted = asyncio.Event()  # while there is nothing yet to reload
        loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)
        beating = asyncio.create_task(self._beat())  # reading a large spool takes longer than a hung worker may
        spool = self._spool = await self._open_spool()
        self._put_together(spool)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if reload_wanted.is_set():
            self._reload()
        line = asyncio.create_task(self._line.run())
        starting = asyncio.create_task(self._start(spool))
        starting.add_done_callback(partial(self._started, ended))
        await ended.wait()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await self._stop(spool)
        for task in (line, beating):
            task.cancel()
        self.trace.close()

    # -- the parts

    async def _open_spool(self) -> Spool:
        limits = self._config.limits
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return await Spool.open(
                    str(self._spool_of(self._slot)), disk=RealDisk(), clock=self._clock, nonce=self._nonce,
                    trace=self.trace, limits=SpoolLimits(
                        room=limits.spool_free, size=limits.spool_size // self._inherited.workers),
                    crash_points=self._points)
            except BlockingIOError:
                # The process that had this slot is still ending.
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)

    def _spool_of(self, slot: int) -> Path:
        return self._config.state / "spool" / str(slot)

    def _put_together(self, spool: Spool) -> None:
        config, clock, nonce, trace = self._config, self._clock, self._nonce, self.trace
        handlers: dict[str, Handler] = {
            "directory": self._take_directory, "board": self._take_board, "figures": self._figures,
            "fence": self._take_fence, "mail_postmaster": self._mail_postmaster,
            "queue_list": self._queue_list, "queue_show": self._queue_show, "queue_act": self._queue_act}
        mirror = self._mirror = Mirror(lambda name: self._backends.in_flight(name), lambda: self._line.urgent())
        self._line = Line(config.control, self._slot, handlers, mirror.report)
        net = self._net = Net(spool, self._book, clock=clock, trace=trace, count=self._counters)
        events = self._events = Events(self._book, self._line, clock, net)
        handlers.update(events.handlers())
        self._line.joined.append(events.tell_all)
        fence = self._fence = EdgeFence(self._book, clock, lease(config))
        fence.on_open.append(lambda: self._dispatcher.reroute())
        fence.on_close.append(self._fenced)
        contexts = self._contexts = ClientContexts(names(config))
        tools = Tools(contexts, mirror, nonce, config.name)
        self._backends = Backends(tools)
        self._link_servers = LinkServers(tools, make_link_server)
        for servers in (self._backends, self._link_servers):
            servers.configure(self._book.servers())
        self._smarthost = outside(config, contexts, mirror, nonce)
        self._dispatcher = Dispatcher(
            spool, self._book, mirror.facing("delivery"), self._backend, edge=config.name,
            domain=config.file.domain[0].name, clock=clock, nonce=nonce, trace=trace, patience=patience(config),
            changes=events, count=self._counters, crash_points=self._points, ready=events.ready,
            may_try=events.may_try, fence=fence.may_forward)
        self._rescue = Rescue(
            spool, net, self._book, mirror.facing("imap"), self._link_servers, clock=clock, nonce=nonce, trace=trace,
            changes=events, count=self._counters, crash_points=self._points, fence=fence.may_write)
        net.rescue = self._rescue.wanted
        self._operator = Operator(self._dispatcher, clock=clock, trace=trace, net=net)
        mirror.on_change.append(self._verdict_changed)
        self._relays = Relays(self._inherited.connections, limit=config.limits.account_sessions)
        inherited = self._inherited
        log_ins = self._log_ins = LogIns(
            LoginParts(self._book, credentials, inherited.failures, inherited.known, clock, nonce, trace,
                       self._counters),
            LoginRules(config.file.domain[0].name))
        tls = inherited.contexts.context if inherited.contexts else None
        homes = Homes(self._book, mirror.facing("imap"), self._backends, fence, events.ready,
                      SUCCESSION if config.failover.automatic else 0.0)
        mirror.on_change.append(lambda _: homes.board_changed())
        self._conversations = Conversations(
            SmtpParts(self._book, mirror.facing("delivery"), spool, self._dispatcher, clock, trace, self._counters,
                      tls, SubmissionLogIn(log_ins, self._backends), events, self._points),
            MailboxParts(log_ins, homes, self._relays, trace, events, nonce, tls, fence, self._counters,
                         config.limits.hold_append),
            trace, inherited.connections, tls)

    def _backend(self, name: str) -> Backend:
        if name == SMARTHOST and self._smarthost is not None:
            return self._smarthost
        return self._backends(name)

    # -- life

    async def _start(self, spool: Spool) -> None:
        await self._book_whole.wait()
        self._net.start()
        self._dispatcher.start()
        for values, sock in self._inherited.sockets[self._slot]:
            opened = listener(self._config, values, sock, self._conversations)
            opened.start()
            self._listeners.append(opened)
        self.trace.note("worker ready", slot=self._slot, pid=os.getpid(), queue=len(spool.entries))
        await self._adopt_orphans(spool)

    def _started(self, ended: asyncio.Event, start: asyncio.Task[None]) -> None:
        """A worker that could not start would hold its share of all connections and answer none: a new one may."""
        if not start.cancelled() and (error := start.exception()) is not None:
            self.trace.note("worker failed", slot=self._slot, reason=repr(error))
            ended.set()

    async def _adopt_orphans(self, spool: Spool) -> None:
        """Spools of slots that are no more, since there are fewer workers now. Nobody waits for it: a disk that is full
        or a process that is still ending must not keep mail and people out.
        """
        while True:
            try:
                for path in self._orphans():
                    await spool.adopt(str(path))
                await spool.adopt()
                return
            except (Failed, OSError) as problem:
                self.trace.note("spool not adopted", slot=self._slot, reason=str(problem))
            await asyncio.sleep(ADOPT_AGAIN)

    def _orphans(self) -> list[Path]:
        if self._slot != 0:
            return []
        found = (path for path in (self._config.state / "spool").iterdir() if path.is_dir() and path.name.isdigit())
        return sorted(path for path in found if int(path.name) >= self._inherited.workers)

    async def _stop(self, spool: Spool) -> None:
        for opened in self._listeners:
            opened.stop()
        self._relays.cut_all("The server is shutting down.")
        await asyncio.gather(*(opened.drain(DRAIN_SECONDS) for opened in self._listeners))
        await self._dispatcher.stop(DRAIN_SECONDS)
        self._net.stop()
        await self._rescue.stop()
        await spool.close()
        await self._backends.close()
        await self._link_servers.close()
        if self._smarthost is not None:
            await self._smarthost.close()

    async def _beat(self) -> None:
        while True:
            self._inherited.beats.beat(self._slot)
            if self._spool is not None and (trouble := self._spool.trouble) is not None:
                # After a failed sync memory and disk may differ: what is on the disk is read again by a new process,
                # whose supervisor waits longer each time it dies soon.
                self.trace.note("spool poisoned", reason=trouble.reason or str(trouble), slot=self._slot)
                self.trace.flush()
                os._exit(75)
            await asyncio.sleep(BEAT)

    def _reload(self) -> None:
        reading = self._inherited.handed.get()
        if (new := reading.config) is None:
            return
        if self._inherited.contexts is not None:
            self._inherited.contexts.use(reading.certificates)
        self._contexts.forget()  # files of authorities may have changed
        restart = needs_restart(self._config, new)
        self._config = new
        self._book.configure(new.domains, new.units, new.servers)
        self._log_ins.forget()
        self._servers_changed()
        self.trace.note("configuration read", restart_needed=restart)

    def _servers_changed(self) -> None:
        for servers in (self._backends, self._link_servers):
            servers.configure(self._book.servers())
        self._dispatcher.reroute()

    # -- what the keeper says

    async def _take_directory(self, link: Link, delta: str) -> None:
        change = Delta.decode(delta.encode())
        moved = self._book.apply(change)
        for address in moved:
            self._relays.account_changed(address, self._book.account(address))
            self._events.account_changed(address, self._book.account(address))
        if not change.whole:
            # not only those that moved: a promotion's gap has been made, too
            for account in change.accounts:
                self._net.account_changed(account.address)
        elif not change.more:
            self._net.look_at_all()
        if change.draining is not None:
            self._servers_changed()
        elif moved or any(account.home.replicas for account in change.accounts):
            # Mail waits where the old home is: if that is down, nobody would look at it there. And what waited for a
            # promotion may go.
            self._dispatcher.reroute()
        if change.whole and not change.more:
            freeze()
        if not change.more:
            self._book_whole.set()

    async def _take_fence(self, link: Link, asked: float) -> int:
        """A lease that was granted (edge/fence); -> the last change that this worker goes by."""
        self._fence.granted(asked)
        return self._book.seq

    def _fenced(self) -> None:
        cut = self._relays.cut_fenced(self._fence.may_forward)
        self.trace.note("fenced", slot=self._slot, sessions=cut)
        self._dispatcher.reroute()

    async def _take_board(self, link: Link, snapshot: dict[str, Any]) -> None:
        self._mirror.apply(snapshot)

    def _verdict_changed(self, change: Change) -> None:
        if change.face == "delivery" and change.after.usable and not change.before.usable:
            self._dispatcher.kick(change.server)

    # -- what the keeper asks

    async def _figures(self, link: Link) -> dict[str, Any]:
        sessions: dict[str, int] = {}
        for opened in self._listeners:
            protocol = opened.name.partition(" ")[0]
            sessions[protocol] = sessions.get(protocol, 0) + opened.sessions
        queue = self._operator.figures()
        waiting = {lane.server or "-": lane.waiting + lane.active for lane in queue.lanes}
        for protocol, count in sessions.items():
            self._counters.set("sessions", count, protocol=protocol)
        self._counters.set("queue_messages", queue.messages)
        self._counters.set("queue_in_doubt", queue.in_doubt)
        self._counters.set("net_messages", queue.net)
        self._counters.set("net_bytes", queue.net_bytes)
        self._counters.set("net_aside_bytes", queue.net_aside)
        self._counters.set("net_oldest_seconds", queue.net_oldest)
        self._counters.set("net_moving_accounts", queue.net_moving)
        self._counters.set("queue_oldest_seconds", queue.oldest)
        return {"pid": os.getpid(), "sessions": sessions, "queue": {**asdict(queue), "waiting": waiting},
                "rescued": self._rescue.rescued.last_day(), "counters": self._counters.dump()}

    async def _mail_postmaster(self, link: Link, subject: str, text: str) -> str:
        """Raises LinkError."""
        try:
            assert self._spool is not None
            id = await tell_postmaster(self._spool, self._book, self._config.file.domain[0].name, subject, text,
                                       edge=self._config.name, clock=self._clock)
        except Failed as error:
            raise LinkError(str(error)) from error
        self._dispatcher.enqueue(self._spool.entries[id])
        return id

    async def _queue_list(self, link: Link, **wanted: Any) -> list[dict[str, Any]]:
        return [asdict(item) for item in await self._operator.waiting(**wanted)]

    async def _queue_show(self, link: Link, queue_id: str) -> dict[str, Any] | None:
        item = self._operator.show(queue_id)
        return asdict(item) if item is not None else None

    async def _queue_act(self, link: Link, action: str, ids: list[str] | None) -> list[str]:
        acts = {"retry": self._operator.retry, "hold": self._operator.hold, "release": self._operator.release,
                "delete": self._operator.delete}
        return await acts[action](ids)


def lease(config: Config) -> float | None:
    """Seconds; None where no other edge could promote anything (edge/fence)."""
    alone = config.file.edge.peer_listen is None
    return None if alone or not config.failover.automatic else config.failover.lease


def patience(config: Config) -> Patience:
    retry = config.retry
    return Patience(recipient=Pauses(retry.first, retry.longest), warn_after=retry.warn_after,
                    give_up_after=retry.give_up_after)


def main(config: Config, inherited: Inherited, slot: int) -> int:
    """In the fork."""
    inherited.keep(slot)
    sys.setswitchinterval(SWITCH)
    uvloop.run(Worker(config, inherited, slot).run())
    return 0
