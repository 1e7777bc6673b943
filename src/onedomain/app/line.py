"""A worker's line to the keeper: made again whenever it breaks, so that a worker outlives its keeper.

Knows when to dial and what is said first. Does not know what the verbs do: the worker's handlers are given.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onedomain.control.link import Handler, Link, LinkError, connect

REDIAL = 0.2
REPORT_EVERY = 0.5
URGENT = 0.02
"""Seconds in which urgent reports are gathered: a dead server fails many deliveries at once."""


class Line:
    """`report` gives what the keeper is told twice a second, and soon after `urgent`. `joined` is called whenever the
    line is there anew, after the greeting.
    """

    def __init__(self, path: Path, slot: int, handlers: Mapping[str, Handler],
                 report: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._slot = slot
        self._handlers = handlers
        self._report = report
        self._urgent = asyncio.Event()
        self._link: Link | None = None
        self.joined: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        return self._link is not None

    def tell(self, verb: str, **arguments: Any) -> None:
        """News, which goes nowhere while there is no line."""
        if self._link is not None:
            self._link.tell(verb, **arguments)

    async def call(self, verb: str, *, timeout: float, **arguments: Any) -> Any:
        """Raises LinkError, also while there is no line."""
        if self._link is None:
            raise LinkError("the keeper is not there")
        return await self._link.call(verb, timeout=timeout, **arguments)

    def urgent(self) -> None:
        self._urgent.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                link, serving = await connect(str(self._path), self._handlers)
            except OSError:
                await asyncio.sleep(REDIAL)  # it is being replaced, or has not started yet
                continue
            link.tell("hello", slot=self._slot, pid=os.getpid())
            reporting = asyncio.create_task(self._keep_reporting(link))
            self._link = link
            try:
                for tell in self.joined:
                    tell()
                await serving
            finally:
                self._link = None
                reporting.cancel()
                link.close()
            await asyncio.sleep(REDIAL)

    async def _keep_reporting(self, link: Link) -> None:
        while True:
            link.tell("report", report=self._report())
            try:
                async with asyncio.timeout(REPORT_EVERY):
                    await self._urgent.wait()
                await asyncio.sleep(URGENT)
            except TimeoutError:
                pass  # nothing urgent: the usual report
            self._urgent.clear()
