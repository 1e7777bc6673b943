"""How much a spool takes, and how it cuts up what it takes. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass

from onedomain.store.journal import SEGMENT_SIZE


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Bytes, but for `messages`. `size` of all that waits; `room` has to stay free on the disk for mail to be accepted;
    `in_memory` is what drafts may hold together before they go to the disk early.
    """

    inline: int = 256 << 10
    chunk: int = 256 << 10
    in_memory: int = 64 << 20
    fresh: int = 64 << 20
    room: int = 64 << 20
    messages: int = 1_000_000
    size: int = 10 << 30
    segment: int = SEGMENT_SIZE
