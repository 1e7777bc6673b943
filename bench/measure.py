"""What a tree of processes has used: CPU seconds and memory, as the kernel counts them in /proc.

Knows proc(5). Does not know what the processes are.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab.keeper import descendants

TICK = 1 / os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def cpu_seconds(root: int) -> float:
    """User and system time of everything below `root`, and of what `root` and they have reaped; not of `root` itself.

    `root` is a child subreaper (tests/lab/keeper.py): what is orphaned below it becomes its child, and what ends is
    reaped by it or by its own parent, so that nothing that ever ran is missing. A process that has just ended and is
    not reaped yet still has its own line.
    """
    spent = _reaped(root)
    for pid in _everything(root):
        spent += _times(pid)
    return spent * TICK


def _everything(root: int) -> list[int]:
    """Unlike `descendants`, with zombies: their time is nobody's else yet."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(PROC):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    queue = list(children.get(root, []))
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def _stat(pid: int) -> list[bytes]:
    """The fields from `state` on; the name before may itself hold blanks and parentheses. Empty: it is gone."""
    try:
        line = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return []
    return line[line.rindex(b")") + 2 :].split()


def _times(pid: int) -> int:
    """utime, stime, cutime and cstime: fields 14 to 17 of proc(5), the first here being the third there."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) if fields else 0


def _reaped(pid: int) -> int:
    fields = _stat(pid)
    return sum(map(int, fields[13:15])) if fields else 0


def memory_kilobytes(root: int) -> int:
    """Proportional set size of everything below `root`: pages that several share are counted once, in parts."""
    return sum(_pss(pid) for pid in descendants(root))


def _pss(pid: int) -> int:
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def own_seconds(pid: int) -> float:
    """User and system time of one process, its children left out."""
    fields = _stat(pid)
    return sum(map(int, fields[11:13])) * TICK if fields else 0.0
