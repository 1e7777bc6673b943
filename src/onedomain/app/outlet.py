"""What the linker tells workers, gathered per turn of the loop; the keeper's hub brings it there.

Knows how news is gathered. Does not know where workers are, nor what the news means to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

Place = tuple[str, int]

PER_LINE = 1000


class Outlet:
    """A replica.links.Outlet. `tell(verb, **arguments)` is the line to the keeper."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._covered: list[list[Any]] = []
        self._released: list[list[Any]] = []
        self._alerts: list[list[str]] = []
        self._soon = False

    def covered(self, place: Place, account: str, ticket: int) -> None:
        self._covered.append([*place, account, ticket])
        self._later()

    def released(
        self, place: Place | None, account: str, confirmed: Collection[str], consumed: Collection[str], epoch: int
    ) -> None:
        self._released.append([*(place or ("", -1)), account, list(confirmed), list(consumed), epoch])
        self._later()

    def alert(self, account: str, folder: str, text: str) -> None:
        self._alerts.append([account, folder, text])
        self._later()

    def _later(self) -> None:
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._soon = False
        # Released first: a delivery whose id is told before its ticket is not looked for again.
        for verb, items in (("released", self._released), ("covered", self._covered), ("alerts", self._alerts)):
            for start in range(0, len(items), PER_LINE):
                self._tell(verb, items=items[start : start + PER_LINE])
            items.clear()
