"""A world in which servers die for good, for a while, or just seem to: links, promotions and returns, in virtual time.

What the link, the planner and the directory do is done here in one step each; it is simulated elsewhere. The world goes
on while our process is dead.
"""

from __future__ import annotations

import asyncio
import email
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from onedomain.backend.link.base import Letter
from onedomain.decision.link.actions import Copied
from onedomain.decision.net import TRY_SECONDS
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed
from onedomain.model.message import DELIVERY_ID_HEADER
from onedomain.model.replica import Identity
from tests.queue.simulation import DOWN, LOST, SimServer, SimView

STEP = 0.2
LAG = 0.96  # chance that a link does not get round to an account in a step


class SimEnd:
    """One account at one server, as a link's end. Faults as those of SimServer.deliver."""

    def __init__(self, world: SimServer, account: Account) -> None:
        self._world = world
        self._account = account

    async def find(self, deliveries: Collection[str]) -> frozenset[str]:
        world = self._world
        await asyncio.sleep(0.02)
        world.catch_up(asyncio.get_running_loop().time())
        if not world.up or world.happens("can't find"):
            raise Failed(DOWN)
        return frozenset(one for one in deliveries if world.boxes[self._account.address, one])

    async def append(self, folder: str, letters: Sequence[Letter]) -> tuple[Copied, ...]:
        world, loop = self._world, asyncio.get_running_loop()
        for letter in letters:
            id = email.message_from_bytes(letter.raw)[DELIVERY_ID_HEADER]
            await asyncio.sleep(0.01 + world.chance.random() * 0.05)
            if not world.up:
                raise Failed(DOWN)
            if world.happens("lost before"):
                raise Failed(LOST)
            if world.happens("filed late"):
                world.store_late(loop.time() + world.chance.random() * 2.5, self._account.address, id)
                raise Failed(LOST)
            world.unfiltered(self._account.address, id)
            world.appended += 1
            await asyncio.sleep(world.chance.random() * 0.02)
            if world.happens("lost after"):
                raise Failed(LOST)
        return tuple(Copied(0, Identity("")) for _ in letters)

    async def close(self, *, broken: bool = False) -> None:
        pass


class SimEnds:
    def __init__(self, servers: dict[str, SimServer]) -> None:
        self._servers = servers

    async def end(self, account: Account) -> SimEnd:
        await asyncio.sleep(0.01)
        if not self._servers[account.home.primary].up:
            raise Failed(DOWN)
        return SimEnd(self._servers[account.home.primary], account)


