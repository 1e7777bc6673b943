"""When a safety net may let go of a delivery.

Knows delivery ids and sweeps. Does not know who keeps the net.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SWEEPS = 2
"""Full stable sweeps, begun after the delivery, that have to miss an id before it counts as consumed by a filter."""


@dataclass(frozen=True, slots=True)
class Released:
    """`waiting`: ids that are still held, with the number of sweeps that missed them."""

    confirmed: frozenset[str]
    consumed: frozenset[str]
    waiting: Mapping[str, int]


def release(waiting: Mapping[str, int], confirmed: Iterable[str], begun: Iterable[str], *, whole: bool) -> Released:
    """After one sweep. `begun`: ids whose delivery had been acknowledged before it began; `whole`: it was stable, and
    left nothing uncovered: then everything that the source had is on the target or set aside.
    """
    seen = frozenset(confirmed) & frozenset(waiting)
    older = frozenset(begun) if whole else frozenset()
    missed = {each: count + (each in older) for each, count in waiting.items() if each not in seen}
    consumed = frozenset(each for each, count in missed.items() if count >= SWEEPS)
    return Released(seen, consumed, {each: count for each, count in missed.items() if each not in consumed})
