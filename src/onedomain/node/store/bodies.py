"""Message bodies on disk: segment files that only grow, each body a record of length, SHA-256 and bytes.

Knows files. Does not know which bodies are still wanted: the rows of `body` do, and tell it. A body's bytes are on disk
before the row that names them is committed, so whatever a crash leaves behind no row speaks of, and `open` removes it.

Small bodies share a segment and one fdatasync; a body above `LARGE` is written as it comes into a segment of its own,
so that neither memory nor the other deliveries feel its size.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

LARGE = 256 * 1024
SEGMENT_SIZE = 64 * 1024 * 1024
HEADER = b"onedomain bodies 1\n"
RECORD = struct.Struct(">Q32s")

FOLDER = "bodies"
_SUFFIX = ".bodies"


class Place(NamedTuple):
    """Where a body is: its segment, the offset of its first byte, its size; and its SHA-256."""

    segment: int
    offset: int
    size: int
    digest: bytes


class Segments:
    """The folder of segments. `append` and `sync` belong to the writer's thread, all else may come from any."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = threading.Lock()
        self._last = 0
        self._open: int | None = None  # descriptor of the shared segment
        self._open_number = 0
        self._end = 0
        self._unsynced = False

    def open(self, known: Iterable[int]) -> list[int]:
        """Remove the segments that no row knows, and return their numbers; a new one is begun at the first append."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        wanted = set(known)
        present = {int(path.stem) for path in self._directory.glob(f"*{_SUFFIX}")}
        orphans = sorted(present - wanted)
        for number in orphans:
            self.path(number).unlink()
        self._last = max(present | wanted, default=0)
        return orphans

    def close(self) -> None:
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def path(self, number: int) -> Path:
        return self._directory / f"{number:012d}{_SUFFIX}"

    def sizes(self) -> dict[int, int]:
        """Bytes of each segment that is there."""
        return {int(path.stem): path.stat().st_size for path in self._directory.glob(f"*{_SUFFIX}")}

    @property
    def shared(self) -> int:
        """The segment that is being appended to, 0 before the first append."""
        return self._open_number

    def append(self, data: bytes, digest: bytes) -> Place:
        """Not durable before `sync`. An OSError leaves no trace: the next append writes over what was begun."""
        if self._open is None or self._end + RECORD.size + len(data) > SEGMENT_SIZE:
            self._begin_shared()
        assert self._open is not None
        record = RECORD.pack(len(data), digest) + data
        _write_all(self._open, record, self._end)
        place = Place(self._open_number, self._end + RECORD.size, len(data), digest)
        self._end += len(record)
        self._unsynced = True
        return place

    def sync(self) -> None:
        """Every appended body is on disk. After an OSError the segment can't be trusted: accept nothing more."""
        if self._unsynced and self._open is not None:
            os.fdatasync(self._open)
            self._unsynced = False

    def draft(self) -> LargeDraft:
        return LargeDraft(self, self._next_number())

    def remove(self, number: int) -> None:
        """No row names it any more. Readers that have it open go on reading."""
        self.path(number).unlink(missing_ok=True)

    def create(self, number: int) -> int:
        """A new segment with its header and a durable name -> descriptor."""
        descriptor = os.open(self.path(number), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, HEADER, 0)
            folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _begin_shared(self) -> None:
        self.sync()
        self.close()
        number = self._next_number()
        self._open = self.create(number)
        self._open_number = number
        self._end = len(HEADER)

    def _next_number(self) -> int:
        with self._numbers:
            self._last += 1
            return self._last


class LargeDraft:
    """A body in a segment of its own, written as it comes. Blocking: call it from a thread. End it either way."""

    def __init__(self, segments: Segments, number: int) -> None:
        self._segments = segments
        self._number = number
        self._descriptor = segments.create(number)
        self._start = len(HEADER) + RECORD.size
        self._size = 0

    def write(self, data: bytes) -> None:
        _write_all(self._descriptor, data, self._start + self._size)
        self._size += len(data)

    def finish(self, digest: bytes) -> Place:
        """On disk when it returns."""
        _write_all(self._descriptor, RECORD.pack(self._size, digest), len(HEADER))
        os.fdatasync(self._descriptor)
        self._close()
        return Place(self._number, self._start, self._size, digest)

    def abort(self) -> None:
        """Also after `finish`, as long as nobody was told of the place."""
        self._close()
        self._segments.remove(self._number)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class BodyFile:
    """One body opened for reading; what happens to its segment meanwhile doesn't matter. Blocking; close it."""

    def __init__(self, path: Path, place: Place) -> None:
        """Raises FileNotFoundError where the segment was removed since `place` was looked up."""
        self.place = place
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def size(self) -> int:
        return self.place.size

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes than `length` only at the end of the body. Raises OSError where the file is cut short."""
        length = max(0, min(length, self.size - offset))
        pieces: list[bytes] = []
        while length:
            piece = os.pread(self._descriptor, length, self.place.offset + offset)
            if not piece:
                raise OSError(f"segment {self.place.segment} ends inside a body at {self.place.offset}")
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def map(self) -> tuple[mmap.mmap, int]:
        """The segment mapped into memory, and where in it the body begins. Close the map; segments are never cut."""
        return mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ), self.place.offset

    def is_sound(self) -> bool:
        """Whether the bytes still have their digest, and the record says so too."""
        digest = hashlib.sha256()
        try:
            for offset in range(0, self.size, LARGE):
                digest.update(self.read(offset, LARGE))
            record = os.pread(self._descriptor, RECORD.size, self.place.offset - RECORD.size)
        except OSError:
            return False
        return digest.digest() == self.place.digest and record == RECORD.pack(self.size, self.place.digest)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> BodyFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
