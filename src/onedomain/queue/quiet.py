"""Ports nobody listens at."""

from __future__ import annotations


class NoChanges:
    def changed(self, account: str, what: str, folder: str = "") -> None:
        pass


class NoCount:
    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        pass

    def set(self, name: str, value: float, **labels: str) -> None:
        pass
