"""Ports on loopback that nobody else takes, also not another test process at the same moment.

Below the kernel's range for outgoing connections (32768 and up), so that no connection of anybody's lands on one. A
claim is an abstract unix socket named after the port: exclusive between processes, gone with the process that held it.
"""

from __future__ import annotations

import errno
import random
import socket

FIRST, LAST = 12_000, 31_999

_claims: dict[int, socket.socket] = {}


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
    if claim := _claims.pop(port, None):
        claim.close()


def _claim(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0onedomain-lab-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims[port] = claim
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
