"""Ports nobody listens at."""

from __future__ import annotations


class NoChanges:
    def changed(self, account: str, what: str, folder: str = "", deliveries: tuple[str, ...] = ()) -> int:
        return 0

    async def covered(self, account: str, ticket: int, seconds: float) -> bool:
        return True


class NoLinks:
    def trouble(self, account: str) -> str:
        return "no links run here"


class NoCount:
    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        pass

    def set(self, name: str, value: float, **labels: str) -> None:
        pass
