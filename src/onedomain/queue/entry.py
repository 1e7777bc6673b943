"""One message in the spool, as memory knows it: where it lies, and how far each of its targets has got.

Small, because there may be a million: the envelope stays the bytes it was read from until somebody asks. Knows how
events change an entry. Does not know of journals, servers or time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from onedomain.model.message import Envelope, Outcome, State
from onedomain.queue import record
from onedomain.store.segment import Position


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one target has got. `attempts` counts attempts that were begun; `server` is that of the last one, and
    `epoch` that of the account's home then, if it has a replica, else 0.
    """

    state: State = State.AGAIN
    attempts: int = 0
    server: str = ""
    outcome: Outcome | None = None
    epoch: int = 0

    @property
    def netted(self) -> bool:
        """Delivered, and held until the replica has it, too."""
        return self.epoch > 0 and self.state is State.DONE

    @property
    def final(self) -> bool:
        return self.state in (State.DONE, State.FAILED)

    @property
    def over(self) -> bool:
        """Final, and nobody's net holds it."""
        return self.state is State.FAILED or (self.state is State.DONE and self.epoch <= 0)


FRESH = Progress()


class Entry:
    """`place` is the record in the message journal, `chunks` those of a large body; `received` seconds since 1970;
    `size` of the body in bytes; `targets` their number. `meta` is `head` as it is written. `in_net`: finished, and
    held by the safety net; `aside`: its records are not in the log but in the journal of what was set aside.
    """

    __slots__ = (
        "_meta", "aside", "chunks", "held", "id", "in_net", "place", "progress", "received", "size", "targets",
        "warned",
    )

    def __init__(self, head: record.Head, meta: bytes, place: Position) -> None:
        self.id = head.id
        self._meta = meta
        self.place = place
        self.chunks = head.chunks
        self.received = head.received
        self.size = head.size
        self.targets = len(head.envelope.targets)
        self.progress: dict[int, Progress] = {}
        self.held = False
        self.warned = False
        self.in_net = False
        self.aside = False

    @property
    def head(self) -> record.Head:
        """Read anew from its bytes, or from among those lately read."""
        return record.unpack_meta(self._meta)

    @property
    def envelope(self) -> Envelope:
        return self.head.envelope

    def mentions(self, text: str) -> bool:
        """Whether the ASCII text stands anywhere in the head, whatever the case; says no only if it does not."""
        return json.dumps(text.lower())[1:-1].encode() in self._meta.lower()

    def of(self, index: int) -> Progress:
        return self.progress.get(index, FRESH)

    def indexes(self, *states: State) -> tuple[int, ...]:
        """Indexes of the targets that are in one of the states."""
        return tuple(index for index in range(self.targets) if self.of(index).state in states)

    @property
    def finished(self) -> bool:
        return len(self.progress) == self.targets and all(one.final for one in self.progress.values())

    @property
    def netted(self) -> tuple[int, ...]:
        """Indexes of the targets that the safety net holds it for."""
        return tuple(index for index, one in self.progress.items() if one.netted)

    @property
    def over(self) -> bool:
        """Nobody needs it any more."""
        return len(self.progress) == self.targets and all(one.over for one in self.progress.values())

    @property
    def length(self) -> int:
        """Of all its records, in bytes."""
        return self.place.length + sum(chunk.length for chunk in self.chunks)

    def segments(self) -> Iterator[int]:
        """Numbers of the segments that hold a part of it."""
        yield self.place.segment
        for chunk in self.chunks:
            yield chunk.segment

    def moved(self, meta: bytes, place: Position) -> None:
        self._meta = meta
        self.chunks = self.head.chunks
        self.place = place

    # -- events

    def attempt(self, indexes: tuple[int, ...], server: str, epochs: Mapping[int, int]) -> None:
        """Begun. Unless an outcome follows, nobody knows: that is what being in doubt means."""
        for index in indexes:
            before = self.of(index)
            if not before.final:
                self.progress[index] = Progress(
                    State.IN_DOUBT, before.attempts + 1, server, before.outcome, epochs.get(index, 0))

    def outcome(self, index: int, outcome: Outcome) -> None:
        before = self.of(index)
        # What the safety net puts onto another server has been delivered before.
        moved = before.netted and outcome.state is State.DONE
        if index < self.targets and (moved or not before.final):
            server = outcome.server or before.server
            self.progress[index] = Progress(outcome.state, before.attempts, server, outcome, before.epoch)

    def set_epochs(self, epochs: Mapping[int, int]) -> None:
        for index, epoch in epochs.items():
            if index < self.targets:
                self.progress[index] = replace(self.of(index), epoch=epoch)

    def doubt_all(self) -> None:
        """What was noted can't be trusted: whatever is not known to be final is in doubt."""
        for index in range(self.targets):
            before = self.of(index)
            if not before.final:
                self.progress[index] = replace(before, state=State.IN_DOUBT)