class Fortune:
    """Kills servers, promotes replicas, brings old primaries back, and runs the links in between.

    `changed` is called with each account whose home has changed; `released` with what a link has seen on its replica.
    """

    def __init__(self, servers: dict[str, SimServer], view: SimView, linked: Collection[str]) -> None:
        self.servers = servers
        self.view = view
        self.linked = list(linked)
        self.changed: Callable[[str], None] = lambda account: None
        self.released: Callable[[str, list[str], int], None] = lambda account, ids, epoch: None
        self.clear: Callable[[str], bool] = lambda account: True
        self.promotions = 0
        self.dies = True
        self.chance = next(iter(servers.values())).chance
        self._returns: dict[str, float] = {}      # of servers that are down
        self._promoted: dict[str, float] = {}     # accounts whose gap is made then
        self.unreconciled: set[str] = set()       # accounts whose replica is an old primary, as it was
        self.wiped: set[str] = set()              # of those, whose replica has nothing any more
        self.even: set[str] = set()               # brought back, and no pass since
        self.early = 0                            # promotions of those
        self.bringing: dict[str, tuple[float, set[str], Home]] = {}  # when, what the new one had not, and its home then
        self._tried: dict[str, float] = {}        # accounts of which nothing is brought until then
        self._next: dict[str, float] = {}
        self._suspected: dict[str, float] = {}

    async def may_try(self, account: str) -> bool:
        """As replica/returning.py has it."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(0.01)
        if account in self.bringing or now < self._next.get(account, now):
            return False
        self._tried[account] = now + TRY_SECONDS
        return True

    async def run(self) -> None:
        while True:
            await asyncio.sleep(STEP)
            self.step(asyncio.get_running_loop().time())

    def step(self, now: float) -> None:
        for server in self.servers.values():
            server.catch_up(now)
        even = sorted({self.view.home(account).primary for account in self.even})
        if self.dies and not self._returns and self.chance.random() < (0.4 if even else 0.02):
            name = self.chance.choice(even or sorted(self.servers))
            self.servers[name].up = False
            self._returns[name] = now + 1 + self.chance.random() * 15
            self._suspected[name] = now + 0.5 + self.chance.random() * 2
        for name, when in list(self._suspected.items()):
            if now >= when:
                del self._suspected[name]
                if not self.servers[name].up:
                    self._promote_all(name, now)
        for name, when in list(self._returns.items()):
            if now >= when:
                del self._returns[name]
                self.servers[name].up = True
                if self.chance.random() < 0.5:
                    self._wipe(name)
        for account, when in list(self._promoted.items()):
            if now >= when:
                del self._promoted[account]
                self._set(account, replace(self.view.home(account), pending=False))
        for account in self.linked:
            if account in self.bringing:
                self._bring(account, now)
            else:
                self._link(account, now)

    def _promote_all(self, dead: str, now: float) -> None:
        """Accounts without a replica wait, and those whose last failover is not over."""
        for account in self.linked:
            home = self.view.home(account)
            if home.primary != dead or account in self.unreconciled or home.pending:
                continue
            if self.servers[home.replicas[0]].up:
                self.promotions += 1
                self.early += account in self.even
                self.even.discard(account)
                self.unreconciled.add(account)
                self._promoted[account] = now + self.chance.random() * 2
                self._set(account, Home(home.replicas[0], (dead,), home.epoch + 1, pending=True))

    def _wipe(self, name: str) -> None:
        """It returns with an empty disk, as far as others have been promoted in its place."""
        for account in self.linked:
            if self.view.home(account).primary != name:
                self.unreconciled.add(account)
                self.wiped.add(account)
                for id in ids_of(self.servers[name], account):
                    del self.servers[name].boxes[account, id]

    def _set(self, account: str, home: Home) -> None:
        self.view.homes[account] = home
        self.changed(account)

    def _bring(self, account: str, now: float) -> None:
        """What was looked for is appended some time later; or it was cut off."""
        when, ids, then = self.bringing[account]
        home = self.view.home(account)
        primary, replica = self.servers[home.primary], self.servers[home.replicas[0]]
        if home != then or not (primary.up and replica.up):
            del self.bringing[account]
        elif now >= when:
            del self.bringing[account]
            for id in ids & ids_of(replica, account):
                primary.store(account, id)
            self.unreconciled.discard(account)
            if account not in self.wiped and self.chance.random() < 0.8:
                self.even.add(account)  # it may follow again before a pass has carried what came meanwhile
            else:
                self._pass(account)

    def _link(self, account: str, now: float) -> None:
        home = self.view.home(account)
        primary, replica = self.servers[home.primary], self.servers[home.replicas[0]]
        if home.pending or not (primary.up and replica.up) or self.chance.random() < LAG:
            return
        if account in self.unreconciled:
            if not self.clear(account):
                return
            if now < (until := self._tried.get(account, now)):
                self._next[account] = until + 1
                return
            # An old primary has returned: what only it has is added to the new one.
            missing = ids_of(replica, account) - ids_of(primary, account)
            self.bringing[account] = now + self.chance.random() * 0.5, missing, home
            return
        self._pass(account)

    def _pass(self, account: str) -> None:
        home = self.view.home(account)
        primary, replica = self.servers[home.primary], self.servers[home.replicas[0]]
        self.wiped.discard(account)
        self.even.discard(account)
        for id in ids_of(replica, account) - ids_of(primary, account):
            del replica.boxes[account, id]
        new = ids_of(primary, account) - ids_of(replica, account)
        for id in new:
            replica.store(account, id)
        self.released(account, sorted(ids_of(primary, account)), home.epoch)

    def copies(self) -> Counter[tuple[str, str]]:
        """What people see."""
        found: Counter[tuple[str, str]] = Counter()
        for key in self.view.homes:
            for (mailbox, id), count in self.servers[self.view.home(key).primary].boxes.items():
                if mailbox == key:
                    found[mailbox, id] += count
        return found


def ids_of(server: SimServer, account: str) -> set[str]:
    return {id for (mailbox, id), count in server.boxes.items() if mailbox == account and count}
