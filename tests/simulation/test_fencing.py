"""Several edges with leases and one promotion, in virtual time: whatever is slow, stopped, cut off or killed, nobody
forwards to the old primary once the new one may be used, and that is never waited for longer than a lease or two.

The parts are the real ones: Fencing of the keepers, EdgeFence of the workers, the book; the database is a model with a
clock of its own.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace

from onedomain.app.fencing import ANSWER_SECONDS, Fencing
from onedomain.control.link import LinkError
from onedomain.decision.link.succession import may_promote
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.directory.leases import EdgeLease, Grant
from onedomain.directory.promotions import swapped
from onedomain.edge.fence import EdgeFence
from onedomain.model.account import Account, Home
from tests.health.virtual import run

from .seeds import seeds

LEASE = 3.0
BEFORE = Account("a@example.com", "u", Home("s1", ("s2",), 1))
AFTER = replace(BEFORE, home=swapped(BEFORE.home, "s2"))


class Quiet:
    def note(self, event: str, **fields: object) -> None:
        pass


@dataclass
class SkewedClock:
    skew: float

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.skew

    def time(self) -> float:
        return self.monotonic()


@dataclass
class Ledger:
    """The database: a clock, and a row per edge."""

    dice: random.Random
    clock: SkewedClock
    seq: int = 1
    barrier: int = 0
    until: dict[str, float] = field(default_factory=dict)
    acked: dict[str, int] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    account: Account = BEFORE
    calm: bool = False

    def changes(self, book: Book) -> Delta | None:
        return Delta(self.seq, accounts=(self.account,)) if book.seq < self.seq else None

    def edges(self) -> list[EdgeLease]:
        now = self.clock.monotonic()
        return [EdgeLease(edge, until - now, self.acked[edge]) for edge, until in self.until.items()]

    def granter(self, edge: str) -> Ledger._Granter:
        return self._Granter(self, edge)

    @dataclass
    class _Granter:
        of: Ledger
        edge: str

        async def renew_edge(self, edge: str, seq: int, seconds: float) -> Grant:
            """The answer may be long on its way, or never come, whether or not it was written."""
            of = self.of
            slow = not of.calm and of.dice.random() < 0.1
            await asyncio.sleep(of.dice.uniform(0, 5 if slow else 0.05))
            if edge in of.away:
                raise OSError("cut off")
            of.acked[edge] = seq
            granted = of.barrier <= seq
            if granted:
                of.until[edge] = of.clock.monotonic() + seconds
            if not of.calm and of.dice.random() < 0.1:
                await asyncio.sleep(of.dice.uniform(0, 4))
                if of.dice.random() < 0.5:
                    raise OSError("answer lost")
            return Grant(granted, of.seq, of.barrier)


class Worker:
    """A process that may be stopped: then it neither hears nor answers, and knows what it knew."""

    def __init__(self, clock: SkewedClock, dice: random.Random) -> None:
        self.book = Book([], [], [])
        self.fence = EdgeFence(self.book, clock, LEASE)
        self.dice = dice
        self.running = asyncio.Event()
        self.running.set()
        self.heard: asyncio.Queue[Delta] = asyncio.Queue()
        self.listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            delta = await self.heard.get()
            await self.running.wait()
            await asyncio.sleep(self.dice.uniform(0, 0.02))
            self.book.apply(delta)
            self.heard.task_done()

    async def tell(self, asked: float) -> int:
        """In order after the deltas that were sent before, as on a link; the answer may be lost."""
        answering = asyncio.ensure_future(self._answer(asked))
        await asyncio.wait((answering, self.listening), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            answering.cancel()
            raise LinkError("killed")
        return answering.result()

    async def _answer(self, asked: float) -> int:
        await self.heard.join()
        await self.running.wait()
        self.fence.granted(asked)
        seq = self.book.seq
        await asyncio.sleep(self.dice.uniform(0, 0.02))
        if self.dice.random() < 0.02:
            raise LinkError("gone")
        return seq


class Edge:
    def __init__(self, name: str, ledger: Ledger, dice: random.Random) -> None:
        self.name, self.ledger, self.dice = name, ledger, dice
        self.clock = SkewedClock(dice.uniform(-1000, 1000))
        self.workers = {slot: self.worker() for slot in range(2)}
        self.start_keeper()

    def worker(self) -> Worker:
        made = Worker(self.clock, self.dice)
        made.book.apply(Delta(self.ledger.seq, accounts=(self.ledger.account,)))
        return made

    def start_keeper(self) -> None:
        self.book = Book([], [], [])
        self.told = dict.fromkeys(self.workers, 0)
        self.fencing = Fencing(self.name, self.ledger.granter(self.name), lambda: {
            slot: worker.tell for slot, worker in self.workers.items()}, 2, LEASE, clock=self.clock, trace=Quiet())
        self.tasks = [asyncio.create_task(self.fencing.run()), asyncio.create_task(self._feed())]

    async def _feed(self) -> None:
        while True:
            await asyncio.sleep(self.dice.uniform(0, 0.2))
            if self.name not in self.ledger.away and (delta := self.ledger.changes(self.book)):
                self.book.apply(delta)
                for worker in self.workers.values():
                    worker.heard.put_nowait(delta)
                self.fencing.changed()

    def accident(self) -> None:
        what = self.dice.random()
        slot = self.dice.randrange(2)
        if what < 0.3:
            worker = self.workers[slot]
            (worker.running.clear if worker.running.is_set() else worker.running.set)()
        elif what < 0.5:
            (self.ledger.away.discard if self.name in self.ledger.away else self.ledger.away.add)(self.name)
        elif what < 0.7:
            self.workers[slot].listening.cancel()
            self.workers[slot] = self.worker()
        else:
            for task in self.tasks:
                task.cancel()
            self.start_keeper()

    def forwards(self, account: Account) -> bool:
        return any(worker.running.is_set() and worker.fence.may_forward(account) for worker in self.workers.values())

    def calm(self) -> None:
        self.ledger.away.discard(self.name)
        for worker in self.workers.values():
            worker.running.set()


async def story(seed: int) -> tuple[float, bool]:
    """-> (seconds from the commit to the promotion, whether anybody forwarded before)."""
    dice = random.Random(seed)
    ledger = Ledger(dice, SkewedClock(dice.uniform(-1000, 1000)))
    edges = [Edge(name, ledger, dice) for name in "abc"[: dice.choice((2, 3))]]
    loop = asyncio.get_running_loop()
    accidents = dice.choice((0.0, 0.05, 0.2))
    forwarded = False
    commit_at, committed, promoted = loop.time() + dice.uniform(2, 12), 0.0, 0.0
    while not promoted or loop.time() < promoted + 2 * LEASE:
        await asyncio.sleep(dice.uniform(0, 0.1))
        for edge in edges:
            if dice.random() < accidents * 0.3:
                edge.accident()
        if not committed and loop.time() >= commit_at:
            committed, ledger.account, ledger.seq = loop.time(), AFTER, 2
            ledger.barrier = 2
        if not committed:
            forwarded |= any(edge.forwards(BEFORE) for edge in edges)
        elif not promoted:
            leases = ledger.edges()
            acknowledged = {lease.edge for lease in leases if lease.seq >= 2}
            if may_promote({lease.edge: lease.left - LEASE for lease in leases}, acknowledged, 0.0, LEASE):
                promoted = loop.time()
        if promoted:
            assert not any(edge.forwards(BEFORE) for edge in edges), f"seed {seed}: a fenced primary was written to"
    ledger.calm = True
    for edge in edges:
        edge.calm()
    await asyncio.sleep(LEASE + 2 * ANSWER_SECONDS + 10)
    assert all(worker.fence.may_forward(AFTER) for edge in edges for worker in edge.workers.values()), seed
    return promoted - committed, forwarded


def test_08_no_edge_forwards_to_the_old_primary_once_the_new_one_may_be_used() -> None:
    forwarding = 0
    for seed in seeds(60):
        waited, forwarded = run(story(seed))
        assert waited <= LEASE + 5.5, f"seed {seed}: waited {waited:.1f} s"
        forwarding += forwarded
    assert forwarding


def test_calm_edges_are_not_waited_for() -> None:
    async def calm() -> float:
        dice = random.Random(1)
        dice.random = lambda: 0.5  # type: ignore[method-assign]
        ledger = Ledger(dice, SkewedClock(0))
        edges = [Edge(name, ledger, dice) for name in "ab"]
        await asyncio.sleep(10)
        assert all(edge.forwards(BEFORE) for edge in edges)
        ledger.account, ledger.seq, ledger.barrier = AFTER, 2, 2
        begun = asyncio.get_running_loop().time()
        while not all(ledger.acked[edge.name] >= 2 for edge in edges):
            await asyncio.sleep(0.01)
        return asyncio.get_running_loop().time() - begun

    assert run(calm()) < 0.5


def test_a_stopped_worker_is_waited_for_until_its_lease_has_run_out_and_no_longer() -> None:
    async def stopped() -> tuple[float, bool]:
        dice = random.Random(1)
        ledger = Ledger(dice, SkewedClock(0), calm=True)
        edge = Edge("a", ledger, dice)
        await asyncio.sleep(10)
        edge.workers[0].running.clear()
        ledger.account, ledger.seq, ledger.barrier = AFTER, 2, 2
        begun = asyncio.get_running_loop().time()
        while ledger.acked["a"] < 2 and ledger.edges()[0].left > 0:
            await asyncio.sleep(0.01)
        edge.workers[0].running.set()
        return asyncio.get_running_loop().time() - begun, edge.forwards(BEFORE)

    waited, forwards = run(stopped())
    assert LEASE - 1 < waited < LEASE + 1 and not forwards
