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

MESSAGES = "log"


class Replay:
    """After `run`: `entries` by id are those that somebody needs; `places` all message records, needed or not, of the
    log and of what was `aside`; `damage` what could not be read; `amends` events that follow from what was read and
    have yet to be noted.
    """

    def __init__(self, messages: Journal, aside: Journal, notes: Notes, clock: Clock) -> None:
        self.messages = messages
        self.aside = aside
        self.notes = notes
        self.entries: dict[str, Entry] = {}
        self.places: list[tuple[str, Position, bool]] = []
        self.damage: list[Damage] = []
        self.amends: list[bytes] = []
        self._clock = clock
        self._chunks: dict[bool, set[Position]] = {False: set(), True: set()}
        self._reports: list[record.Head] = []

    def run(self) -> None:
        """Raises OSError."""
        # What was set aside is a copy of what may still be in the log, so it is read later and counts.
        for journal, aside in ((self.messages, False), (self.aside, True)):
            self.damage += journal.open()
            for item in journal.replay():
                if isinstance(item, Damage):
                    self.damage.append(item)
                else:
                    self._message(*item, aside=aside)
        self._miss_chunks()
        self._states()
        self._bounces()
        self.entries = {id: entry for id, entry in self.entries.items() if not entry.over}

    async def close(self) -> None:
        await self.notes.close()
        await self.messages.close()
        await self.aside.close()

    def _message(self, place: Position, payload: bytes, *, aside: bool) -> None:
        if payload.startswith(record.CHUNK):
            self._chunks[aside].add(place)
            return
        try:
            meta, _ = record.split_message(payload)
            head = record.read_meta(meta)
            entry = Entry(head, meta, place)
            entry.aside = aside
        except (record.BadRecord, ValueError, KeyError, TypeError, IndexError) as error:
            self._unknown(place, error)
            return
        # a message may be there twice, when a compaction was cut off: the later record is the copy
        self.entries[entry.id] = entry
        if head.verdicts:
            self._reports.append(head)
        self.places.append((entry.id, place, aside))

    def _miss_chunks(self) -> None:
        """A message with a part missing is held: an operator may want what is left, a server must not get it."""
        for entry in self.entries.values():
            for chunk in entry.chunks:
                if chunk not in self._chunks[entry.aside]:
                    entry.held = True
                    self.damage.append(Damage(chunk.segment, chunk.offset, chunk.length, f"part of {entry.id}"))
        for chunks in self._chunks.values():
            chunks.clear()

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
                self.amends += snapshot(entry)

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
            entry.attempt(tuple(rest[0]), rest[1], _epochs(rest, 3))
        elif kind == "o":
            for index, outcome in rest[0].items():
                entry.outcome(int(index), record.unpack_outcome(outcome))
            entry.set_epochs(_epochs(rest, 2))
        elif kind == "h":
            entry.held = rest[0]
        elif kind == "w":
            entry.warned = True
        elif kind == "s":
            targets, entry.held, entry.warned = rest
            entry.progress = {
                int(index): _progress(*one, epoch=entry.of(int(index)).epoch) for index, one in targets.items()
            }
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
                self.amends.append(record.pack_outcomes(parent.id, news, self._clock.time(), {}))

    def _unknown(self, place: Position, error: Exception) -> None:
        self.damage.append(Damage(place.segment, place.offset, place.length, f"not understood: {error}"))


def snapshot(entry: Entry) -> list[bytes]:
    """The events that say all that is known of an entry, its epochs first: a checkpoint that is torn between the two
    follows older events, which say the same.
    """
    targets = {
        index: (one.state, one.attempts, one.server, one.outcome) for index, one in entry.progress.items()
    }
    state = record.pack_snapshot(entry.id, targets, entry.held, entry.warned)
    epochs = {index: one.epoch for index, one in entry.progress.items() if one.epoch}
    return [record.pack_outcomes(entry.id, {}, 0.0, epochs), state] if epochs else [state]


def snapshots(entries: Iterable[Entry]) -> list[bytes]:
    return [
        event for entry in entries if entry.progress or entry.held or entry.warned for event in snapshot(entry)
    ]


def _epochs(rest: list[Any], place: int) -> dict[int, int]:
    return {int(index): int(epoch) for index, epoch in rest[place].items()} if len(rest) > place else {}


def _progress(letter: str, attempts: int, server: str, outcome: list[Any] | None, *, epoch: int) -> Progress:
    state: State = record.unpack_state(letter)
    last: Outcome | None = record.unpack_outcome(outcome) if outcome else None
    return Progress(state, attempts, server, last, epoch)
