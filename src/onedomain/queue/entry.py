"""One message in the spool, as memory knows it: where it lies, and how far each of its targets has got.

Small, because there may be a million: the envelope stays the bytes it was read from until somebody asks. Knows how
events change an entry. Does not know of journals, servers or time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from onedomain.model.message import Envelope, Outcome, State
from onedomain.queue import record
from onedomain.store.segment import Position


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one target has got. `attempts` counts attempts that were begun; `server` is that of the last one."""

    state: State = State.AGAIN
    attempts: int = 0
    server: str = ""
    outcome: Outcome | None = None

    @property
    def final(self) -> bool:
        return self.state in (State.DONE, State.FAILED)


FRESH = Progress()


class Entry:
    """`place` is the record in the message journal; `received` seconds since 1970; `size` of the body in bytes."""

    __slots__ = ("_meta", "busy", "held", "id", "place", "progress", "received", "size", "targets", "warned")

    def __init__(self, id: str, meta: bytes, place: Position) -> None:
        head = record.unpack_meta(meta)
        self.id = id
        self._meta = meta
        self.place = place
        self.received = head.received
        self.size = head.size
        self.targets = len(head.envelope.targets)
        self.progress: dict[int, Progress] = {}
        self.held = False
        self.warned = False
        self.busy = 0  # deliveries under way, which read the body from where it lies

    @property
    def head(self) -> record.Head:
        return record.unpack_meta(self._meta)

    @property
    def envelope(self) -> Envelope:
        return self.head.envelope

    def of(self, index: int) -> Progress:
        return self.progress.get(index, FRESH)

    def indexes(self, *states: State) -> tuple[int, ...]:
        """Indexes of the targets that are in one of the states."""
        return tuple(index for index in range(self.targets) if self.of(index).state in states)

    @property
    def finished(self) -> bool:
        return len(self.progress) == self.targets and all(one.final for one in self.progress.values())

    def segments(self) -> Iterator[int]:
        """Numbers of the segments that hold a part of it."""
        yield self.place.segment
        for chunk in self.head.chunks:
            yield chunk.segment

    def moved(self, meta: bytes, place: Position) -> None:
        self._meta = meta
        self.place = place

    # -- events

    def attempt(self, indexes: tuple[int, ...], server: str) -> None:
        """Begun. Unless an outcome follows, nobody knows: that is what being in doubt means."""
        for index in indexes:
            before = self.of(index)
            if not before.final:
                self.progress[index] = Progress(State.IN_DOUBT, before.attempts + 1, server, before.outcome)

    def outcome(self, index: int, outcome: Outcome) -> None:
        before = self.of(index)
        if index < self.targets and not before.final:
            server = outcome.server or before.server
            self.progress[index] = replace(before, state=outcome.state, server=server, outcome=outcome)

    def doubt_all(self) -> None:
        """What was noted can't be trusted: whatever is not known to be final is in doubt."""
        for index in range(self.targets):
            before = self.of(index)
            if not before.final:
                self.progress[index] = replace(before, state=State.IN_DOUBT)
