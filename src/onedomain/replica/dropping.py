"""Before a move lets go of the old copy: both are compared message by message, and what that came to is kept.

Knows that people go on working meanwhile: a message that differs is looked at again, that one and no other, as a large
account takes long and others differ by then. Does not know how servers are read, nor what follows from a report
(decision/move).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing

from onedomain.model.failure import Failed
from onedomain.model.move import Count, Entry, Move, Report
from onedomain.model.ports import Trace
from onedomain.replica.comparison import Line, Verdict

AT_ONCE = 2
AGAIN = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each look. A flag set at one side is on its way to the other; after these it is a difference."""
AFTER_FAILURE = 10.0
LONGEST = 6 * 3600.0
KEPT = 2_000
"""Entries of a report."""

LOST = frozenset({Verdict.FLAGS, Verdict.DATE, Verdict.BYTES, Verdict.ONLY_THERE})
"""What would be lost with the old copy. What is missing there, or was refused there, is at the home."""


Compare = Callable[[str, Mapping[str, Collection[int]] | None], AsyncGenerator[Line, None]]
"""An account, byte by byte; of these folders those with these UIDs of the old server, or all. Raises Failed."""
KeepReport = Callable[[Move, Report], Awaitable[None]]
"""Durable on return. Raises Failed."""


class Tally:
    """Lines counted, so that those that would be a loss can be counted anew."""

    def __init__(self) -> None:
        self._folders: set[str] = set()
        self._counts: Counter[Verdict] = Counter()
        self._lost: defaultdict[str, set[int]] = defaultdict(set)  # by UIDs of the old server: all of them have one
        self._lines: list[Line] = []
        self._others: list[Line] = []  # no loss

    def add(self, line: Line) -> None:
        self._folders.add(line.folder)
        self._counts[line.verdict] += 1
        if line.verdict in LOST:
            self._lost[line.folder].add(line.target_uid)
        lines = self._lines if line.verdict in LOST else self._others
        if line.verdict is not Verdict.SAME and len(lines) < KEPT:
            lines.append(line)

    def again(self) -> Mapping[str, Collection[int]]:
        """Those that would be a loss, which are not counted any more."""
        lost, self._lost = self._lost, defaultdict(set)
        self._lines = []
        for verdict in LOST:
            self._counts.pop(verdict, None)
        return lost

    @property
    def differs(self) -> bool:
        return bool(self._lost)

    def report(self, at: float) -> Report:
        total = self._counts
        lines = (*self._lines, *self._others)[:KEPT]
        entries = tuple(Entry(each.folder, each.uid, each.target_uid, each.verdict.value, each.detail)
                        for each in lines)
        counts = tuple(Count(verdict.value, total[verdict]) for verdict in Verdict if total[verdict])
        differ = sum(total[verdict] for verdict in LOST)
        others = sum(total.values()) - total[Verdict.SAME]
        return Report(at, len(self._folders), counts, differ, entries, cut=others > len(entries))


class Dropping:
    """`clock`: seconds since 1970, for reports."""

    def __init__(self, compare: Compare, keep: KeepReport, clock: Callable[[], float], trace: Trace) -> None:
        self._compare = compare
        self._keep = keep
        self._clock = clock
        self._trace = trace
        self._tasks: dict[tuple[str, float], asyncio.Task[None]] = {}
        self._trouble: dict[tuple[str, float], tuple[float, str]] = {}

    def compare(self, move: Move) -> str:
        """Sees to it that it is compared, now or later; what to tell of that meanwhile."""
        key = move.account, move.at
        until, reason = self._trouble.get(key, (0.0, ""))
        now = asyncio.get_running_loop().time()
        if key not in self._tasks and now >= until:
            if len(self._tasks) >= AT_ONCE:
                return reason or "waiting for its turn to be compared"
            task = self._tasks[key] = asyncio.create_task(self._run(move))
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return reason or "compared message by message"

    async def stop(self) -> None:
        """Cuts them off; they begin anew."""
        for task in (tasks := list(self._tasks.values())):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, move: Move) -> None:
        key = move.account, move.at
        try:
            async with asyncio.timeout(LONGEST):
                report = await self._compared(move.account)
            await self._keep(move, report)
        except TimeoutError:
            self._failed(key, "the comparison took too long")
        except Failed as error:
            self._failed(key, f"not compared: {error.failure.reason or error.failure.text}")
        else:
            self._trouble.pop(key, None)
            self._trace.note("move compared", account=move.account, server=move.target, before=move.source,
                             differ=report.differ, **{each.verdict.replace(" ", "_"): each.messages
                                                      for each in report.counts})

    def _failed(self, key: tuple[str, float], reason: str) -> None:
        self._trouble = {each: told for each, told in self._trouble.items() if each in self._tasks}
        self._trouble[key] = asyncio.get_running_loop().time() + AFTER_FAILURE, reason

    async def _compared(self, account: str) -> Report:
        tally = Tally()
        only: Mapping[str, Collection[int]] | None = None
        for pause in AGAIN:
            if pause:
                await asyncio.sleep(pause)
                only = tally.again()
            async with aclosing(self._compare(account, only)) as lines:
                async for line in lines:
                    tally.add(line)
            if not tally.differs:
                break
        return tally.report(self._clock())
