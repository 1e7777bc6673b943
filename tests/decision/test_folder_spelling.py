"""Which folder a client means that spells its name otherwise than the server lists it."""

from __future__ import annotations

import pytest

from onedomain.decision.link.folders import meant
from onedomain.model.replica import FolderLink

NAMES = ("INBOX", "INBOX/Deep", "Lists", "lists", "&ZeVnLIqe-a", "a&-b", "&ZeVnLIqe")


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("inbox", "INBOX"),
        ("Inbox/Deep", "INBOX/Deep"),
        ("INBOX/deep", ""),
        ("Lists", "Lists"),
        ("LISTS", ""),
        ("Lists/", "Lists"),
        ("&AEw-ists", "Lists"),
        ("&ZeVnLIqeAGE-", "&ZeVnLIqe-a"),
        ("&ZeU-&ZywxA-", ""),
        ("\u65e5\u672c\u8a9ea", "&ZeVnLIqe-a"),
        ("a&b", "a&-b"),
        ("&ZeVnLIqe", "&ZeVnLIqe"),
        ("&!-", ""),
        ("", ""),
    ],
)
def test_spellings(spelt: str, name: str) -> None:
    assert meant([spelt], [FolderLink(each, each) for each in NAMES], "/") == ({name} if name else set())
