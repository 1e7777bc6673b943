"""The directory on this machine's own disk, so that an edge starts while the database is away.

A file of lines: a head, the whole directory, then the changes as they came, each line with a checksum; written anew
when the changes outgrow the rest. Its modification time is the last moment it was known to be what the database says.
Does not know the database.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from onedomain.directory.delta import Delta

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Head:
    """`database` is the id of the database it was taken from; `at` its age in seconds since 1970."""

    database: str
    at: float


class Snapshot:
    """One file, one writer. Blocks on the disk: to be called in a thread while a loop runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole_size = 0
        self._size = 0

    def read(self) -> tuple[Head, Iterator[Delta]] | None:
        """The head and the deltas, up to the first line that is torn or damaged; None without a usable file."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            at = os.fstat(file.fileno()).st_mtime
            lines = file.read().split(b"\n")
        try:
            head = json.loads(_checked(lines[0]))
            if head["format"] != FORMAT:
                return None
            found = Head(str(head["database"]), at)
        except (ValueError, KeyError, TypeError):
            return None
        deltas = list(_deltas(lines[1:]))
        # Without its end the whole directory is not there, and its parts must not be taken for it.
        if not any(delta.whole and not delta.more for delta in deltas):
            return None
        return found, iter(deltas)

    def write(self, database: str, deltas: Iterable[Delta]) -> None:
        """A new file with the whole directory, in place of the old one at once. Durable on return."""
        new = self._path.with_name(self._path.name + ".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            head = json.dumps({"format": FORMAT, "database": database}).encode() + b"\n"
            self._whole_size = file.write(_line(head))
            for delta in deltas:
                self._whole_size += file.write(_line(delta.encode()))
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, self._path)
        _sync_folder(self._path.parent)
        self._size = self._whole_size

    def add(self, delta: Delta) -> bool:
        """Append a change, durably. False: the file is not this writer's, or long enough to be written anew."""
        if not self._size or self._size > 2 * self._whole_size + 65536:
            return False
        with self._path.open("r+b") as file:
            file.truncate(self._size)  # what a failed append left
            file.seek(self._size)
            written = file.write(_line(delta.encode()))
            file.flush()
            os.fdatasync(file.fileno())
        self._size += written
        return True

    def still_true(self, at: float) -> None:
        """The database said so at `at`, in seconds since 1970."""
        if self._size:
            os.utime(self._path, (at, at))


def _line(encoded: bytes) -> bytes:
    return b"%08x %b" % (zlib.crc32(encoded[:-1]), encoded)


def _checked(line: bytes) -> bytes:
    """Raises ValueError where the checksum is another."""
    if len(line) < 9 or int(line[:8], 16) != zlib.crc32(line[9:]):
        raise ValueError("damaged line")
    return line[9:]


def _deltas(lines: list[bytes]) -> Iterator[Delta]:
    for line in lines[:-1]:  # the last piece has no newline behind it: empty, or torn
        try:
            delta = Delta.decode(_checked(line))
        except ValueError:
            return
        yield delta


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
