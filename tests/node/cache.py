"""A client with a cache, as QRESYNC is meant for: what it keeps is right after every look, at little cost.

Knows nothing of pytest, and nothing of the node but what it is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.node.lab import Imap

_FETCH = re.compile(rb"\* (\d+) FETCH \((?:.*?)UID (\d+)(?: FLAGS \(([^)]*)\))?(?: MODSEQ \((\d+)\))?")


def parse_set(text: bytes) -> list[int]:
    found: list[int] = []
    for part in text.split(b","):
        low, _, high = part.partition(b":")
        found += range(int(low), int(high or low) + 1)
    return found


@dataclass
class Cache:
    """One folder. `flags` by UID, without Recent; `order`: the UIDs by message number, None where not known yet."""

    name: str
    uidvalidity: int = 0
    modseq: int = 0
    flags: dict[int, frozenset[bytes]] = field(default_factory=dict)
    order: list[int | None] = field(default_factory=list)

    async def open(self, client: Imap) -> list[bytes]:
        """Come back after a while: SELECT with QRESYNC, then the messages that are new. -> what SELECT told."""
        known = b",".join(b"%d" % uid for uid in sorted(self.flags))
        resync = f" (QRESYNC ({self.uidvalidity} {self.modseq}{' ' + known.decode() if known else ''}))"
        lines = await client(f"SELECT {self.name}{resync if self.modseq else ''}")
        assert lines[-1].startswith(b"OK "), lines
        told = b"\n".join(lines)
        (validity,) = re.findall(rb"\[UIDVALIDITY (\d+)\]", told)
        exists = re.findall(rb"\* (\d+) EXISTS", told)[0]  # others may add some before the end of the answer
        modseq = int(re.findall(rb"\[HIGHESTMODSEQ (\d+)\]", told)[0])
        if int(validity) != self.uidvalidity:
            self.flags.clear()
        else:
            assert modseq >= self.modseq, "HIGHESTMODSEQ went down"
        self.uidvalidity = int(validity)
        # The numbers first: FETCH and VANISHED refer to them
        for line in lines:
            if line.startswith(b"* VANISHED (EARLIER) "):
                for uid in parse_set(line.removeprefix(b"* VANISHED (EARLIER) ")):
                    self.flags.pop(uid, None)
        # What was announced and never looked at leaves holes, and then only a look says which number is whose
        uids: list[int | None] = [] if None in self.order else [*sorted(self.flags)]
        assert len(uids) <= int(exists), "gone, and not told"
        self.order = uids + [None] * (int(exists) - len(uids))
        self.told(lines[next(at for at, line in enumerate(lines) if line.endswith(b" EXISTS")) + 1 :])
        await self.fetch_new(client)
        self.modseq = modseq
        return lines

    async def fetch_new(self, client: Imap) -> None:
        """Where others work at the same time more is announced with each answer."""
        for _ in range(100):
            if None not in self.order:
                return
            before = self.order[:self.order.index(None)]
            self.told(await client(f"UID FETCH {(before[-1] or 0) + 1 if before else 1}:* (UID FLAGS MODSEQ)"))
        raise AssertionError("announced, and never told")

    async def look(self, client: Imap) -> None:
        """NOOP: everything is told, and what is told counts as known."""
        self.told(await client("NOOP"))
        await self.fetch_new(client)

    def _remove(self, uid: int) -> None:
        self.flags.pop(uid, None)
        if uid in self.order:
            self.order.remove(uid)
            return
        # One that was announced by EXISTS and never looked at: somewhere between its neighbours
        at = next((at for at, each in enumerate(self.order) if each is not None and each > uid), len(self.order))
        assert self.order[at - 1] is None, "vanished, and never was there"
        del self.order[at - 1]

    def told(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(b"* VANISHED ") and b"EARLIER" not in line:
                for uid in parse_set(line.removeprefix(b"* VANISHED ")):
                    self._remove(uid)
            elif found := re.match(rb"\* (\d+) EXISTS", line):
                assert int(found[1]) >= len(self.order)
                self.order += [None] * (int(found[1]) - len(self.order))
            elif fetched := _FETCH.match(line):
                number, uid = int(fetched[1]), int(fetched[2])
                assert self.order[number - 1] in (None, uid), "a number names another message"
                self.order[number - 1] = uid
                if fetched[3] is not None:
                    self.flags[uid] = frozenset(fetched[3].split()) - {b"\\Recent"}


async def fresh(client: Imap, name: str) -> dict[int, frozenset[bytes]]:
    """The truth, asked for without any cache."""
    await client(f"EXAMINE {name}")
    cache = Cache(name)
    lines = await client("UID FETCH 1:* (UID FLAGS)")
    cache.order = [None] * sum(b" FETCH " in line for line in lines)
    cache.told(lines)
    return cache.flags
