"""What a spool's journals say after a restart: which messages wait, and how far each has got.

Knows the meaning of every record, in the order they were written. Changes nothing on the disk. Blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onedomain.model.message import Outcome, State
from onedomain.model.ports import Clock
from onedomain.queue import record
from onedomain.queue.entry import Entry, Progress
from onedomain.queue.notes import Notes
from onedomain.store.journal import Journal
from onedomain.store.segment import Damage, Position


class Replay:
    """After `run`: `entries` by id are the unfinished ones; `places` all message records, finished or not; `damage`
    what could not be read; `amends` events that follow from what was read and have yet to be noted.
    """

    def __init__(self, messages: Journal, notes: Notes, clock: Clock) -> None:
        self.messages = messages
        self.notes = notes
        self.entries: dict[str, Entry] = {}
        self.places: list[tuple[str, Position]] = []
        self.damage: list[Damage] = []
        self.amends: list[bytes] = []
        self._clock = clock
        self._chunks: set[Position] = set()
        self._reports: list[record.Head] = []

    def run(self) -> None:
        """Raises OSError."""
        self.damage += self.messages.open()
        for item in self.messages.replay():
            if isinstance(item, Damage):
                self.damage.append(item)
            else:
                self._message(*item)
        self._miss_chunks()
        self._states()
        self._bounces()
        self.entries = {id: entry for id, entry in self.entries.items() if not entry.finished}

    async def close(self) -> None:
        await self.notes.close()
        await self.messages.close()

    def _message(self, place: Position, payload: bytes) -> None:
        if payload.startswith(record.CHUNK):
            self._chunks.add(place)
            return
        try:
            meta, _ = record.split_message(payload)
            head = record.read_meta(meta)
            entry = Entry(head, meta, place)
        except (record.BadRecord, ValueError, KeyError, TypeError, IndexError) as error:
            self._unknown(place, error)
            return
        # a message may be there twice, when a compaction was cut off: the later record is the copy
        self.entries[entry.id] = entry
        if head.verdicts:
            self._reports.append(head)
        self.places.append((entry.id, place))

    def _miss_chunks(self) -> None:
        """A message with a part missing is held: an operator may want what is left, a server must not get it."""
        for entry in self.entries.values():
            for chunk in entry.chunks:
                if chunk not in self._chunks:
                    entry.held = True
                    self.damage.append(Damage(chunk.segment, chunk.offset, chunk.length, f"part of {entry.id}"))
        self._chunks.clear()

    def _states(self) -> None:
        damage = self.notes.open()
        for item in self.notes.replay():
            if isinstance(item, Damage):
                damage.append(item)
                continue
            place, payload = item
            try:
                self._event(record.unpack_event(payload))
            except (record.BadRecord, ValueError, KeyError, TypeError, IndexError) as error:
                self._unknown(place, error)
        self.damage += damage
        if any(not one.tail for one in damage):
            # An attempt or its result may be among what is lost. (A tail was never acknowledged: no attempt hung on
            # it.)
            for entry in self.entries.values():
                entry.doubt_all()
                self.amends.append(snapshot(entry))

    def _event(self, event: list[Any]) -> None:
        kind, subject, *rest = event
        if kind == "x":
            for id in subject:
                self.entries.pop(id, None)
            return
        entry = self.entries.get(subject)
        if entry is None:
            return
        if kind == "a":
            entry.attempt(tuple(rest[0]), rest[1])
        elif kind == "o":
            for index, outcome in rest[0].items():
                entry.outcome(int(index), record.unpack_outcome(outcome))
        elif kind == "h":
            entry.held = rest[0]
        elif kind == "w":
            entry.warned = True
        elif kind == "s":
            targets, entry.held, entry.warned = rest
            entry.progress = {int(index): _progress(*one) for index, one in targets.items()}
        else:
            raise record.BadRecord(f"event {kind!r}")

    def _bounces(self) -> None:
        """A bounce on the disk is the proof that its message failed, even where the note of it is not."""
        for head in self._reports:
            parent = self.entries.get(head.bounce_of)
            if parent is None:
                continue
            news = {index: outcome for index, outcome in head.verdicts if not parent.of(index).final}
            for index, outcome in news.items():
                parent.outcome(index, outcome)
            if news:
                self.amends.append(record.pack_outcomes(parent.id, news, self._clock.time()))

    def _unknown(self, place: Position, error: Exception) -> None:
        self.damage.append(Damage(place.segment, place.offset, place.length, f"not understood: {error}"))


def snapshot(entry: Entry) -> bytes:
    """The event that says all that is known of an entry."""
    targets = {
        index: (one.state, one.attempts, one.server, one.outcome) for index, one in entry.progress.items()
    }
    return record.pack_snapshot(entry.id, targets, entry.held, entry.warned)


def snapshots(entries: Iterable[Entry]) -> list[bytes]:
    return [snapshot(entry) for entry in entries if entry.progress or entry.held or entry.warned]


def _progress(letter: str, attempts: int, server: str, outcome: list[Any] | None) -> Progress:
    state: State = record.unpack_state(letter)
    last: Outcome | None = record.unpack_outcome(outcome) if outcome else None
    return Progress(state, attempts, server, last)
