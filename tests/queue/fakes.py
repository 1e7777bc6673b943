"""Stand-ins for what a spool and its dispatcher are given."""

from __future__ import annotations

from typing import Any

from onedomain.queue.limits import SpoolLimits
from onedomain.queue.spool import Spool
from tests.store.forgetful import ForgetfulDisk
from tests.store.inline import InlineThreads, SeededNonce

# Small enough that a few short messages rotate segments, spill into chunks and get compacted.
TINY = SpoolLimits(inline=300, chunk=200, in_memory=10_000, fresh=0, room=0, messages=100, segment=2500)


class ManualClock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class ListTrace:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def named(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


async def open_spool(
    disk: ForgetfulDisk,
    directory: str = "/spool/0",
    *,
    seed: int = 0,
    clock: ManualClock | None = None,
    trace: ListTrace | None = None,
    limits: SpoolLimits = TINY,
    **more: Any,
) -> Spool:
    disk.make_directory("/spool")
    return await Spool.open(
        directory,
        disk=disk,
        clock=clock or ManualClock(),
        nonce=SeededNonce(seed),
        trace=trace or ListTrace(),
        limits=limits,
        threads=lambda count: InlineThreads(),
        **more,
    )
