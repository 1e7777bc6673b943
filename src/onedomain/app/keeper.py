"""The keeper: one process per edge that knows what all workers need: directory, board, peers; and that answers people.

Knows how these parts are put together. Does not know mail: no message passes through it, and while it is being replaced
the workers go on with what they know.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import uvloop

from onedomain.app import metrics
from onedomain.app.alerts import Alerts
from onedomain.app.backends import Backends
from onedomain.app.crew import ANSWER_SECONDS, Crew
from onedomain.app.desk import Desk
from onedomain.app.fencing import Fencing
from onedomain.app.hub import Hub
from onedomain.app.inherited import LINKER_SLOT, Inherited
from onedomain.app.memory import freeze
from onedomain.app.peers import Peers
from onedomain.app.real import RealClock, RealNonce, names
from onedomain.app.reloading import needs_restart
from onedomain.backend.mailserver import Tools
from onedomain.config import Config
from onedomain.control.link import MAX_LINE, Handler, Link, LinkError
from onedomain.control.peer import identity
from onedomain.decision.health import Patience
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.directory.feed import Feed
from onedomain.directory.leases import StandingLeases
from onedomain.directory.snapshot import Snapshot
from onedomain.health.board import Board
from onedomain.health.prober import Prober, Rhythm
from onedomain.health.view import Change
from onedomain.net.tls import ClientContexts
from onedomain.store.sql import Database
from onedomain.trace.counters import Counters, Dump, total
from onedomain.trace.recorder import Recorder

COUNTED_SECONDS = 5.0
COUNT_SECONDS = 1.0    # who hangs does not keep the board from the others for long
OBSERVE_SECONDS = 1.5  # and no longer than PEER_SECONDS for one of them
PEER_SECONDS = 1.0
RELOAD_SECONDS = 8.0  # within which the supervisor has read the file: it dials nothing
RELOAD_LOOK = 0.02
TICK = 0.5
"""Seconds between two boards sent to the workers; a change goes at once."""


class Keeper:
    def __init__(self, config: Config, inherited: Inherited) -> None:
        self._config = config
        self._inherited = inherited
        self._clock = RealClock()
        nonce = RealNonce()
        self.trace = Recorder(config.state / "log", "keeper", edge=config.name, clock=self._clock,
                              keep=config.log.keep)
        self._counters = Counters()
        self._metrics = ""  # "served", or why not
        self._serving: dict[asyncio.Task[None], Link] = {}
        self._book = Book(config.domains, config.units, config.servers)
        self._board = Board(config.servers, self._clock, Patience(silence=config.health.patience))
        self._tools = Tools(ClientContexts(names(config)), self._board, nonce, config.name)
        self._backends = Backends(self._tools)
        self._prober = Prober(self._board, self._backends, nonce.random, rhythm(config))
        self._crew = Crew(self._book, self._board, self.trace)
        self._feed = Feed(self._open_database, self._book, Snapshot(config.snapshot), self._publish,
                          clock=self._clock, nonce=nonce, trace=self.trace, poll=config.file.directory.poll)
        self._desk = Desk(config.name, config.state / "log", crew=self._crew, book=self._book, board=self._board,
                          feed=self._feed, clock=self._clock, workers=inherited.workers,
                          reload=self._reload_all)
        self._down: dict[str, float] = {}
        table = config.alerts
        self.alerts = Alerts(config.name, table.every, self._mail_postmaster if table.mail else None, table.webhook,
                             clock=self._clock, trace=self.trace)
        self._desk.untold = self.alerts.troubles
        self._hub = self._desk.hub = Hub(config.name, self._crew, self._dial_peer, self.alerts.tell, self.trace)
        me = identity(config.state, config.name, self._clock.time())
        self._peers = self._desk.peers = Peers(
            me, config.file.edge.peer_listen, config.file.edge.peer_address, self._open_database,
            {**self._desk.peer(), **self._hub.peers(), "observe": self._observe}, self._hub.peer_left,
            settings=config.shared, alert=lambda text: self.alerts.tell("", "", text), clock=self._clock,
            trace=self.trace)
        self._fencing = Fencing(config.name, StandingLeases(self._open_database), self._crew.fences, inherited.workers,
                                config.failover.lease, clock=self._clock, trace=self.trace)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        self.trace.bind(loop)
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._board.on_change.append(self._changed)
        self._backends.configure(self._book.servers())
        self._prober.configure(self._book.servers())
        control = await self._open_control()
        parts = [self._part("directory", self._feed.run), self._part("peers", self._peers.run),
                 self._part("prober", self._prober.run), self._part("board", self._tick),
                 self._part("counters", self._measure), self._part("hub", self._hub.run),
                 self._part("alerts", self.alerts.run)]
        if self._config.file.edge.peer_listen is not None:
            parts.append(self._part("fencing", self._fencing.run))
        tasks = [asyncio.create_task(part) for part in parts]
        await ended.wait()
        control.close()
        for link in self._serving.values():
            link.close()
        # Whoever is served may be waiting for a directory that has not come.
        for task in (*tasks, *self._serving):
            task.cancel()
        await asyncio.gather(*tasks, *self._serving, return_exceptions=True)
        await self._backends.close()
        self.trace.close()

    async def _part(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A part that fails ends the process: the supervisor starts a whole one, which beats half of one."""
        try:
            await run()
        except Exception as error:  # noqa: BLE001  told below, and the process ends
            self.trace.note("part failed", part=name, reason=repr(error))
            self.trace.flush()
            asyncio.get_running_loop().call_exception_handler({"message": f"{name} failed", "exception": error})
            os._exit(70)

    async def _tick(self) -> None:
        while True:
            self._inherited.beats.beat(self._inherited.keeper_beat)
            self._crew.tell_board()
            await asyncio.sleep(TICK)

    async def _measure(self) -> None:
        """Apart from the beats."""
        while True:
            self._serve_metrics()
            self._tell_down()
            await asyncio.sleep(TICK)

    # -- what the parts tell each other

    def _publish(self, delta: Delta, ended: tuple[str, ...]) -> None:
        self._crew.publish(delta)
        self._fencing.changed()
        if delta.whole and not delta.more:
            freeze()
        if delta.draining is not None:
            self._board.configure(self._book.servers())

    def _changed(self, change: Change) -> None:
        self.trace.note("verdict", server=change.server, face=change.face or "server", before=change.before.value,
                        verdict=change.after.value, reason=change.reason)
        self._crew.tell_board()

    async def _open_database(self) -> Database:
        return await Database.open(self._config.database_url)

    # -- the control socket

    async def _open_control(self) -> asyncio.Server:
        path = self._config.control
        path.unlink(missing_ok=True)
        # Between bind and chmod nobody else may connect.
        before = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._accept, str(path), limit=MAX_LINE)
        finally:
            os.umask(before)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers = {**self._desk.operator(), **self._hub.own(), **self._hub.operator(), "hello": self._hello,
                    "report": self._crew.report, "observe_all": self._observe_all, "applied": self._applied}
        link = Link(reader, writer, handlers)
        serving = asyncio.current_task()
        assert serving is not None
        self._serving[serving] = link
        try:
            await link.serve()
        except asyncio.CancelledError:
            pass  # we end; asyncio's own streams take a cancelled one for a fault
        finally:
            del self._serving[serving]
            if self._crew.left(link) not in (None, LINKER_SLOT):
                self._hub.left()

    async def _hello(self, link: Link, slot: int, pid: int) -> None:
        await self._feed.loaded()
        await self._crew.hello(link, slot, pid)
        if slot != LINKER_SLOT:
            self._hub.joined(slot)

    async def _dial_peer(self, name: str, handlers: Mapping[str, Handler]) -> tuple[Link, asyncio.Task[None]]:
        return await self._peers.dial(name, handlers)

    # -- for the failover

    async def _observe(self, link: Link, server: str) -> str:
        """What this edge says of a server."""
        return self._board.verdict(server).value

    async def _observe_all(self, link: Link, server: str) -> dict[str, Any]:
        """`live`: the edges whose leases have not run out, this one, and whoever answers; `seen`: what they say;
        `told`: those of whose changes our linker is told.
        """
        grant = self._fencing.grant
        live = {lease.edge for lease in grant.others if lease.left > 0} if grant is not None else set()
        seen = {self._config.name: self._board.verdict(server).value}
        with suppress(TimeoutError):
            async with asyncio.timeout(OBSERVE_SECONDS):
                answers = await self._peers.ask("observe", within=PEER_SECONDS, server=server)
                seen |= {edge: answer for edge, answer in answers.items() if isinstance(answer, str)}
        return {"live": sorted(live | seen.keys()), "seen": seen, "told": self._hub.told}

    async def _applied(self, link: Link, seq: int) -> bool:
        """Whether everything of this edge goes by that change of the directory."""
        if self._book.seq < seq:
            return False
        # A lease from the beginning of time says nothing: it is only asked what they go by.
        answers = await asyncio.gather(*(tell(0.0) for tell in self._crew.fences().values()), return_exceptions=True)
        return all(isinstance(answer, int) and answer >= seq for answer in answers)

    async def _mail_postmaster(self, subject: str, text: str) -> None:
        """Into the spool of any worker: of another one where one can't, as its disk may be what is wrong.

        Raises LinkError.
        """
        refused = LinkError("no worker is up")
        for worker in list(self._crew.workers.values()):
            try:
                await worker.call("mail_postmaster", timeout=ANSWER_SECONDS, subject=subject, text=text)
                return
            except LinkError as error:
                refused = error
        raise refused

    # -- reload

    async def _reload_all(self) -> list[str]:
        """For the operator: has the supervisor read everything, and tell everybody. Raises LinkError."""
        old, handed = self._config, self._inherited.handed
        before = handed.get().number
        os.kill(os.getppid(), signal.SIGHUP)
        with suppress(TimeoutError):
            async with asyncio.timeout(RELOAD_SECONDS):
                while (reading := handed.get()).number == before:
                    await asyncio.sleep(RELOAD_LOOK)
        if reading.number == before:
            raise LinkError("the supervisor does not answer")
        if reading.config is None:
            raise LinkError(reading.refused)
        return needs_restart(old, reading.config)

    def _reload(self) -> None:
        if (new := self._inherited.handed.get().config) is None:
            return
        self._tools.contexts.forget()  # files of authorities may have changed
        restart = needs_restart(self._config, new)
        self._config = new
        self._book.configure(new.domains, new.units, new.servers)
        self._board.configure(self._book.servers())
        self._backends.configure(self._book.servers())
        self._prober.configure(self._book.servers())
        self.trace.note("configuration read", restart_needed=restart)

    # -- metrics

    def _serve_metrics(self) -> None:
        """Until it is done: the port may still be that of a keeper before this one."""
        table = self._config.file.metrics
        if table is None or self._metrics == "served":
            return
        try:
            loop = asyncio.get_running_loop()
            metrics.serve(table.address, table.port, lambda: self._counted(loop))
            self._metrics = "served"
        except OSError as error:
            reason = f"{table.address}:{table.port}: {error.strerror}"
            if reason != self._metrics:
                self.trace.note("no metrics", reason=reason)
            self._metrics = reason

    def _tell_down(self) -> None:
        now, late = self._clock.monotonic(), self._config.alerts.late
        down = {name: verdict for name in self._board.servers if not (verdict := self._board.verdict(name)).usable}
        self._down = {name: self._down.get(name, now) for name in down}
        for name, since in self._down.items():
            if now - since > late:
                self.alerts.tell("", "", f"server {name} is {down[name].value}")

    def _counted(self, loop: asyncio.AbstractEventLoop) -> Dump:
        """For a thread that serves metrics: counted when somebody asks, as counting asks every process."""
        counting = asyncio.run_coroutine_threadsafe(self._count(), loop)
        try:
            return counting.result(COUNTED_SECONDS)
        finally:
            counting.cancel()

    async def _count(self) -> Dump:
        figures = await self._crew.figures(COUNT_SECONDS)
        dumps = [one["counters"] for one in figures.values()]
        if (linker := self._crew.linker) is not None:
            with suppress(LinkError):
                dumps.append((await linker.call("figures", timeout=COUNT_SECONDS))["counters"])
        for name in self._board.servers:
            self._counters.set("server_usable", float(self._board.verdict(name).usable), server=name)
            self._counters.set("server_seconds", self._board.load(name).seconds, server=name)
        self._counters.set("accounts", len(self._book))
        self._counters.set("directory_age_seconds", self._feed.age or 0.0)
        return total([self._counters.dump(), *dumps])


def rhythm(config: Config) -> Rhythm:
    health = config.health
    return Rhythm(interval=health.interval, message=health.message_interval)


def main(config: Config, inherited: Inherited) -> int:
    """In the fork."""
    inherited.keep(None)
    uvloop.run(Keeper(config, inherited).run())
    return 0
