"""What the supervisor read last, for the processes that it started before: in memory that only they have.

Knows how it gets from one to the others in one piece. Does not know who reads files, nor what follows.

They cannot read it themselves: keys and secrets may be readable by root alone, and a file could have changed since it
was checked. Written by the supervisor and never read by it, as it may be more than those who could change it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import time
from dataclasses import dataclass

from onedomain.config import Config

_HEAD = struct.Struct(">Q32s")
TORN_SECONDS = 2.0  # far longer than it takes to write


@dataclass(frozen=True, slots=True)
class Reading:
    """`number` grows with every look at the file. `refused` says what was wrong with it, and is empty if it is in
    force; then `config` is what it says and `certificates` are the PEM files of those that were there at the start.
    """

    number: int
    refused: str
    config: Config | None = None
    certificates: tuple[bytes, ...] = ()


class Handed:
    """Made before the fork; `put` in the supervisor, `get` anywhere else."""

    def __init__(self) -> None:
        self._handle = os.memfd_create("configuration", os.MFD_CLOEXEC)
        self._number = 0
        self._put(Reading(0, ""))

    def put(self, refused: str, config: Config | None = None, certificates: tuple[bytes, ...] = ()) -> None:
        self._number += 1
        self._put(Reading(self._number, refused, config, certificates))

    def _put(self, reading: Reading) -> None:
        data = pickle.dumps(reading)
        os.pwrite(self._handle, _HEAD.pack(len(data), hashlib.sha256(data).digest()) + data, 0)

    def get(self) -> Reading:
        """Raises TimeoutError if no whole one is there."""
        until = time.monotonic() + TORN_SECONDS
        while True:
            size, digest = _HEAD.unpack(os.pread(self._handle, _HEAD.size, 0))
            data = os.pread(self._handle, size, _HEAD.size)
            if hashlib.sha256(data).digest() == digest:
                found: Reading = pickle.loads(data)
                return found
            if time.monotonic() > until:
                raise TimeoutError("the configuration is not whole")
            time.sleep(0.001)  # it is being written: microseconds
