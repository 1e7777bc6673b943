"""What a link remembers of messages that no saved mark covers."""

from __future__ import annotations

import pytest

from onedomain.model.replica import FolderLink, LinkState, Mark
from onedomain.replica import sent
from onedomain.replica.sent import Sent


def marks(**uidnexts: int) -> LinkState:
    return LinkState(folders=tuple(
        FolderLink(f"s{name}", name, target=Mark(1, uidnext)) for name, uidnext in uidnexts.items()))


def test_what_the_marks_cover_is_forgotten() -> None:
    known = Sent()
    known.add("INBOX", [(4, "d4"), (5, "d5")])
    known.add("Work", [(9, "d9")])
    known.saved(marks(INBOX=5))
    assert known.by_folder() == {"INBOX": {5: "d5"}, "Work": {9: "d9"}}, "Work is not saved at all"
    known.saved(marks(INBOX=6, Work=9))
    assert known.by_folder() == {"Work": {9: "d9"}}


def test_another_folder_under_the_name_has_nothing_of_ours() -> None:
    known = Sent()
    known.add("INBOX", [(4, "d4")])
    known.forget("INBOX")
    known.forget("Work")
    assert not known.by_folder()


def test_there_is_a_limit_above_which_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "MOST", 3)
    known = Sent()
    known.add("INBOX", [(4, "d4"), (5, "d5")])
    known.add("INBOX", [(5, "other")])  # tried again
    known.add("Work", [(1, "d1")])
    assert known.by_folder() == {"INBOX": {4: "d4", 5: "other"}, "Work": {1: "d1"}}
    known.add("Work", [(2, "d2")])
    assert not known.by_folder()
    known.add("Work", [(3, "d3")])
    assert known.by_folder() == {"Work": {3: "d3"}}
