"""A worker's line to the keeper: made again whenever it breaks, so that a worker outlives its keeper.

Knows when to dial and what is said first. Does not know what the verbs do: the worker's handlers are given.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onedomain.control.link import Handler, Link, connect

REDIAL = 0.2
REPORT_EVERY = 0.5
URGENT = 0.02
"""Seconds in which urgent reports are gathered: a dead server fails many deliveries at once."""


class Line:
    """`report` gives what the keeper is told twice a second, and soon after `urgent`."""

    def __init__(self, path: Path, slot: int, handlers: Mapping[str, Handler],
                 report: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._slot = slot
        self._handlers = handlers
        self._report = report
        self._urgent = asyncio.Event()

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
            try:
                await serving
            finally:
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
