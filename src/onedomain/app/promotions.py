"""What the failover needs of its process: the database under the linker's lease, all edges' eyes, how copies stand.

Knows which part of the process answers which question. Does not know what follows from the answers (replica/failover).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from onedomain.app.line import Line
from onedomain.app.standing import Standing
from onedomain.control.link import LinkError
from onedomain.decision.move import Progress
from onedomain.directory.leases import EdgeLease, Leases
from onedomain.directory.links import SavedLink
from onedomain.directory.moves import Moves
from onedomain.directory.promotions import Choose, Promoted, Promotions, Settled
from onedomain.directory.repository import Repository
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failed, again
from onedomain.model.health import Verdict
from onedomain.model.move import Move, Report, Stage
from onedomain.model.ports import Clock
from onedomain.model.replica import LinkState
from onedomain.replica.failover import Failover
from onedomain.replica.links import Links
from onedomain.replica.world import Copy, Sight
from onedomain.store.sql import AWAY, Database, DatabaseError

T = TypeVar("T")
OBSERVE_SECONDS = 3.0
APPLIED_SECONDS = 3.0
LOST = again(451, "4.3.0", "the links do not run here any more", "the lease is lost")
NOT_OURS = again(451, "4.3.0", "not to be carried out here", "the promotion was taken back, or the lease is lost")


async def answered(database: Standing, question: Callable[[Database], Awaitable[T]]) -> T:
    """Raises Failed where the database is away."""
    try:
        return await database.ask(question)
    except (DatabaseError, *AWAY) as error:
        raise Failed(again(451, "4.3.0", "the database is away", str(error).split("\n")[0])) from error


class PromotionStore:
    """A replica.failover.Store. `token` is the lease's, 0 where it is lost."""

    def __init__(self, database: Standing, clock: Clock, token: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._token = token

    async def _ask(self, question: Callable[[Promotions], Awaitable[T]]) -> T:
        return await answered(self._database, lambda database: question(Promotions(database, self._clock)))

    def _held(self) -> int:
        token = self._token()
        if not token:
            raise Failed(LOST)
        return token

    async def promote_server(self, dead: str, choose: Choose, cause: str) -> tuple[list[Promoted], int]:
        token = self._held()
        return await self._ask(lambda store: store.promote_server(dead, choose, cause, token))

    async def promote_accounts(
        self, addresses: Collection[str], choose: Choose, cause: str
    ) -> tuple[list[Promoted], int]:
        token = self._held()
        return await self._ask(lambda store: store.promote_accounts(addresses, choose, cause, token))

    async def take_back(self, olds: Mapping[str, str], cause: str) -> list[Promoted]:
        token = self._held()
        return await self._ask(lambda store: store.take_back(olds, cause, token))

    async def save_state(self, account: str, epoch: int, state: LinkState) -> None:
        token = self._held()
        if not await self._ask(lambda store: store.save_state(account, epoch, state, token)):
            raise Failed(NOT_OURS)

    async def settle(self, settled: Sequence[Settled]) -> frozenset[str]:
        token = self._held()
        return await self._ask(lambda store: store.settle(settled, token))

    async def returned(
        self, account: str, epoch: int, link: SavedLink | None, added: int = 0, aside: int = 0
    ) -> bool:
        token = self._held()
        return await self._ask(lambda store: store.returned(account, epoch, link, token, added, aside))

    async def left(self, account: str, server: str) -> LinkState | None:
        return await self._ask(lambda store: store.left(account, server))

    async def details(self, account: str, epoch: int) -> Promoted | None:
        return await self._ask(lambda store: store.details(account, epoch))

    async def pending(self) -> list[Promoted]:
        return await self._ask(lambda store: store.pending())

    async def unreturned(self) -> list[Promoted]:
        return await self._ask(lambda store: store.unreturned())

    async def recent(self, since: float) -> list[Promoted]:
        return await self._ask(lambda store: store.recent(since))

    async def edges(self) -> Sequence[EdgeLease]:
        return await answered(self._database, lambda database: Leases(database).edges())

    async def last(self) -> int:
        async def ask(database: Database) -> int:
            return (await Repository(database, self._clock).version()).seq

        return await answered(self._database, ask)


class Eyes:
    """What this edge's keeper knows: how servers are seen by all edges, and what its workers go by."""

    def __init__(self, line: Line, name: str) -> None:
        self._line = line
        self._name = name

    async def observe(self, server: str) -> Sight:
        """Raises Failed where there is no keeper."""
        try:
            answer = await self._line.call("observe_all", timeout=OBSERVE_SECONDS, server=server)
        except LinkError as error:
            raise Failed(again(451, "4.3.0", "nobody sees the servers", str(error))) from error
        seen = {edge: Verdict(verdict) for edge, verdict in answer["seen"].items()}
        return Sight(frozenset(answer["live"]), seen, frozenset(answer["told"]))

    async def applied(self, seq: int) -> bool:
        try:
            return bool(await self._line.call("applied", timeout=APPLIED_SECONDS, seq=seq))
        except LinkError:
            return False


def copy_of(links: Links, account: str) -> Copy | None:
    linked = links.linked(account)
    if linked is None:
        return None
    held = Counter(links.held(account).values())
    return Copy(linked.was_whole, linked.since, held, linked.even, linked.brought)


class Road:
    """A replica.mover.Road."""

    def __init__(
        self,
        database: Standing,
        clock: Clock,
        failover: Callable[[], Failover],
        account: Callable[[str], Account | None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._failover = failover
        self._account = account

    async def open(self) -> Sequence[Move]:
        return await answered(self._database, lambda database: Moves(database, self._clock).open())

    async def stand(self, move: Move, stage: Stage, why: str) -> Move:
        return await answered(self._database, lambda database: Moves(database, self._clock).stand(move, stage, why))

    async def change_replicas(self, account: str, home: Home, replicas: tuple[str, ...]) -> None:
        async def change(database: Database) -> None:
            async with Repository(database, self._clock).writing() as writer:
                now = await writer.account(account)
                if now is not None and now.home == home:
                    await writer.set_account(replace(now, home=replace(home, replicas=replicas)))

        await answered(self._database, change)

    async def keep_report(self, move: Move, report: Report) -> None:
        await answered(self._database, lambda database: Moves(database, self._clock).keep_report(move, report))

    async def switch(self, move: Move) -> bool:
        account = self._account(move.account)
        if account is None or account.home.primary != move.source:
            return False
        (asked,) = await self._failover().promote([account], move.target, cause=move.cause)
        return not asked.reason


def progress(links: Links, account: str) -> Progress | None:
    linked = links.linked(account)
    if linked is None:
        return None
    whole = linked.was_whole and not linked.behind
    large = f"{linked.large} messages are larger than links carry" if linked.large else ""
    return Progress(whole, links.trouble(linked) or large, linked.to_go() or linked.uncovered)
