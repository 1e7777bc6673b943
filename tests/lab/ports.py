"""Ports on loopback that nobody else takes, also not another test process at the same moment.

Below the kernel's range for outgoing connections (32768 and up), so that no connection of anybody's lands on one. A
claim is a lock (fcntl(2)) on the octet of one file that has the port's number: exclusive between processes, gone with
the process that held it, and a thousand of them cost no more open files than one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

FIRST, LAST = 12_000, 31_999

_claims: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now and stays claimed until this process ends."""
    candidates = range(FIRST, LAST + 1)
    start = random.randrange(len(candidates))
    for step in range(len(candidates)):
        port = candidates[(start + step) % len(candidates)]
        if port not in _claims and _claim(port) and _is_free(host, port):
            return port
    raise RuntimeError(f"no free port from {FIRST} to {LAST}")


def release_port(port: int) -> None:
    """Give a claim back, for tests that take thousands."""
    if port in _claims:
        _claims.discard(port)
        fcntl.lockf(_file(), fcntl.LOCK_UN, 1, port)


@cache
def _file() -> int:
    """Opened once and never closed: closing any descriptor of it would give up all locks of this process."""
    path = Path(tempfile.gettempdir()) / "onedomain-lab-ports"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _claim(port: int) -> bool:
    try:
        fcntl.lockf(_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    _claims.add(port)
    return True


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as failure:
            # An address inside a network namespace: nobody else's servers are there.
            if failure.errno == errno.EADDRNOTAVAIL:
                return True
            release_port(port)
            return False
    return True
