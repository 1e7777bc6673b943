"""Taking back the room of expunged bodies: what is left of a half-empty segment is appended anew, then the segment
goes.

Knows when a segment is worth it, and the order that makes a crash harmless: copies are synced and their rows committed
before the old segment, which no row names any more, is removed. Does not know how either is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from onedomain.model.ports import Trace
from onedomain.node.store.bodies import BodyFile, Place, Segments
from onedomain.node.store.readers import Readers, Reading
from onedomain.node.store.writer import SmallBody, Transaction, Writer

WORTH_IT = 0.5
"""The part of a segment that must be dead."""

SLICE = 1024 * 1024
"""Bytes copied in one work, so that deliveries get their turn in between."""


class Live(NamedTuple):
    body: int
    place: Place


async def run(writer: Writer, readers: Readers, segments: Segments, trace: Trace) -> None:
    shared = segments.shared
    for segment in await readers.run(lambda reading: half_empty(reading, segments.sizes())):
        if segment != shared:
            await _empty(segment, writer, readers, segments, trace)


def half_empty(reading: Reading, sizes: dict[int, int]) -> list[int]:
    """Segments, oldest first, of whose bytes (`sizes`) less than half is spoken of by rows."""
    rows = reading.db.execute("SELECT segment, sum(size) FROM body GROUP BY segment ORDER BY segment")
    return [segment for segment, live in rows if live < sizes.get(segment, 0) * (1 - WORTH_IT)]


async def _empty(segment: int, writer: Writer, readers: Readers, segments: Segments, trace: Trace) -> None:
    def live(reading: Reading) -> list[Live]:
        rows = reading.db.execute(
            "SELECT id, segment, offset, size, digest FROM body WHERE segment = ? ORDER BY offset", (segment,)
        )
        return [Live(row[0], Place(*row[1:])) for row in rows]

    path = segments.path(segment)
    moved = 0
    for some in _slices(await readers.run(live)):
        bodies = await readers.run(lambda _, some=some: _read(path, some))  # type: ignore[misc]
        if bodies is None:
            trace.note("segment damaged", segment=segment, reason="a body does not have its digest; nothing is moved")
            return
        await writer.run(lambda tx, some=some: _moved(tx, some), bodies)  # type: ignore[misc]
        moved += len(some)
    trace.note("segment compacted", segment=segment, bodies=moved)


def _read(path: Path, some: Sequence[Live]) -> list[SmallBody] | None:
    bodies: list[SmallBody] = []
    for each in some:
        with BodyFile(path, each.place) as file:
            if not file.is_sound():
                return None
            bodies.append(SmallBody(file.read(0, file.size), each.place.digest))
    return bodies


def _moved(tx: Transaction, some: Sequence[Live]) -> None:
    for each, place in zip(some, tx.places, strict=True):
        tx.db.execute(
            "UPDATE body SET segment = ?, offset = ? WHERE id = ? AND segment = ? AND offset = ?",
            (place.segment, place.offset, each.body, each.place.segment, each.place.offset),
        )
        tx.left.add(each.place.segment)


def _slices(live: Sequence[Live]) -> list[list[Live]]:
    slices: list[list[Live]] = []
    size = SLICE
    for each in live:
        if size + each.place.size > SLICE:
            slices.append([])
            size = 0
        slices[-1].append(each)
        size += each.place.size
    return slices
