"""A disk that forgets: what was not synced may be dropped, torn and reordered when the power goes, names included.

It promises exactly what POSIX does and no more: `sync` saves a file's bytes, `sync_directory` its names, nothing else
saves anything. Lose power at any operation with `fail_at`; `crash(seed)` draws one of the states then possible.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SECTOR = 512


class PowerLoss(BaseException):
    """The machine is off: every operation from here on raises this."""


@dataclass(eq=False)
class Inode:
    cached: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    # what was done since the last sync: (offset, bytes), or (size, None) for a truncation
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


@dataclass(eq=False)
class Directory:
    cached: dict[str, Inode | Directory] = field(default_factory=dict)
    durable: dict[str, Inode | Directory] = field(default_factory=dict)


@dataclass(eq=False)
class NameChange:
    """One atomic change of names: each step puts an inode under a name of a directory, or removes it (None)."""

    steps: list[tuple[Directory, str, Inode | Directory | None]]
    missing: set[int]  # ids of directories not yet synced since

    def apply(self) -> None:
        for directory, name, node in self.steps:
            if node is None:
                directory.durable.pop(name, None)
            else:
                directory.durable[name] = node


class ForgetfulFile:
    def __init__(self, disk: ForgetfulDisk, node: Inode) -> None:
        self._disk = disk
        self._node = node
        self._generation = disk.generation
        self._closed = False

    def _step(self, what: str) -> None:
        if self._closed:
            self._disk.after_close.append(what)
            raise OSError(errno.EBADF, "Bad file descriptor")
        if self._generation != self._disk.generation:
            raise PowerLoss
        self._disk.step(what)

    def size(self) -> int:
        return len(self._node.cached)

    def write(self, buffers: Sequence[bytes], offset: int) -> None:
        data = b"".join(buffers)
        room = self._disk.room()
        grows = max(0, offset + len(data) - len(self._node.cached))
        short = grows > room
        if short:
            data = data[: max(0, len(data) - (grows - room))]
        try:
            self._step("write")
        except PowerLoss:
            # the power goes in the middle of it
            self._put(offset, data[: self._disk.random.randrange(len(data) + 1)])
            raise
        self._put(offset, data)
        if short:
            raise OSError(errno.ENOSPC, "No space left on device")

    def _put(self, offset: int, data: bytes) -> None:
        cached = self._node.cached
        if len(cached) < offset:
            cached.extend(bytes(offset - len(cached)))
        cached[offset : offset + len(data)] = data
        self._node.pending.append((offset, data))

    def read(self, offset: int, length: int) -> bytes:
        if self._disk.off or self._generation != self._disk.generation:
            raise PowerLoss
        return bytes(self._node.cached[offset : offset + length])

    def truncate(self, size: int) -> None:
        self._step("truncate")
        del self._node.cached[size:]
        self._node.pending.append((size, None))

    def sync(self) -> None:
        self._step("sync")
        if not self._disk.honest:
            return
        if self._disk.sync_fails():
            # Linux: the pages are clean now, and were never written
            self._node.pending.clear()
            raise OSError(errno.EIO, "Input/output error")
        self._node.durable = bytearray(self._node.cached)
        self._node.pending.clear()

    def close(self) -> None:
        self._closed = True


class ForgetfulLock:
    def __init__(self, disk: ForgetfulDisk, path: str) -> None:
        self._disk = disk
        self._path = path

    def release(self) -> None:
        self._disk.locks.discard(self._path)


class ForgetfulDisk:
    """`fail_at`: operation, counted from 1, at which the power goes. `capacity` in bytes. `honest` False: sync lies."""

    def __init__(self, *, seed: int = 0, capacity: int = 1 << 40, honest: bool = True) -> None:
        self.random = random.Random(seed)
        self.capacity = capacity
        self.honest = honest
        self.operations = 0
        self.log: list[str] = []
        self.after_close: list[str] = []  # what was tried on files that were closed
        self.fail_at = 0
        self.failing_syncs: set[int] = set()
        self.syncs = 0
        self.off = False
        self.generation = 0
        self.locks: set[str] = set()
        self.on_step: Callable[[str], None] | None = None
        self._root = Directory()
        self._changes: list[NameChange] = []

    # -- what the test does

    def step(self, what: str) -> None:
        if self.off:
            raise PowerLoss
        self.operations += 1
        self.log.append(what)
        if self.operations == self.fail_at:
            self.off = True
            raise PowerLoss
        if self.on_step:
            self.on_step(what)

    def sync_fails(self) -> bool:
        self.syncs += 1
        return self.syncs in self.failing_syncs

    def crash(self, seed: int) -> None:
        """The power comes back, and the disk is in one of the states that it may be in."""
        chance = random.Random(seed)
        keep = chance.choice([0.0, 0.3, 0.7, 1.0])
        for change in self._changes:
            if change.missing and chance.random() < keep:
                change.apply()
        self._changes.clear()
        self._settle(self._root, chance, keep, chance.choice([1, 16, SECTOR, SECTOR]))
        self._reset()

    def kill(self) -> None:
        """kill -9: the processes die, the page cache lives."""
        self._reset()

    def _reset(self) -> None:
        self.off = False
        self.fail_at = 0
        self.operations = 0
        self.log.clear()
        self.locks.clear()
        self.generation += 1

    def _settle(self, directory: Directory, chance: random.Random, keep: float, grain: int) -> None:
        directory.cached = dict(directory.durable)
        for node in directory.durable.values():
            if isinstance(node, Directory):
                self._settle(node, chance, keep, grain)
                continue
            content = node.durable
            pending = list(node.pending)
            for offset, data in pending:
                if data is None:
                    if chance.random() < keep:
                        del content[offset:]
                    continue
                # sectors reach the platter in any order: each is there or not
                start = offset
                while start < offset + len(data):
                    end = min(offset + len(data), start - start % grain + grain)
                    if chance.random() < keep:
                        if len(content) < start:
                            content.extend(bytes(start - len(content)))
                        content[start:end] = data[start - offset : end - offset]
                    start = end
            node.durable = content
            node.cached = bytearray(content)
            node.pending = []

    def flip(self, path: str, offset: int, bit: int = 0) -> None:
        node = self._file(path)
        for content in (node.cached, node.durable):
            if offset < len(content):
                content[offset] ^= 1 << bit

    def content(self, path: str) -> bytes:
        return bytes(self._file(path).cached)

    def used(self) -> int:
        return sum(len(node.cached) for node in self._walk(self._root) if isinstance(node, Inode))

    def room(self) -> int:
        return self.capacity - self.used()

    def _walk(self, directory: Directory) -> list[Inode | Directory]:
        found: list[Inode | Directory] = []
        for node in directory.cached.values():
            found.append(node)
            if isinstance(node, Directory):
                found += self._walk(node)
        return found

    # -- the port

    def open(self, path: str, *, create: bool = False) -> ForgetfulFile:
        parent, name = self._parent(path)
        node = parent.cached.get(name)
        if create:
            if node is not None:
                raise FileExistsError(path)
            self.step("create")
            if self.room() <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            node = Inode()
            self._change([(parent, name, node)])
        elif not isinstance(node, Inode):
            raise FileNotFoundError(path)
        assert isinstance(node, Inode)
        return ForgetfulFile(self, node)

    def sync_directory(self, path: str) -> None:
        directory = self._directory(path)
        self.step("sync directory")
        if not self.honest:
            return
        if self.sync_fails():
            raise OSError(errno.EIO, "Input/output error")
        for change in list(self._changes):
            change.missing.discard(id(directory))
            if not change.missing:
                change.apply()
                self._changes.remove(change)

    def rename(self, old: str, new: str) -> None:
        self.step("rename")
        source, source_name = self._parent(old)
        target, target_name = self._parent(new)
        node = source.cached[source_name]
        self._change([(source, source_name, None), (target, target_name, node)])

    def unlink(self, path: str) -> None:
        self.step("unlink")
        parent, name = self._parent(path)
        if not isinstance(parent.cached.get(name), Inode):
            raise FileNotFoundError(path)
        self._change([(parent, name, None)])

    def make_directory(self, path: str) -> None:
        at = self._root
        for part in self._parts(path):
            node = at.cached.get(part)
            if node is None:
                self.step("make directory")
                node = Directory()
                at.cached[part] = node
                at.durable[part] = node
            assert isinstance(node, Directory)
            at = node

    def remove_directory(self, path: str) -> None:
        self.step("remove directory")
        parent, name = self._parent(path)
        if self._directory(path).cached:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        self._change([(parent, name, None)])

    def list_directory(self, path: str) -> list[str]:
        try:
            return sorted(self._directory(path).cached)
        except FileNotFoundError:
            return []

    def free(self, path: str) -> int:
        return max(0, self.room())

    def lock(self, path: str) -> ForgetfulLock:
        if path in self.locks:
            raise BlockingIOError(path)
        self.locks.add(path)
        return ForgetfulLock(self, path)

    # -- names

    def _change(self, steps: list[tuple[Directory, str, Inode | Directory | None]]) -> None:
        for directory, name, node in steps:
            if node is None:
                del directory.cached[name]
            else:
                directory.cached[name] = node
        self._changes.append(NameChange(steps, {id(directory) for directory, _, _ in steps}))

    @staticmethod
    def _parts(path: str) -> list[str]:
        return [part for part in path.split("/") if part]

    def _directory(self, path: str) -> Directory:
        at = self._root
        for part in self._parts(path):
            node = at.cached.get(part)
            if not isinstance(node, Directory):
                raise FileNotFoundError(path)
            at = node
        return at

    def _parent(self, path: str) -> tuple[Directory, str]:
        parts = self._parts(path)
        return self._directory("/".join(parts[:-1])), parts[-1]

    def _file(self, path: str) -> Inode:
        parent, name = self._parent(path)
        node = parent.cached[name]
        assert isinstance(node, Inode)
        return node
