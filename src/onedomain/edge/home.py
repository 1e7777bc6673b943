"""Going to an account's home and in, for mailbox sessions: the way from an admission to a stream that is logged in.

Knows the board, the epoch and patience. Does not know how a server is spoken to (backend) nor what the client speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from onedomain.backend.base import Backend, ClientInfo, Session
from onedomain.edge.login import Admission
from onedomain.edge.relays import may_stay
from onedomain.model.account import Account, DirectoryView
from onedomain.model.failure import Failed, Failure, again
from onedomain.model.health import BoardView

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds for a whole log-in at a home that is said to be up."""

LOOK_AGAIN = 0.2
"""Seconds after which the board is asked again while a home keeps silent."""


@dataclass(frozen=True, slots=True)
class Homes:
    directory: DirectoryView
    board: BoardView
    backend: Callable[[str], Backend]

    async def enter(self, admission: Admission, client: ClientInfo) -> Session:
        """A session at the account's primary. Raises Failed: REFUSE if the home says the password is wrong, else AGAIN.

        A home that the board calls down is not even dialled; one that goes down meanwhile is waited for no longer.
        """
        account = admission.account
        backend = self._backend(account)
        password = admission.password_for(backend.server)
        session = await self._while_up(backend.log_in(account, password, client), account)
        if not may_stay(account, self.directory.account(account.address)):
            session.stream.close()
            raise Failed(unavailable(f"the home of {account.address} changed during the log-in"))
        return session

    def _backend(self, account: Account) -> Backend:
        name = account.home.primary
        if self.directory.server(name) is None:
            raise Failed(unavailable(f"{account.address} lives on {name!r}, which is no server of ours"))
        self._check(name)
        return self.backend(name)

    async def _while_up(self, work: Coroutine[Any, Any, T], account: Account) -> T:
        name = account.home.primary
        task = asyncio.ensure_future(work)
        try:
            async with asyncio.timeout(PATIENCE):
                while not (await asyncio.wait((task,), timeout=LOOK_AGAIN))[0]:
                    self._check(name)
            return task.result()
        except TimeoutError:
            _abandon(task)
            raise Failed(unavailable(f"log-in at {name} took more than {PATIENCE:.0f} s")) from None
        except BaseException:
            _abandon(task)
            raise

    def _check(self, name: str) -> None:
        verdict = self.board.verdict(name)
        if not verdict.usable:
            raise Failed(unavailable(f"server {name} is {verdict.value}"))


def unavailable(reason: str) -> Failure:
    return again(454, "4.7.0", "Your mail server is not available now, please try again later.", reason)


def _abandon(task: asyncio.Future[Any]) -> None:
    task.cancel()
    task.add_done_callback(_close)


def _close(task: asyncio.Future[Any]) -> None:
    """A session may have been ready at the very moment when nobody wanted it any more."""
    if not task.cancelled() and task.exception() is None and isinstance(task.result(), Session):
        task.result().stream.close()
