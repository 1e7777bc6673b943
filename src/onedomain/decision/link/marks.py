"""HIGHESTMODSEQ as clients see it across changes of home: `epoch << 40 | the server's`.

Knows the pairs of marks that passes left. Does not know which client asks. RFC 7162 allows 63 bits.
"""

from __future__ import annotations

from collections.abc import Iterable

from onedomain.model.replica import Pass

SHIFT = 40
LIMIT = 1 << SHIFT
KEPT = 8
"""Pairs may be thinned freely: fewer only means that more flags are sent again."""


def shown(epoch: int, modseq: int) -> int | None:
    """What a client is told; None: this folder has to answer NOMODSEQ."""
    return epoch << SHIFT | modseq if 0 < modseq < LIMIT else None


def translated(value: int, epoch: int, passes: Iterable[Pass]) -> int:
    """The server's MODSEQ to ask for, for a client that knows `value`. 0: everything's flags again, no bodies.

    `passes` are those of the epoch before `epoch`. A client that has seen more than the last pass began with may have
    seen what was lost, and one older than any pass kept may have missed anything.
    """
    its_epoch, modseq = value >> SHIFT, value & (LIMIT - 1)
    if its_epoch == epoch:
        return modseq
    known = tuple(passes)
    if its_epoch != epoch - 1 or not known or modseq > known[-1].before:
        return 0
    return max((step.target for step in known if step.after <= modseq), default=0)


def thinned(passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
    """The newest ones, and of the older ones every other, so that the reach grows while the room does not."""
    if len(passes) <= KEPT:
        return passes
    half = KEPT // 2
    return (*passes[:-half:2], *passes[-half:])[-KEPT:]
