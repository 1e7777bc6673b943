"""What is written is read back, whatever is in it; what is no record of ours is told apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.failure import Failure, Kind
from onedomain.model.message import Envelope, Outcome, State, Target
from onedomain.queue import record
from onedomain.store.segment import Position

text = st.text(st.characters(), max_size=20)  # lone surrogates among them: a server's reply may be anything
failures = st.builds(Failure, st.sampled_from(Kind), st.integers(400, 599), text, text, text)
outcomes = st.builds(Outcome, st.sampled_from(State), text, text, st.none() | failures)
places = st.builds(Position, st.integers(1, 9), st.integers(0, 2**40), st.integers(0, 2**24))
envelopes = st.builds(
    Envelope, text, st.lists(st.builds(Target, text, text, text, text), max_size=4).map(tuple), st.booleans(),
    st.booleans(), text, text, text, text,
)
heads = st.builds(
    record.Head, st.just("0123456789abcdefg"), st.floats(0, 4e9), st.integers(0, 2**40), envelopes, text,
    st.lists(places, max_size=3).map(tuple), text,
    st.lists(st.tuples(st.integers(0, 9), outcomes), max_size=3).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(heads, st.binary(max_size=100))
def test_messages(head: record.Head, body: bytes) -> None:
    payload = record.message_head(record.pack_meta(head)) + body
    meta, found = record.split_message(payload)
    assert found == body
    assert record.read_meta(meta) == head


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_outcomes(outcome: Outcome) -> None:
    event = record.unpack_event(record.pack_outcomes("id", {3: outcome}, 1.5, {}))
    assert event[:2] == ["o", "id"]
    assert record.unpack_outcome(event[2]["3"]) == outcome


@pytest.mark.parametrize("payload", [b"", b"M", b"M\x01", b"M\x02\0\0\0\0", b"C\x01abc", b"\x01[]"])
def test_what_is_no_message(payload: bytes) -> None:
    with pytest.raises(record.BadRecord):
        record.split_message(payload)


@pytest.mark.parametrize("payload", [b"", b"\x02[]", b"\x01[]", b"\x01{}", b"\x01\"a\""])
def test_what_is_no_event(payload: bytes) -> None:
    with pytest.raises(record.BadRecord):
        record.unpack_event(payload)


def test_keys_of_a_later_version_are_ignored() -> None:
    head = record.Head("i", 1.0, 0, Envelope("s", ()))
    meta = record.pack_meta(head)
    assert record.read_meta(meta[:-1] + b',"later":{"x":1}}') == head
