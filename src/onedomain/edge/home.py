"""Going to an account's home and in, for mailbox sessions: the way from an admission to a stream that is logged in.

Knows the board, the epoch and patience. Does not know how a server is spoken to (backend) nor what the client speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Protocol, TypeVar

from onedomain.backend.base import Backend, Begun, ClientInfo, Session
from onedomain.edge.login import Admission
from onedomain.edge.relays import may_stay
from onedomain.model.account import Account, DirectoryView
from onedomain.model.failure import Failed, Failure, again
from onedomain.model.health import BoardView
from onedomain.model.ports import Gate

T = TypeVar("T")
Ready = Callable[[str, float], Awaitable[bool]]
"""Asks that an account's promotion be carried out now, and waits; False after so many seconds, or if it can't be."""

PATIENCE = 10.0
"""Seconds for a whole log-in at a home that is said to be up."""

LOOK_AGAIN = 0.2
"""Seconds after which the board is asked again while a home keeps silent."""


HOME_AGAIN = 0.05
"""Seconds after which the directory is asked again while a replica is about to take over."""


class AlwaysOpen:
    """A Gate for where nothing is promoted."""

    def may_write(self, account: Account) -> bool:
        return not account.home.pending


ALWAYS_OPEN = AlwaysOpen()


class Waiting(Protocol):
    """Who waits for a home without a task."""

    def board_changed(self) -> None:
        """The home may be down by now; `enter` would tell."""
        ...


@dataclass(frozen=True, slots=True)
class Homes:
    """`succession`: seconds that a log-in waits for a replica to take the place of a home that is down."""

    directory: DirectoryView
    board: BoardView
    backend: Callable[[str], Backend]
    gate: Gate = ALWAYS_OPEN
    ready: Ready | None = None
    succession: float = 0.0
    waiting: set[Waiting] = field(default_factory=set)

    def board_changed(self) -> None:
        for each in tuple(self.waiting):
            try:
                each.board_changed()
            except Exception as error:  # noqa: BLE001  one's bug must not keep the news from the others
                context = {"message": "told of the board", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    async def settled(self, admission: Admission) -> Admission:
        """The same with the home that the account has once it may be used; waits where that is to be expected soon.

        Raises Failed, of kind AGAIN.
        """
        account = admission.account
        if not account.home.replicas:
            return admission
        loop = asyncio.get_running_loop()
        until = loop.time() + (PATIENCE if account.home.pending else self.succession)
        while True:
            now = self.directory.account(account.address)
            if now is None or not now.enabled or now.mailbox_name != account.mailbox_name:
                raise Failed(unavailable(f"{account.address} changed during the log-in"))
            left = until - loop.time()
            if now.home.pending:
                if self.ready is not None and left > 0 and not await self.ready(now.address, left):
                    raise Failed(unavailable(f"the promotion of {now.home.primary} for {now.address} is not done yet"))
            elif not self.gate.may_write(now):
                raise Failed(unavailable("this edge has no lease: it does not know whether its directory is true"))
            elif self.board.verdict(now.home.primary).usable or left <= 0:
                return replace(admission, account=now)
            if left <= 0:
                raise Failed(unavailable(f"the promotion of {now.home.primary} for {now.address} is not done yet"))
            await asyncio.sleep(HOME_AGAIN)

    def at_once(self, account: Account) -> Backend | None:
        """The account's home where it may be used now, and nothing has to be waited for."""
        primary = account.home.primary
        usable = (
            self.gate.may_write(account)
            and self.board.verdict(primary).usable
            and self.directory.server(primary) is not None
        )
        return self.backend(primary) if usable else None

    def still(self, account: Account) -> bool:
        """After a log-in that began `at_once`: that all is as it was."""
        return self.directory.account(account.address) is account and self.gate.may_write(account)

    async def enter(self, admission: Admission, client: ClientInfo, begun: Begun | None = None) -> Session:
        """A session at the account's primary. Raises Failed: REFUSE if the home says the password is wrong, else AGAIN.

        A home that the board calls down is not even dialled; one that goes down meanwhile is waited for no longer.
        `begun` is a log-in that began `at_once`: it goes on where it is only if that is the account's home still.
        """
        account = admission.account
        if begun is not None and not may_stay(begun.account, account):
            begun.close()
            begun = None
        try:
            backend = self._backend(account)
        except Failed:
            if begun is not None:
                begun.close()
            raise
        password = admission.password_for(backend.server)
        work = backend.log_in(account, password, client) if begun is None else begun.finish(account, password)
        session = await self._while_up(work, account)
        now = self.directory.account(account.address)
        if now is None or not may_stay(account, now):
            session.stream.close()
            raise Failed(unavailable(f"the home of {account.address} changed during the log-in"))
        if not self.gate.may_write(now):
            session.stream.close()
            raise Failed(unavailable("this edge lost its lease during the log-in"))
        return session

    def _backend(self, account: Account) -> Backend:
        name = account.home.primary
        if self.directory.server(name) is None:
            raise Failed(unavailable(f"{account.address} lives on {name!r}, which is no server of ours"))
        self._check(name)
        return self.backend(name)

    async def _while_up(self, work: Awaitable[T], account: Account) -> T:
        with _Patience(self, account.home.primary):
            return await work

    def _check(self, name: str) -> None:
        if failure := self.down(name):
            raise Failed(failure)

    def down(self, name: str) -> Failure | None:
        verdict = self.board.verdict(name)
        return None if verdict.usable else unavailable(f"server {name} is {verdict.value}")


def unavailable(reason: str) -> Failure:
    return again(454, "4.7.0", "Your mail server is not available now, please try again later.", reason)


class _Patience:
    """What is awaited within is cancelled once the home is down, or after PATIENCE, and Failed raised instead.

    As asyncio.timeout does it, but that somebody looks at the board meanwhile: no second task for each log-in.
    """

    __slots__ = ("_cancelled", "_failure", "_homes", "_loop", "_name", "_task", "_timer", "_until")

    def __init__(self, homes: Homes, name: str) -> None:
        self._homes = homes
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + PATIENCE
        self._failure: Failure | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelled = task.cancelling()
        self._timer = self._loop.call_later(min(LOOK_AGAIN, PATIENCE), self._look)

    def _look(self) -> None:
        left = self._until - self._loop.time()
        self._failure = self._homes.down(self._name)
        if self._failure is None and left <= 0:
            self._failure = unavailable(f"log-in at {self._name} took more than {PATIENCE:.0f} s")
        if self._failure is None:
            self._timer = self._loop.call_later(min(LOOK_AGAIN, left), self._look)
        else:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._timer.cancel()
        # Unless somebody else has cancelled it, too.
        if self._failure is not None and self._task.uncancel() <= self._cancelled and kind is asyncio.CancelledError:
            raise Failed(self._failure) from None
