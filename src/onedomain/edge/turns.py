"""At most so many at once, by key; the others stand in line.

Knows keys and how many. Does not know what is done in a turn.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Line:
    room: asyncio.Semaphore
    people: int = 0  # those who have a turn, and those who wait for one


class Turns:
    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, key: str) -> bool:
        """Whether anybody has a turn there, or waits for one."""
        return key in self._lines

    async def take(self, *keys: str) -> Turn:
        """One turn for each key, in this order: who takes several keeps to one order, or two wait for each other."""
        turn = Turn(self)
        try:
            for key in keys:
                await turn.add(key)
        except BaseException:
            turn.leave()
            raise
        return turn

    async def enter(self, key: str) -> None:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(asyncio.Semaphore(self._at_once))
        line.people += 1
        try:
            await line.room.acquire()
        except BaseException:
            self._gone(key, line)
            raise

    def leave(self, key: str) -> None:
        line = self._lines[key]
        line.room.release()
        self._gone(key, line)

    def _gone(self, key: str, line: _Line) -> None:
        line.people -= 1
        if not line.people:
            del self._lines[key]


@dataclass(slots=True)
class Turn:
    """Ends with `leave`, which may be called twice."""

    _turns: Turns
    _keys: list[str] = field(default_factory=list)

    async def add(self, key: str) -> None:
        await self._turns.enter(key)
        self._keys.append(key)

    def leave(self) -> None:
        while self._keys:
            self._turns.leave(self._keys.pop())
