"""Which UIDVALIDITYs clients are shown at a new primary: those that they know, where UIDs are the same.

Knows what a promotion found. Does not know how they come to be shown (protocol/imap/rewriter). The rules:

- A folder whose UIDs could be kept is shown as it was, whatever the server says.
- Any other is shown as the server says if that is above all that was ever shown, else as a new value. The old primary
  may have made and shown folders that nobody heard of: new values are above what it can have made from the time.
- Folders of one UIDVALIDITY that would have to be shown as different ones are shown as one new value: their clients
  load them anew. Drivers see to it that such folders don't come to be (backend/link/folders.py).
- Where all is shown as it is, and what the server makes later will be above all that was shown, there is no map.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from onedomain.model.replica import Promotion, Shown
from onedomain.model.validities import Validities

BURST = 20
"""Folders that a server may have made within one second: each has a value above the one before."""


def settled(folders: Iterable[Shown], highest: int, now: int = 0) -> tuple[Shown, ...]:
    """The same with the values that are shown of those that are `renumbered`; all with their `at_server`. `highest`: of
    what was shown until now, as far as it is known; `now` in seconds since 1970.
    """
    folders = tuple(folders)
    kept: dict[int, set[int]] = defaultdict(set)
    for each in folders:
        kept[each.at_server].add(0 if each.renumbered else each.uidvalidity)
    made: dict[int, int] = {}
    following = max([highest + BURST, now + BURST, *kept])
    for value in sorted(kept):
        if kept[value] == {0} and value > highest:
            made[value] = value
        elif 0 in kept[value] or len(kept[value]) > 1:
            following += 1
            made[value] = following
    return tuple(
        replace(each, uidvalidity=made[each.at_server], renumbered=True) if each.at_server in made else each
        for each in folders
    )


def canonical(promotion: Promotion, before: Validities, now: float) -> Validities:
    """What is shown at the new primary. `before`: at the old one; `now` in seconds since 1970, from which servers make
    the values of new folders.
    """
    pairs = {each.at_server: each.uidvalidity for each in promotion.folders if each.at_server}
    floor = max([before.floor, promotion.highest, *pairs.values()])
    if floor <= now and all(server == shown for server, shown in pairs.items()):
        return Validities()
    return Validities(pairs, floor)
