"""Whether messages may be deleted from a replica because its primary has lost them.

Knows counts. Does not know why they are gone. Counts over an hour, not a pass: links run after milliseconds, and a
mailbox that melts away message by message would never lose fifty in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onedomain.model.replica import FolderLink

WINDOW = 3600.0


@dataclass(frozen=True, slots=True)
class Brake:
    """More than `messages` and more than `share` of a folder within the window stop its deletions."""

    messages: int = 50
    share: float = 0.30

    def applied(self, link: FolderLink, deletions: int, present: int, now: float) -> FolderLink:
        """The link with these uncommanded deletions counted, `braked` if they are too many.

        `present`: messages of the target's folder before any of them is deleted.
        """
        if now - link.deleted_from >= WINDOW:
            link = replace(link, deleted=0, deleted_from=now)
        deleted = link.deleted + deletions
        if deleted > self.messages and deleted > self.share * (present + link.deleted):
            return replace(link, braked=True)
        return replace(link, deleted=deleted)
