"""HIGHESTMODSEQ as clients see it across changes of home: `epoch << 40 | the server's`.

Knows the pairs of marks that passes left. Does not know which client asks. RFC 7162 allows 63 bits.
"""

from __future__ import annotations

from collections.abc import Iterable

from onedomain.model.replica import LinkState, Listing, Pass

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


def modseqs_go_on(was: LinkState, now: Listing) -> bool:
    """Whether every folder that a client may know MODSEQs of, from when this server was the primary (`was`, there it is
    the source), is the same one: changes that a link carried there since have MODSEQs above. A folder that was made
    anew after a loss counts from 1, and its clients would be told of nothing.

    Only for servers that make identities by themselves: elsewhere a link may have given it.
    """
    known = {link.source.uidvalidity: link for link in was.folders if not link.gone}
    for folder in now.folders:
        link = known.get(folder.mark.uidvalidity)
        if link is None:
            continue
        if not link.identity or folder.identity != link.identity or folder.mark.modseq < link.source.modseq:
            return False
    return True


def thinned(passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
    """The newest ones, and of the older ones every other, so that the reach grows while the room does not."""
    if len(passes) <= KEPT:
        return passes
    half = KEPT // 2
    return (*passes[:-half:2], *passes[-half:])[-KEPT:]
