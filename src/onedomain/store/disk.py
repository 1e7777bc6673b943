"""The disk as a port: the few calls that durability hangs on, so that tests can take the power away between any two.

Knows what each call promises about power loss. Knows nothing of records, messages or event loops: every call blocks,
and those that wait for the device (`sync`, `sync_directory`) belong in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from typing import Protocol

# writev takes at most this many buffers (Linux: IOV_MAX)
MOST_BUFFERS = 1024

# A write that failed for want of room did no harm once it is cut off again; any other failure leaves the file in doubt.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class File(Protocol):
    """An open file. Nothing written is durable before `sync` returns; after a `sync` that failed nothing is known."""

    def size(self) -> int: ...

    def write(self, buffers: Sequence[bytes], offset: int) -> None:
        """All of the buffers, one after the other, from `offset` on. OSError: some of them may have been written."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end."""
        ...

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """fdatasync: the bytes and the size survive power loss. Not the name: that is its directory's."""
        ...

    def close(self) -> None:
        """Whatever is done with it afterwards is an OSError."""
        ...


class Lock(Protocol):
    """Held until released, or until the process ends."""

    def release(self) -> None: ...


class Disk(Protocol):
    """Names and files. A new, renamed or removed name is durable only once its directory has been synced."""

    def open(self, path: str, *, create: bool = False) -> File:
        """For reading and writing. With `create` the file must not exist yet (FileExistsError), else it must."""
        ...

    def sync_directory(self, path: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def make_directory(self, path: str) -> None:
        """With its parents; nothing if it is there. Names made are synced in their parents before it returns."""
        ...

    def remove_directory(self, path: str) -> None:
        """It must be empty."""
        ...

    def list_directory(self, path: str) -> list[str]:
        """Names, sorted; empty if there is no such directory."""
        ...

    def free(self, path: str) -> int:
        """Bytes that may still be written below `path`."""
        ...

    def lock(self, path: str) -> Lock:
        """An exclusive lock on the file `path`, made if need be. BlockingIOError if another process holds it."""
        ...


class RealFile:
    """A file of the operating system."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def write(self, buffers: Sequence[bytes], offset: int) -> None:
        total = sum(map(len, buffers))
        if len(buffers) <= MOST_BUFFERS:
            written = os.pwritev(self._descriptor, buffers, offset)
            if written == total:
                return
        else:
            written = 0
        rest = memoryview(b"".join(buffers))[written:]
        while rest:
            count = os.pwrite(self._descriptor, rest, offset + total - len(rest))
            if not count:
                raise OSError(errno.EIO, "nothing was written")
            rest = rest[count:]

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        while data and (missing := length - sum(map(len, parts))):
            data = os.pread(self._descriptor, missing, offset + length - missing)
            parts.append(data)
        return b"".join(parts)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # os.fdatasync has a ValueError for it
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        # first: the number may be another file's at once
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


class RealLock:
    """flock on an open file: it goes with the process, however that ends."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


class RealDisk:
    """The file system. Files are for their owner only: they hold other people's letters."""

    def open(self, path: str, *, create: bool = False) -> RealFile:
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return RealFile(os.open(path, flags, 0o600))

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_directory(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(os.path.abspath(path))
        self.make_directory(parent)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        self.sync_directory(parent)

    def remove_directory(self, path: str) -> None:
        os.rmdir(path)

    def list_directory(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def free(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def lock(self, path: str) -> RealLock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return RealLock(descriptor)
