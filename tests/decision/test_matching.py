"""Which folder is which: what a link must not remember of another one."""

from __future__ import annotations

from onedomain.decision.link.folders import match
from onedomain.model.replica import Folder, FolderLink, LinkState, Listing, Mark


def test_another_inbox_has_none_of_the_refused_messages_of_the_one_before() -> None:
    """A move waits for as long as there is a message that only the source has."""
    link = FolderLink("INBOX", "INBOX", "", Mark(10, 9, 5), Mark(99, 9, 5), refused=(3, 4), large=(4,))
    now = Listing((Folder("INBOX", Mark(12, 1, 9)), Folder("Old", Mark(10, 9, 5))))
    (inbox,) = match(LinkState(1, (link,)), now, inbox_left=True).links
    assert inbox.source == Mark(12, 1) and not inbox.refused and not inbox.large
