"""Which of an account's folders a Cyrus empties by age: what cyr_expire goes by is an annotation that may be asked.

Knows the annotation and METADATA (RFC 5464). Does not know other brands: Dovecot's autoexpunge stands in its
configuration, which neither IMAP nor doveadm over HTTP tells, and goes by the day on which a message was saved.
"""

from __future__ import annotations

from onedomain.backend.base import Lookup
from onedomain.backend.finding import folders_of
from onedomain.backend.imap_session import ImapSession

EXPIRE = "/shared/vendor/cmu/cyrus-imapd/expire"
MOST = 500
"""Folders of one account that are asked for."""


async def read_expiries(session: ImapSession) -> dict[str, int] | None:
    """Days by folder; None where nobody tells. Raises Trouble, and ResponseError for answers of odd shape."""
    if "METADATA" not in session.capabilities:
        return None
    folders = await folders_of(session)
    if isinstance(folders, Lookup):
        return None
    found: dict[str, int] = {}
    for folder in folders[:MOST]:
        answer = await session.ask("GETMETADATA", folder, EXPIRE)
        if not answer.ok:
            continue  # removed since, or of the kind that has none
        for response in answer.named("METADATA"):
            for days in (value for each in response.values if isinstance(each, list) for value in each[1::2]):
                if isinstance(days, bytes) and days.isdigit() and int(days):
                    found[folder.decode("utf-8", "replace")] = int(days)
    return found
