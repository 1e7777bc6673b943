"""Ports nobody listens at."""

from __future__ import annotations

from onedomain.backend.link.base import LinkEnd
from onedomain.model.account import Account
from onedomain.model.failure import Failed, again


class NoChanges:
    def changed(self, account: str, what: str, folder: str = "", deliveries: tuple[str, ...] = ()) -> int:
        return 0

    async def covered(self, account: str, ticket: int, seconds: float) -> bool:
        return True


class NoLinks:
    def trouble(self, account: str) -> str:
        return "no links run here"


class NoEnds:
    async def end(self, account: Account) -> LinkEnd:
        raise Failed(again(451, "4.3.5", "No way to the account's server", "no links run here"))


class NoCount:
    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        pass

    def set(self, name: str, value: float, **labels: str) -> None:
        pass
