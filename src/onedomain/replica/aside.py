"""The store for bodies that a replica is about to lose, and for messages that it will never take.

Two journals in one folder: `deleted` is bounded by age and size, the oldest go first; `refused` holds what may be
nowhere else once its primary dies, so nothing of it goes before its time, and a full one refuses more. Durable before
the answer. Knows letters and where they came from. Does not know why a plan wants them kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from onedomain.backend.link.base import Letter
from onedomain.model.failure import Failed, Failure, again
from onedomain.model.ports import Clock, Nonce
from onedomain.model.replica import Side
from onedomain.store.disk import Disk
from onedomain.store.journal import Journal
from onedomain.store.segment import Damage, Position

PART = 8 << 20
"""Octets of a body in one record."""
DONE = "done"
"""In the head of a record that is no message: where the last one lies that is wanted no more of its account."""
SEGMENTS = 16
"""A store consists of about so many files: less than a sixteenth goes at once."""


@dataclass(frozen=True, slots=True)
class Room:
    """`seconds` and octets that bodies are kept; 0 octets: nothing that is deleted is kept."""

    seconds: float = 7 * 86400.0
    deleted: int = 2 << 30
    refused: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Origin:
    account: str
    server: str
    folder: str
    side: Side


@dataclass(frozen=True, slots=True)
class Kept:
    """A message without its bytes. `at` in seconds since 1970; `size` in octets, which lie at `parts`."""

    account: str
    server: str
    folder: str
    uid: int
    flags: tuple[str, ...]
    date: int
    why: str
    at: float
    size: int
    parts: tuple[Position, ...]


class Aside:
    """`directory` exists, and nobody else has it open."""

    def __init__(
        self, disk: Disk, directory: str, *, clock: Clock, nonce: Nonce, threads: Executor, room: Room | None = None
    ) -> None:
        self._room = room or Room()
        self._clock = clock
        size = max(1 << 20, min(64 << 20, self._room.deleted // SEGMENTS))
        self._journals = {
            name: Journal(disk, directory, name, nonce=nonce, threads=threads, segment_size=size)
            for name in ("deleted", "refused")
        }
        self._threads = threads
        self._newest: dict[str, dict[int, float]] = {name: {} for name in self._journals}
        self._last: dict[str, dict[int, dict[str, int]]] = {name: {} for name in self._journals}  # offsets, by account
        self._done: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in self._journals}
        self.messages = dict.fromkeys(self._journals, 0)

    def open(self) -> list[Damage]:
        """Blocks; reads what is there. Raises OSError."""
        damage: list[Damage] = []
        for name, journal in self._journals.items():
            damage += journal.open()
            for item in journal.replay():
                if isinstance(item, Damage):
                    damage.append(item)
                    continue
                position, payload = item
                head = _head(payload)
                if DONE in head:
                    self._forget(name, position.segment, head["account"], *head[DONE])
                    continue
                self._remember(name, position, head["account"], head["at"])
                self.messages[name] += head.get("part", 0) == 0
        return damage

    @property
    def trouble(self) -> Failure | None:
        """Why nothing is taken any more: a sync failed, and it has to be opened anew."""
        return next((journal.poison for journal in self._journals.values() if journal.poison), None)

    def size(self, name: str) -> int:
        return sum(self._journals[name].sizes.values())

    async def keep(self, origin: Origin, letters: Sequence[Letter], why: str) -> None:
        """Durable on return. Raises Failed: no room, and nothing may be deleted or confirmed."""
        name = "deleted" if origin.side is Side.TARGET else "refused"
        journal = self._journals[name]
        if name == "deleted" and not self._room.deleted:
            return
        octets = sum(len(letter.raw) for letter in letters)
        if name == "refused" and self.size(name) + octets > self._room.refused:
            full = f"{self.size(name)} octets of refused messages are kept already"
            raise Failed(again(452, "4.3.1", "no room for messages that a replica refuses", full))
        now = self._clock.time()
        for letter in letters:
            for part, start in enumerate(range(0, max(1, len(letter.raw)), PART)):
                head = {"account": origin.account, "server": origin.server, "folder": origin.folder, "uid": letter.uid,
                        "flags": sorted(letter.flags), "date": letter.date, "why": why, "at": now, "part": part,
                        "size": len(letter.raw)}  # fmt: skip
                line = json.dumps(head, separators=(",", ":")).encode() + b"\n"
                position = journal.append(line, letter.raw[start : start + PART])
                self._remember(name, position, origin.account, now)
        await journal.commit()
        self.messages[name] += len(letters)

    async def tidy(self) -> int:
        """Lets go of what is wanted no more, too old, or the oldest of too much; -> octets freed.

        Always the oldest segments, so that nothing outlives the record that says it is done with.
        """
        freed = 0
        for name, journal in self._journals.items():
            sizes = journal.sizes
            total, gone = sum(sizes.values()), []
            for number, size in sizes.items():
                if not self._may_go(name, number, total):
                    break
                gone.append(number)
                total -= size
                freed += size
            if gone:
                await journal.drop(gone)
                for number in gone:
                    self._newest[name].pop(number, None)
                    self._last[name].pop(number, None)
        return freed

    def _may_go(self, name: str, number: int, total: int) -> bool:
        last = self._last[name].get(number)
        if last is not None and all(self._is_done(name, account, number, offset) for account, offset in last.items()):
            return True
        if name == "refused":
            return False
        old = self._clock.time() - self._newest[name].get(number, 0.0) > self._room.seconds
        return old or (total > self._room.deleted and number != self._journals[name].current)

    async def kept(self, name: str, account: str = "") -> list[Kept]:
        """Oldest first; what was given back or given up is left out. Raises OSError."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._kept, name, account)

    def _kept(self, name: str, account: str) -> list[Kept]:
        found: list[tuple[dict[str, Any], list[Position]]] = []
        for item in self._journals[name].replay():
            if isinstance(item, Damage):
                continue
            head = _head(item[1])
            if account not in ("", head["account"]) or DONE in head:
                continue
            if head["part"] == 0:
                found.append((head, []))
            if found:
                found[-1][1].append(item[0])
        return [
            Kept(head["account"], head["server"], head["folder"], head["uid"], tuple(head["flags"]), head["date"],
                 head["why"], head["at"], head["size"], tuple(parts))
            for head, parts in found if not self._is_done(name, head["account"], parts[0].segment, parts[0].offset)
        ]  # fmt: skip

    def body(self, name: str, kept: Kept) -> bytes | None:
        """None: it is damaged, or gone by now. Raises OSError."""
        return self.octets(name, kept.parts, kept.size)

    def octets(self, name: str, parts: Sequence[Position], size: int) -> bytes | None:
        found = [self._journals[name].read(position) for position in parts]
        raw = b"".join(part[part.index(b"\n") + 1 :] for part in found if part is not None)
        return raw if len(raw) == size else None

    async def done(self, name: str, last: Kept) -> None:
        """That message and all of its account from before are wanted no more. Durable on return. Raises Failed."""
        journal = self._journals[name]
        upto = last.parts[-1].segment, last.parts[-1].offset
        head = {"account": last.account, DONE: upto}
        position = journal.append(json.dumps(head, separators=(",", ":")).encode() + b"\n")
        await journal.commit()
        self._forget(name, position.segment, last.account, *upto)

    def _forget(self, name: str, segment: int, account: str, upto_segment: int, upto_offset: int) -> None:
        upto = upto_segment, upto_offset
        self._done[name][account] = max(upto, self._done[name].get(account, upto))
        self._last[name].setdefault(segment, {})

    def _remember(self, name: str, position: Position, account: str, at: float) -> None:
        self._newest[name][position.segment] = at
        self._last[name].setdefault(position.segment, {})[account] = position.offset

    def _is_done(self, name: str, account: str, segment: int, offset: int) -> bool:
        return (segment, offset) <= self._done[name].get(account, (0, 0))

    async def close(self) -> None:
        for journal in self._journals.values():
            await journal.close()


def _head(payload: bytes) -> dict[str, Any]:
    head: dict[str, Any] = json.loads(payload[: payload.index(b"\n")])
    return head
