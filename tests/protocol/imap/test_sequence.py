"""Sequence sets beside the plainest way to say what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedomain.protocol.imap.sequence import BadSet, format_set, parse_set

numbers = st.integers(0, 30)
sets = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)


def spelled(ranges: list[tuple[int, int]]) -> bytes:
    return b",".join(b"%b:%b" % tuple(b"%d" % n if n else b"*" for n in pair) for pair in ranges)


@given(sets, st.lists(st.integers(1, 40), unique=True).map(sorted))
def test_what_a_set_of_uids_selects(ranges: list[tuple[int, int]], uids: list[int]) -> None:
    largest = uids[-1] if uids else 0
    wanted = set()
    for a, b in ranges:
        low, high = sorted((a or largest, b or largest))
        wanted |= {at for at, uid in enumerate(uids) if low <= uid <= high}
    assert parse_set(spelled(ranges)).positions_of_uids(uids) == sorted(wanted)


@given(sets, st.integers(0, 40))
def test_what_a_set_of_numbers_selects(ranges: list[tuple[int, int]], count: int) -> None:
    resolved = [tuple(sorted((a or count, b or count))) for a, b in ranges]
    parsed = parse_set(spelled(ranges))
    if not count and all(0 in pair for pair in ranges):
        assert parsed.positions(count) == []
    elif any(high > count or low < 1 for low, high in resolved):
        with pytest.raises(BadSet):
            parsed.positions(count)
    else:
        assert parsed.positions(count) == sorted({n - 1 for low, high in resolved for n in range(low, high + 1)})


@given(st.lists(st.integers(1, 50), unique=True))
def test_a_formatted_set_says_the_same(numbers: list[int]) -> None:
    text = format_set(numbers)
    assert (parse_set(text).positions_of_uids(range(1, 51)) if text else []) == [n - 1 for n in sorted(numbers)]


def test_an_unordered_set_keeps_its_order() -> None:
    assert format_set([5, 6, 2, 3, 9], ordered=False) == b"5:6,2:3,9"


@pytest.mark.parametrize("text", [b"", b"0", b"1,", b",1", b"1:", b"a", b"1::2", b"01", b"4294967296", b"1 2", b"-1"])
def test_what_is_no_set(text: bytes) -> None:
    with pytest.raises(BadSet):
        parse_set(text)
