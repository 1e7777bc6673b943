"""Gets every message out of the spool: to the right server, at the right pace, once.

A message waits in the lane of each server that one of its targets lives on. Where a target lives is asked at every try.
Knows whose turn it is. Does not know protocols; what an outcome means is settle.py's, what a lost answer means
doubt.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from functools import partial
from typing import Any

from onedomain.backend.base import Backend
from onedomain.decision import retry
from onedomain.model.account import Account, DirectoryView, Level
from onedomain.model.failure import again, give_up
from onedomain.model.health import BoardView
from onedomain.model.message import Outcome, State
from onedomain.model.ports import Changes, Clock, Count, Nonce, Trace
from onedomain.queue import crash, route
from onedomain.queue.attempt import attempt_delivery, is_trouble
from onedomain.queue.bounce import Bouncer
from onedomain.queue.doubt import Answer, Inquiry, look_again_in, outcome_of
from onedomain.queue.entry import Entry
from onedomain.queue.in_flight import InFlight
from onedomain.queue.lane import AFTER_DEFECT, NOT_READY, Job, Lane, Wait
from onedomain.queue.level import Waiters
from onedomain.queue.quiet import NoChanges, NoCount
from onedomain.queue.route import NO_ACCOUNT, NOWHERE, SMARTHOST
from onedomain.queue.settle import Settler
from onedomain.queue.spool import Spool
from onedomain.queue.timers import Timers

LOOK_EVERY = 30.0       # at lanes whose server is not usable, should nobody have said that it is again
SWEEP_EVERY = 600.0     # over all messages, for those whose time has run out
MISSING_TRIES = 10      # about an hour and a half of looking for an account that is gone

GONE = give_up(550, "5.1.1", "Mailbox does not exist any more", "the account has left the directory")
UNKNOWN_SERVER = again(451, "4.3.5", "No way to the recipient's server", "no such server is configured")


async def _always_ready(account: str) -> bool:
    return True


class Dispatcher:
    """`backends` gives the backend of a server by name, LookupError if there is none; "smarthost" is for mail out.
    `edge` is our name, `domain` the one whose postmaster hears of what has no sender (bounce.py).

    `ready` waits until the promotion of an account's new server has been carried out; `may_try` is asked before what
    was tried before is tried again (doubt.py); `fence` says whether this edge may still write to the server of an
    account with replicas.
    """

    def __init__(
        self,
        spool: Spool,
        view: DirectoryView,
        board: BoardView,
        backends: Callable[[str], Backend],
        *,
        edge: str,
        domain: str = "",
        clock: Clock,
        nonce: Nonce,
        trace: Trace,
        patience: retry.Patience | None = None,
        changes: Changes | None = None,
        count: Count | None = None,
        crash_points: crash.CrashPoints | None = None,
        ready: Callable[[str], Awaitable[bool]] = _always_ready,
        may_try: Callable[[str], Awaitable[bool]] = _always_ready,
        fence: Callable[[Account], bool] = lambda account: True,
    ) -> None:
        self.spool = spool
        self.lanes: dict[str, Lane] = {}
        self._view = view
        self._board = board
        self._backends = backends
        self._clock = clock
        self._nonce = nonce
        self._trace = trace
        self._patience = patience or retry.Patience()
        self._crash = crash_points or crash.NoCrash()
        bouncer = Bouncer(
            spool, view, edge=edge, domain=domain, clock=clock, nonce=nonce, trace=trace, crash_points=self._crash
        )
        changes = changes or NoChanges()
        self._settler = Settler(
            spool, bouncer, self._patience, clock=clock, trace=trace, changes=changes, count=count or NoCount()
        )
        self._waiters = Waiters(changes)
        self._settler.told = self._waiters.told
        self._ready = ready
        self._fence = fence
        self._inquiry = Inquiry(view, clock, trace, may_try)
        self._timers = Timers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = InFlight()
        self._stopping = False
        self._reroutes = 0  # asked for and not done

    # -- life

    def start(self) -> None:
        """Begins with what is in the spool; new messages follow as they come."""
        self.spool.arrived = self.enqueue
        self._spawn(self._enqueue_all())
        self._timers.call_in(LOOK_EVERY, self._look)
        self._timers.call_in(SWEEP_EVERY, self._sweep_soon)

    async def stop(self, patience: float = 10.0) -> None:
        """Begins nothing new, gives what is under way some seconds, then cuts it off; that is in doubt afterwards."""
        self._stopping = True
        self._timers.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        cut = list(self._tasks)
        for task in cut:
            task.cancel()
        if cut:
            await asyncio.wait(cut)
        self._waiters.give_up()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._trace.note("dispatch defect", reason=repr(error))
            asyncio.get_running_loop().call_exception_handler(
                {"message": "dispatch task failed", "exception": error, "task": task}
            )

    # -- the lanes

    def lane(self, server: str) -> Lane:
        lane = self.lanes.get(server)
        if lane is None:
            lane = self.lanes[server] = Lane(server, self._patience.server)
        return lane

    def usable(self, server: str) -> bool:
        """Nobody probes the smarthost: its own failures pace it."""
        return server in (NOWHERE, SMARTHOST) or self._board.verdict(server).usable

    async def _enqueue_all(self) -> None:
        for number, entry in enumerate(list(self.spool.entries.values())):
            self.enqueue(entry)
            if number % 200 == 199:
                await asyncio.sleep(0)

    def enqueue(self, entry: Entry) -> None:
        """Puts the message in line wherever it has something to do."""
        if entry.held or self._stopping:
            return
        goes = False
        for lane, job in self.jobs(entry):
            lane.add(job)
            if self.usable(lane.server):
                goes = True
                self._pump(lane)
        if not goes:
            self.spool.cool(entry)

    def jobs(self, entry: Entry) -> list[tuple[Lane, Job]]:
        """What there is to do for a message, as things are now, by nobody who is at it already."""
        taken = self._in_flight.of(entry.id)
        found = {
            (server, Job(entry.id, doubt)): None
            for index, server, doubt in self.whereabouts(entry)
            if index not in taken
        }
        return [(self.lane(server), job) for server, job in found]

    def whereabouts(self, entry: Entry) -> list[tuple[int, str, bool]]:
        """(index, server, in doubt) of each target that is not final."""
        return route.whereabouts(self._view, entry)

    def retry_now(self, entry: Entry) -> None:
        """Whatever pause the message or its servers are in."""
        for lane, job in self.jobs(entry):
            lane.wake(job)
            lane.paused_until = 0.0
            self._pump(lane)

    def reroute(self) -> None:
        """Homes have changed: messages look for their lanes anew. Many changes at once are one reason to look."""
        self._reroutes += 1
        if self._reroutes == 1:
            self._spawn(self._reroute())

    async def _reroute(self) -> None:
        while wanted := self._reroutes:
            try:
                await self._enqueue_all()
            finally:
                self._reroutes -= wanted

    def kick(self, server: str) -> None:
        """The server has been seen to work again: its mail goes now."""
        self._inquiry.returned(server)
        lane = self.lanes.get(server)
        if lane is not None:
            lane.kick()
            self._pump(lane)

    def _pump(self, lane: Lane) -> None:
        if self._stopping or not lane.has_ready or not self.usable(lane.server):
            return
        limit = self._limit(lane.server)
        now = asyncio.get_running_loop().time()
        while (job := lane.next(now, limit)) is not None:
            lane.active += 1
            self._spawn(self._work(lane, job))

    def _limit(self, server: str) -> int:
        backend = self._backend(server)
        return backend.server.max_deliveries if backend is not None else 10

    def _backend(self, server: str) -> Backend | None:
        try:
            return self._backends(server) if server else None
        except LookupError:
            return None

    # -- one job

    async def _work(self, lane: Lane, job: Job) -> None:
        entry = self.spool.entries.get(job.id)
        if entry is None or entry.held:
            self._over(lane, job, entry, None)
            return
        mine = self._claim(lane, job, entry)
        wait: Wait | None = AFTER_DEFECT  # unless it ends as it should
        try:
            waited = route.pending(self._view, entry, mine)
            ready = await self._await_ready(waited, mine) if waited else mine
            if not ready:
                wait = NOT_READY if mine else None
            elif job.doubt:
                wait = await self._look_up(lane, job, entry, ready)
            else:
                wait = await self._deliver(lane, job, entry, ready)
            if wait is None and ready != mine:
                wait = NOT_READY
        finally:
            self._in_flight.release(entry, mine)
            self._over(lane, job, entry, wait)

    async def _await_ready(self, waited: dict[int, str], mine: tuple[int, ...]) -> tuple[int, ...]:
        """Those of the targets whose server may be asked and given anything, once it may."""
        answers = dict(zip(waited, await asyncio.gather(*map(self._ready, waited.values())), strict=True))
        return tuple(index for index in mine if answers.get(index, True))

    def _claim(self, lane: Lane, job: Job, entry: Entry) -> tuple[int, ...]:
        """Targets of this lane that nobody else is busy with. What belongs elsewhere finds its lane afterwards."""
        return self._in_flight.claim(entry, [index for index, server, doubt in self.whereabouts(entry)
                                             if doubt == job.doubt and server == lane.server])

    def _over(self, lane: Lane, job: Job, entry: Entry | None, wait: Wait | None) -> None:
        lane.active -= 1
        if not self._stopping:
            if entry is None or entry.id not in self.spool.entries or wait is None:
                lane.forget(job)
            else:
                self._defer(lane, job, wait)
            if entry is not None and entry.id in self.spool.entries:
                self.enqueue(entry)
            elif entry is not None:
                self._inquiry.forget(entry)
            self._pump(lane)
        if entry is not None:
            self._tell(entry)

    def _defer(self, lane: Lane, job: Job, wait: Wait) -> None:
        until = asyncio.get_running_loop().time() + wait.seconds
        lane.defer(job, until, parked=wait.parked)
        self._timers.call_at(until, partial(self._due, lane, job, until))

    def _due(self, lane: Lane, job: Job, until: float) -> None:
        if lane.due(job, until):
            self._pump(lane)

    async def _deliver(self, lane: Lane, job: Job, entry: Entry, mine: tuple[int, ...]) -> Wait | None:
        backend = self._backend(lane.server)
        if backend is None:
            return await self._strand(lane, job, entry, mine)
        targets = entry.envelope.targets
        recipients = [(index, route.rcpt(self._view, backend.server, targets[index])) for index in mine]
        linked = route.epochs(self._view, entry, mine)
        outcomes = await attempt_delivery(
            self.spool, backend, entry, recipients, self._trace, self._crash, linked,
            partial(route.unchanged, self._view, entry, lane.server, linked, self._fence),
            partial(self._inquiry.there, backend, entry))
        trouble = is_trouble(outcomes.values())
        if trouble:
            self._pause(lane)
        else:
            lane.worked()
        await self._settler.settle(entry, outcomes)
        if all(entry.of(index).state is not State.AGAIN for index in mine):
            return None
        pauses = self._patience.server if trouble else self._patience.recipient
        return Wait(pauses.after(lane.tried(job), self._nonce.random()), parked=trouble)

    def _pause(self, lane: Lane) -> None:
        now = asyncio.get_running_loop().time()
        if lane.failed(now, self._nonce.random()):
            self._timers.call_at(lane.paused_until, partial(self._pump, lane))

    async def _strand(self, lane: Lane, job: Job, entry: Entry, mine: tuple[int, ...]) -> Wait:
        """No server to go to. An account that stays away is given up in the end, but not for an empty directory."""
        tries = lane.tried(job)
        outcome = Outcome(State.AGAIN, failure=UNKNOWN_SERVER)
        if lane.server == NOWHERE:
            outcome = Outcome(State.AGAIN, failure=NO_ACCOUNT)
            if tries >= MISSING_TRIES and self._view.servers():
                outcome = Outcome(State.FAILED, failure=GONE)
        await self._settler.settle(entry, dict.fromkeys(mine, outcome))
        return Wait(self._patience.recipient.after(tries, self._nonce.random()), parked=False)

    async def _look_up(self, lane: Lane, job: Job, entry: Entry, mine: tuple[int, ...]) -> Wait | None:
        backend = self._backend(lane.server)
        answers = await self._inquiry.ask(backend, entry, mine) if backend else dict.fromkeys(mine, Answer.LATER)
        settled = {index: outcome for index, answer in answers.items() if (outcome := outcome_of(answer, lane.server))}
        if settled:
            await self._settler.settle(entry, settled, route.found_epochs(self._view, entry, lane.server, settled))
            self._hold_off(entry, [index for index in settled if entry.of(index).state is State.AGAIN])
        open_still = set(answers.values()) & {Answer.LATER, Answer.ASK_AGAIN}
        if not open_still:
            return None
        grown = self._patience.doubt.after(lane.tried(job), self._nonce.random())
        if Answer.LATER in open_still or backend is None:
            return Wait(grown, parked=True)
        return Wait(look_again_in(backend.server, grown), parked=False)

    def _hold_off(self, entry: Entry, indexes: list[int]) -> None:
        """A first lost answer is bad luck, and the message goes again at once. What loses them again and again waits
        longer each time, whatever else gets through: where nobody can be asked, each try may be one copy more.
        """
        for index, server, _ in self.whereabouts(entry):
            lost = entry.of(index).attempts - 1
            if lost > 0 and index in indexes:
                wait = Wait(self._patience.recipient.after(lost, self._nonce.random()), parked=False)
                self._defer(self.lane(server), Job(entry.id, doubt=False), wait)

    # -- now and then

    def _look(self) -> None:
        for lane in list(self.lanes.values()):
            self._pump(lane)
        self._timers.call_in(LOOK_EVERY, self._look)

    def _sweep_soon(self) -> None:
        self._spawn(self._sweep())
        self._timers.call_in(SWEEP_EVERY, self._sweep_soon)

    async def _sweep(self) -> None:
        """Whatever its lanes do: a message whose time has run out is given up, a late one reported."""
        for number, entry in enumerate(list(self.spool.entries.values())):
            now = self._clock.time()
            if entry.held or entry.id not in self.spool.entries:
                continue
            if retry.expired(entry.received, now, self._patience):
                idle = self._in_flight.claim(entry, entry.indexes(State.AGAIN, State.IN_DOUBT))
                try:
                    await self._settler.overdue(entry, idle)
                finally:
                    self._in_flight.release(entry, idle)
                self._tell(entry)
            elif retry.late(entry.received, now, self._patience) and not entry.warned:
                await self._settler.warn(entry)
            self.enqueue(entry)
            if number % 200 == 199:
                await asyncio.sleep(0)

    # -- who waits for a message

    async def wait_level(self, id: str, timeout: float, copied: Collection[str] = ()) -> Level:
        """How far all targets of the message have got, as soon as that is the replicas of `copied`, or no more is to be
        expected soon, or after `timeout` seconds. To be called right after `Draft.commit`, before anything else is
        awaited.
        """
        entry = self.spool.entries.get(id)
        if entry is None or not all(self.usable(lane.server) for lane, _ in self.jobs(entry)):
            return Level.SPOOL
        return await self._waiters.wait(id, timeout, copied)

    def _tell(self, entry: Entry) -> None:
        self._waiters.tell(entry, busy=entry.id in self._in_flight)
