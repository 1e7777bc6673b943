"""Telling a client that comes back what it has missed (RFC 7162 section 3.2): VANISHED (EARLIER) and changed flags.

Knows what was forgotten and how the answer stays right all the same. Does not know how expunges are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

from onedomain.model.uids import Range
from onedomain.node.imap.talk import Talk
from onedomain.node.imap.view import View
from onedomain.node.store import expunges, folders
from onedomain.node.store.readers import Reading
from onedomain.protocol.imap import command as c
from onedomain.protocol.imap.sequence import SequenceSet, format_ranges, format_set

MAX_PAIRS = 20_000


async def resync(talk: Talk, view: View, known: c.Resync) -> None:
    """What SELECT with QRESYNC adds to its answer, where the UIDVALIDITY is still the same."""
    last = max(view.uidnext - 1, 1)
    within = known.known.resolve(last) if known.known is not None else [(1, last)]
    await vanished(talk, view, known.modseq, within, known.pairs)
    changed = SequenceSet(tuple(within))
    for uid in view.index.since(known.modseq):
        message = view.index.get(uid)
        if message is not None and view.sequence(uid) and changed.has(uid):
            talk.say(view.fetch_flags(message))


async def vanished(
    talk: Talk, view: View, modseq: int, within: Sequence[Range], pairs: tuple[SequenceSet, SequenceSet] | None = None
) -> None:
    """`VANISHED (EARLIER)` for what of `within` went after `modseq`; the session does not have it any more.

    Where the node has forgotten some, everything that is not there is named: a client is told of UIDs it never had
    rather than left with one that is gone (section 3.2.6). `pairs` that still hold shorten that.
    """
    folder = view.index.folder.id
    uids = view.uids
    last = view.uidnext - 1

    def read(reading: Reading) -> list[int] | None:
        found = folders.by_id(reading.db, folder)
        return expunges.since(reading.db, folder, modseq) if expunges.knows(found, modseq) else None

    gone = await talk.store.read(read)
    if gone is not None:
        wanted = SequenceSet(tuple(within))
        line = format_set(uid for uid in gone if wanted.has(uid) and not view.sequence(uid))
    else:
        first = _agreed(uids, pairs) + 1 if pairs is not None else 1
        bounded = ((max(low, first), min(high, last)) for low, high in within)
        line = format_ranges(expunges.absent(uids, (each for each in bounded if each[0] <= each[1])))
    if line:
        talk.say(b"* VANISHED (EARLIER) " + line + b"\r\n")


def _agreed(uids: Sequence[int], pairs: tuple[SequenceSet, SequenceSet]) -> int:
    """The highest UID up to which the client has exactly what is there (section 3.2.5.2): a message still has the
    number that it knows, so nothing before it has gone."""
    numbers, named = (chain.from_iterable(range(low, high + 1) for low, high in each.resolve(0)) for each in pairs)
    agreed = 0
    for number, uid in islice(zip(numbers, named, strict=False), MAX_PAIRS):
        if number > len(uids) or uids[number - 1] != uid:
            break
        agreed = uid
    return agreed
