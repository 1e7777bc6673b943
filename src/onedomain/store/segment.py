"""One file of a journal: a header with a secret of its own, then records that can neither be forged nor mistaken.

Layout, version 1, integers big-endian:

    header   512 bytes, twice:  magic 8 | version u16 | key 16 | number u64 | checksum 8 | zeros
    record   marker 4 | length u32 | checksum 8 | payload

The key is random for each segment. Marker and checksum are made with it, so that no payload can look like a record, and
the checksum covers the record's place, so that a record copied elsewhere is none. After damage the next marker whose
checksum is right is the next record: one flipped bit costs one record.

Knows bytes and its file. Does not know what the payloads mean, nor when to sync.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from onedomain.store.disk import FULL, Disk, File

MAGIC = b"1DJOURN\n"
VERSION = 1
OLDEST_VERSION = 1
KEY_SIZE = 16
COPY_SIZE = 512  # a sector: one that goes bad leaves the other copy
HEADER_SIZE = 2 * COPY_SIZE
RECORD_HEADER_SIZE = 16
MAX_RECORD = 16 << 20
WINDOW = 1 << 20
# Of what is damaged this much at most is kept aside for a human to look at.
MOST_SET_ASIDE = 16 << 20

_HEADER = struct.Struct(">8sH16sQ")
_RECORD = struct.Struct(">4sI8s")
_PLACE = struct.Struct(">QI")


class Position(NamedTuple):
    """Where a payload is: number of the segment, offset of its record, length of the payload in bytes."""

    segment: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no record. `tail` if nothing valid follows: most likely a write that the crash cut off."""

    segment: int
    offset: int
    length: int
    reason: str
    tail: bool = False


class BadHeader(ValueError):
    """Neither copy of the header can be used; the text says why."""


class Sealer:
    """Makes and checks the marker and checksums of one segment."""

    __slots__ = ("_empty", "marker", "number")

    def __init__(self, number: int, key: bytes) -> None:
        self.number = number
        # Person strings keep the two uses of one key apart (blake2b's own means, RFC 7693 section 2.5 leaves room).
        self.marker = blake2b(key=key, digest_size=4, person=b"marker").digest()
        self._empty = blake2b(key=key, digest_size=8, person=b"record")

    def checksum(self, offset: int, length: int, buffers: Sequence[bytes | memoryview]) -> bytes:
        digest = self._empty.copy()
        digest.update(_PLACE.pack(offset, length))
        for buffer in buffers:
            digest.update(buffer)
        return digest.digest()

    def header(self, offset: int, length: int, buffers: Sequence[bytes]) -> bytes:
        return _RECORD.pack(self.marker, length, self.checksum(offset, length, buffers))


def pack_header(number: int, key: bytes) -> bytes:
    body = _HEADER.pack(MAGIC, VERSION, key, number)
    copy = (body + blake2b(body, digest_size=8).digest()).ljust(COPY_SIZE, b"\0")
    return copy * 2


def unpack_header(data: bytes) -> tuple[int, bytes]:
    """-> number, key. Raises BadHeader."""
    reason = "no header"
    for start in (0, COPY_SIZE):
        body = data[start : start + _HEADER.size]
        check = data[start + _HEADER.size : start + _HEADER.size + 8]
        if len(body) < _HEADER.size or not body.startswith(MAGIC):
            continue
        if not hmac.compare_digest(blake2b(body, digest_size=8).digest(), check):
            reason = "checksum of the header is wrong"
            continue
        _, version, key, number = _HEADER.unpack(body)
        if not OLDEST_VERSION <= version <= VERSION:
            raise BadHeader(f"version {version} is not one of {OLDEST_VERSION} to {VERSION}")
        return number, key
    raise BadHeader(reason)


