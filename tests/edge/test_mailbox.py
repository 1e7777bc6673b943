"""UID sets: runs, order, doubles, and the length a server takes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.edge.mailbox import SET_LENGTH, uid_sets


def test_runs() -> None:
    assert uid_sets([]) == []
    assert uid_sets([5, 1, 2, 3, 3]) == ["1:3,5"]
    assert uid_sets(range(1, 100_000)) == ["1:99999"]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(1, 2**32 - 1) | st.integers(1, 50), max_size=1500))
def test_every_uid_once_and_no_other(uids: set[int]) -> None:
    sets = uid_sets(uids)
    assert all(len(uid_set) <= SET_LENGTH for uid_set in sets)
    covered = 0
    for part in ",".join(sets).split(",") if sets else []:
        first, _, last = part.partition(":")
        covered += int(last or first) - int(first) + 1
        assert {int(first), int(last or first)} <= uids
    assert covered == len(uids)
