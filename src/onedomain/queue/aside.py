"""What the safety net has held for a while: messages moved out of the log, so that a stopped link does not fill it.

A journal of its own beside the log, in which they lie as they did there; what is known of them stays in the state
journal. A message is copied here and durable before the log lets go of it, so at every moment it is in one of the two,
or in both, and then the copy counts.

Knows how messages lie. Does not know why they are held, nor when they may go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from onedomain.queue import record
from onedomain.queue.entry import Entry
from onedomain.queue.shelf import Shelf
from onedomain.queue.tidy import Read, relocate
from onedomain.store.journal import Journal
from onedomain.store.segment import Position

ASIDE = "aside"


class Aside:
    """`entries` are those that nothing is left to do for but to be held."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.shelf = Shelf()
        self.entries: dict[str, Entry] = {}

    async def copy(self, entry: Entry, read: Read) -> tuple[bytes, Position] | None:
        """The entry's records, read by `read`, written here and not yet durable -> its meta and place here; None if
        they can't be read. Raises Failed.
        """
        copied = await relocate(entry, read, self.journal)
        if copied is None:
            return None
        meta, body = copied
        place = self.journal.append(record.message_head(meta), body)
        # Even if nobody needs it by now: that it is over has to be known as long as it lies here.
        self.shelf.found(entry.id, place)
        return meta, place

    async def take(self, log: dict[str, Entry], ids: Iterable[str], shelf: Shelf, read: Read,
                   reach: Callable[[], None]) -> int:
        """Moves entries out of the log -> how many; the others can't be read. `shelf` and `read` are the log's, `reach`
        is called when the copies are durable. Raises Failed: nothing has changed.
        """
        copies = []
        for id in ids:
            if (entry := log.get(id)) is not None and (copy := await self.copy(entry, read)) is not None:
                copies.append((entry, *copy))
        await self.journal.commit()
        reach()
        for entry, meta, place in copies:
            if log.pop(entry.id, None) is not None:
                shelf.take(entry)
                entry.in_net = False
                self.put(entry, meta, place)
        return len(copies)

    def put(self, entry: Entry, meta: bytes, place: Position) -> None:
        """From now on the entry lies here, and nowhere else that counts."""
        entry.moved(meta, place)
        entry.aside = True
        self.shelf.put(entry)
        self.entries[entry.id] = entry
