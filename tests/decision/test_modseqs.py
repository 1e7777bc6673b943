"""A server that is the primary again: whether its MODSEQs mean what clients remember of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onedomain.decision.link.marks import modseqs_go_on
from onedomain.model.replica import Folder, FolderLink, LinkState, Listing, Mark

INBOX = Folder("INBOX", Mark(10, 5, 700), "guid-1")
SENT = Folder("Sent", Mark(11, 3, 90), "guid-2")
WAS = LinkState(3, (
    FolderLink("INBOX", "INBOX", "guid-1", Mark(10, 4, 600), Mark(99, 4, 20)),
    FolderLink("Sent", "Sent", "guid-2", Mark(11, 3, 90), Mark(98, 3, 20)),
))  # fmt: skip


@pytest.mark.parametrize(("now", "go_on"), [
    ((INBOX, SENT), True),
    ((INBOX, replace(SENT, name="Post/Sent")), True),
    ((INBOX,), True),  # deleted meanwhile
    ((INBOX, SENT, Folder("New", Mark(12, 1, 1), "guid-3")), True),  # nobody was shown MODSEQs of it
    ((INBOX, Folder("Sent", Mark(12, 1, 1), "guid-3")), True),  # made anew by its user, under another UIDVALIDITY
    ((INBOX, replace(SENT, identity="guid-3")), False),  # made anew by a link, with the old UIDVALIDITY
    ((replace(INBOX, mark=Mark(10, 5, 599)), SENT), False),  # put back in time
    ((replace(INBOX, identity=""), SENT), False),
])
def test_only_where_every_folder_is_the_same_one(now: tuple[Folder, ...], go_on: bool) -> None:
    assert modseqs_go_on(WAS, Listing(now)) is go_on


def test_nobody_knows_without_identities() -> None:
    was = LinkState(3, (replace(WAS.folders[0], identity=""),))
    assert not modseqs_go_on(was, Listing((replace(INBOX, identity=""),)))