def read_record(file: File, sealer: Sealer, offset: int, length: int) -> bytes | None:
    """The payload of the record at `offset`, or None if it is not (any more) what was written."""
    data = file.read(offset, RECORD_HEADER_SIZE + length)
    if len(data) != RECORD_HEADER_SIZE + length:
        return None
    marker, found_length, check = _RECORD.unpack_from(data)
    payload = data[RECORD_HEADER_SIZE:]
    if marker != sealer.marker or found_length != length:
        return None
    return payload if hmac.compare_digest(sealer.checksum(offset, length, (payload,)), check) else None


def scan(file: File, sealer: Sealer) -> Iterator[tuple[Position, bytes] | Damage]:
    """All records from the first to the last, and the damage between them. Holds one window in memory."""
    size = file.size()
    offset = min(HEADER_SIZE, size)
    window, base = b"", offset
    lost_from: int | None = None
    while offset < size:
        start = offset - base
        if len(window) - start < RECORD_HEADER_SIZE and base + len(window) < size:
            window, base, start = file.read(offset, WINDOW), offset, 0
        payload = None
        if len(window) - start >= RECORD_HEADER_SIZE and window.startswith(sealer.marker, start):
            _, length, check = _RECORD.unpack_from(window, start)
            end = offset + RECORD_HEADER_SIZE + length
            if length <= MAX_RECORD and end <= size:
                if end > base + len(window):
                    window, base, start = file.read(offset, max(WINDOW, end - offset)), offset, 0
                found = memoryview(window)[start + RECORD_HEADER_SIZE : end - base]
                if hmac.compare_digest(sealer.checksum(offset, length, (found,)), check):
                    payload = bytes(found)
        if payload is None:
            lost_from = offset if lost_from is None else lost_from
            offset, window, base = _next_marker(file, sealer.marker, offset + 1, size, window, base)
            continue
        if lost_from is not None:
            yield Damage(sealer.number, lost_from, offset - lost_from, "checksum is wrong")
            lost_from = None
        yield Position(sealer.number, offset, len(payload)), payload
        offset += RECORD_HEADER_SIZE + len(payload)
    if lost_from is not None:
        yield Damage(sealer.number, lost_from, size - lost_from, "no record up to the end", tail=True)


def _next_marker(
    file: File, marker: bytes, offset: int, size: int, window: bytes, base: int
) -> tuple[int, bytes, int]:
    """-> offset of the next marker at or after `offset` (or `size`), and the window it lies in with its base."""
    while offset < size:
        if not base <= offset <= base + len(window) - len(marker):
            window, base = file.read(offset, WINDOW), offset
        found = window.find(marker, offset - base)
        if found >= 0:
            return base + found, window, base
        if base + len(window) >= size:
            break
        # a marker may begin in the last three bytes
        offset = base + len(window) - len(marker) + 1
    return size, b"", size


class Segment:
    """An open segment. `end` is where the next record goes; `entered` whether its name is durable."""

    __slots__ = ("durable", "end", "entered", "file", "name", "number", "sealer")

    def __init__(self, name: str, file: File, sealer: Sealer, end: int, *, entered: bool) -> None:
        self.name = name
        self.file = file
        self.sealer = sealer
        self.number = sealer.number
        self.end = end
        self.durable = end if entered else 0
        self.entered = entered

    @property
    def size(self) -> int:
        return self.end


def set_aside(disk: Disk, directory: str, segment: Segment, damage: Damage) -> None:
    """What is damaged gets a file of its own, once. Where there is no room it is left where it is: what can be read has
    to be, or a full disk stays full. Blocks. Raises OSError.
    """
    data = segment.file.read(damage.offset, min(damage.length, MOST_SET_ASIDE))
    if not data.strip(b"\0"):
        return
    name = f"{segment.name}.{damage.offset}.damaged"
    if name in disk.list_directory(directory):
        return
    try:
        file = disk.open(f"{directory}/{name}", create=True)
        try:
            file.write([data], 0)
        except OSError:
            disk.unlink(f"{directory}/{name}")
            raise
        finally:
            file.close()
    except OSError as error:
        if error.errno not in FULL:
            raise
