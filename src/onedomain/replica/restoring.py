"""Messages that were set aside are put into a folder of their account's server, each once however often it is tried.

Knows letters and one end. Does not know where they were kept, nor who wants them back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from onedomain.backend.link.base import Letter, LinkEnd
from onedomain.decision.link.actions import Copied, Refused
from onedomain.decision.link.folders import INBOX
from onedomain.decision.link.identity import identity_of


@dataclass(slots=True)
class Restored:
    """`there`: had been in the folder already. `refused`: the server's words for each that it would not take."""

    added: int = 0
    there: int = 0
    refused: list[str] = field(default_factory=list)


async def restore(end: LinkEnd, folder: str, letters: AsyncIterable[Letter]) -> Restored:
    """In their order, into `folder`, one level of the personal namespace (RFC 2342), made where it is not there.

    Raises Failed.
    """
    listing = await end.list_folders()
    folder = folder if folder == INBOX else listing.prefix + folder
    if listing.find(folder) is None:
        await end.create_folder(folder, 0)
        await end.subscribe(folder, True)
    rows = await end.read(folder)
    found = await end.read_identities(folder, [row.uid for row in rows.rows], rows.before.uidvalidity)
    there = Counter(identity.digest for identity in found.values())
    done = Restored()
    async for letter in letters:
        digest = identity_of(letter.raw).digest
        if there[digest]:
            there[digest] -= 1
            done.there += 1
            continue
        for outcome in await end.append(folder, [letter]):
            done.added += isinstance(outcome, Copied)
            if isinstance(outcome, Refused):
                done.refused.append(outcome.reason)
    return done
