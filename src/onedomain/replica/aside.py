"""The store for bodies that a replica is about to lose, and for messages that it will never take.

Two journals in one folder: `deleted` is bounded by age and size, the oldest go first; `refused` holds what may be
nowhere else once its primary dies, so nothing of it goes before its time, and a full one refuses more. Durable before
the answer. Knows letters and where they came from. Does not know why a plan wants them kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from onedomain.backend.link.base import Letter
from onedomain.model.failure import Failed, Failure, again
from onedomain.model.ports import Clock, Nonce
from onedomain.model.replica import Side
from onedomain.store.disk import Disk
from onedomain.store.journal import Journal
from onedomain.store.segment import Damage

PART = 8 << 20
"""Octets of a body in one record."""
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
    """`at` in seconds since 1970. A large body comes in parts; `whole` is False where one of them is damaged."""

    account: str
    server: str
    folder: str
    uid: int
    flags: tuple[str, ...]
    date: int
    why: str
    at: float
    raw: bytes
    whole: bool = True


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
        self._newest: dict[str, dict[int, float]] = {name: {} for name in self._journals}
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
                self._newest[name][position.segment] = float(head.get("at", 0))
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
                self._newest[name][position.segment] = now
        await journal.commit()
        self.messages[name] += len(letters)

    async def tidy(self) -> int:
        """Lets go of what is too old, and of the oldest deleted ones where they are too many; -> octets freed."""
        freed = 0
        for name, journal in self._journals.items():
            limit = self._room.deleted if name == "deleted" else self._room.refused
            sizes = journal.sizes
            total, gone = sum(sizes.values()), []
            for number, size in sizes.items():
                old = self._clock.time() - self._newest[name].get(number, 0.0) > self._room.seconds
                if (old and name == "deleted") or (total > limit and name == "deleted" and number != journal.current):
                    gone.append(number)
                    total -= size
                    freed += size
            if gone:
                await journal.drop(gone)
                for number in gone:
                    self._newest[name].pop(number, None)
        return freed

    def kept(self, name: str, account: str = "") -> Iterator[Kept]:
        """Oldest first. Blocks; OSError."""
        open_: tuple[dict[str, Any], list[bytes]] | None = None
        for item in self._journals[name].replay():
            if isinstance(item, Damage):
                continue
            head, raw = _head(item[1]), item[1][item[1].index(b"\n") + 1 :]
            if head["part"] == 0:
                if open_ is not None:
                    yield _made(*open_)
                open_ = (head, []) if account in ("", head["account"]) else None
            if open_ is not None:
                open_[1].append(raw)
        if open_ is not None:
            yield _made(*open_)

    async def close(self) -> None:
        for journal in self._journals.values():
            await journal.close()


def _head(payload: bytes) -> dict[str, Any]:
    head: dict[str, Any] = json.loads(payload[: payload.index(b"\n")])
    return head


def _made(head: dict[str, Any], parts: list[bytes]) -> Kept:
    raw = b"".join(parts)
    return Kept(head["account"], head["server"], head["folder"], head["uid"], tuple(head["flags"]), head["date"],
                head["why"], head["at"], raw, len(raw) == head["size"])  # fmt: skip
