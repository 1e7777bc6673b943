"""Taking over the spool of a worker slot that is no more.

The dead slot's directory is first moved into ours by one rename: from then on it is ours alone, and opening our spool
goes on with it after a crash. It is removed when all of it is durable in our own journals.

Knows names and order. Does not know what the records mean.
"""

from __future__ import annotations

from onedomain.store.disk import Disk

PREFIX = "adopted-"
DAMAGED = ".damaged"


def is_adopted(name: str) -> bool:
    return name.startswith(PREFIX) and not name.endswith(DAMAGED)


def take_over(disk: Disk, directory: str, own: str) -> str:
    """Moves the directory into `own` -> its new path, or "" if there is none. Blocks.

    Raises BlockingIOError while a process still has it, OSError.
    """
    parent, _, name = directory.rpartition("/")
    if not disk.list_directory(directory):
        return ""
    lock = disk.lock(directory + ".lock")
    try:
        taken = _free_name(disk, own, PREFIX + name)
        disk.rename(directory, taken)
        disk.sync_directory(parent)
        disk.sync_directory(own)
    finally:
        lock.release()
    return taken


def unnest(disk: Disk, directory: str, own: str) -> list[str]:
    """What the dead worker had itself been adopting becomes ours, too -> the new paths. Blocks; OSError."""
    moved = []
    for name in disk.list_directory(directory):
        if is_adopted(name):
            taken = _free_name(disk, own, name)
            disk.rename(f"{directory}/{name}", taken)
            moved.append(taken)
    if moved:
        disk.sync_directory(directory)
        disk.sync_directory(own)
    return moved


def clear(disk: Disk, directory: str, own: str, *, keep: bool) -> None:
    """Removes an adopted directory. What is damaged stays in `own` for a human; with `keep` everything does. Blocks."""
    name = directory.rpartition("/")[2]
    for file in disk.list_directory(directory):
        path = f"{directory}/{file}"
        if keep or file.endswith(DAMAGED):
            disk.rename(path, f"{own}/{name}.{file.removesuffix(DAMAGED)}{DAMAGED}")
        else:
            disk.unlink(path)
    disk.sync_directory(directory)
    disk.remove_directory(directory)
    disk.sync_directory(own)


def _free_name(disk: Disk, own: str, name: str) -> str:
    taken = set(disk.list_directory(own))
    while name in taken:
        name += "-"
    return f"{own}/{name}"
