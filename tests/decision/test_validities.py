"""Which UIDVALIDITYs clients are shown after a change of home: kept, the server's own, or new ones."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from onedomain.decision.link.validities import BURST, canonical, settled
from onedomain.model.replica import Promotion, Shown
from onedomain.model.validities import LARGEST, Validities

NOW = 1_790_000_000.0


def kept(name: str, shown: int, server: int) -> Shown:
    return Shown(name, name, shown, at_server=server)


def lost(name: str, server: int, shown: int = 0) -> Shown:
    return Shown(name, name, shown, renumbered=True, at_server=server)


def values(folders: Sequence[Shown], highest: int) -> dict[str, int]:
    return {each.name: each.uidvalidity for each in settled(folders, highest)}


def test_folders_that_kept_their_uids_are_shown_as_they_were() -> None:
    assert values([kept("INBOX", 10, 500), kept("Sent", 11, 501)], 11) == {"INBOX": 10, "Sent": 11}


def test_others_are_shown_as_the_server_says_where_nobody_was_shown_that() -> None:
    assert values([kept("INBOX", 10, 500), lost("Sent", 501, 11)], 11) == {"INBOX": 10, "Sent": 501}


def test_else_as_something_new() -> None:
    """The server was given the value that clients know, or it is behind."""
    given_ = settled([kept("INBOX", 10, 10), lost("Sent", 11, 11), lost("Junk", 7)], 20)
    assert [each.uidvalidity for each in given_] == [10, 22 + BURST, 21 + BURST]
    assert [each.renumbered for each in given_] == [False, True, True]


def test_the_dead_primary_may_have_made_folders_that_nobody_heard_of() -> None:
    """From the time, and several within its last second."""
    last, now = 1_790_000_000, 1_790_000_500
    (new,) = settled([lost("Sent", last - 1)], last, now)
    assert new.uidvalidity > now + 10
    (new,) = settled([lost("Sent", last - 1)], last, last - 3600)
    assert new.uidvalidity > last + 10, "where its clock is ahead of ours"


def test_two_of_one_value_that_would_be_two_are_one_new() -> None:
    assert values([kept("a", 10, 500), kept("b", 11, 500), kept("c", 12, 501)], 12) == {"a": 502, "b": 502, "c": 12}
    assert values([kept("a", 10, 500), lost("b", 500)], 10) == {"a": 501, "b": 501}
    assert values([kept("a", 10, 500), kept("b", 10, 500)], 10) == {"a": 10, "b": 10}, "they were one before, too"


def test_there_is_no_map_where_all_is_as_it_was() -> None:
    home = Promotion(2, (kept("INBOX", 10, 10), kept("Sent", 11, 11)), highest=30)
    assert not canonical(home, Validities({5: 10}, 40), NOW)
    assert not canonical(Promotion(2, (lost("x", 501, 501),), highest=30), Validities(), NOW)


def test_a_value_from_the_future_is_not_shown_twice() -> None:
    future = int(NOW) + 1000
    found = canonical(Promotion(2, (kept("INBOX", 10, 10),), highest=future), Validities(), NOW)
    assert found.shown(10) == 10
    assert found.shown(int(NOW) + 5) > future


def test_what_was_shown_stays_over_many_homes() -> None:
    first = canonical(Promotion(2, (kept("INBOX", 10, 500),), highest=10), Validities(), NOW)
    assert (first.pairs, first.floor) == ({500: 10}, 10)
    # From there to a third server: what its clients saw of 500 was 10. A folder made meanwhile was shown as it is.
    assert (first.shown(500), first.shown(600)) == (10, 600)
    folders = kept("INBOX", first.shown(500), 900), kept("New", first.shown(600), 901)
    second = canonical(Promotion(3, folders, highest=600), first, NOW)
    assert (second.shown(900), second.shown(901), second.floor) == (10, 600, 600)
    # And back to the first one, where INBOX was always 10.
    third = canonical(Promotion(4, (kept("INBOX", 10, 10),), highest=600), second, NOW)
    assert not third


FOLDERS = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.booleans()), max_size=6
).map(lambda rows: [Shown(str(n), str(n), shown, renumbered=gone, at_server=server)
                    for n, (shown, server, gone) in enumerate(rows)])  # fmt: skip


@given(FOLDERS, st.integers(0, 20), st.booleans())
def test_what_is_shown_hangs_on_the_servers_value_alone(folders: list[Shown], floor: int, late: bool) -> None:
    highest = max([floor, *(each.uidvalidity for each in folders if not each.renumbered)])
    before = Validities({}, floor)
    found = settled(folders, highest)
    shown = canonical(Promotion(2, found, highest=highest), before, NOW if late else 0.0)
    for was, now in zip(folders, found, strict=True):
        assert shown.shown(was.at_server) == now.uidvalidity <= LARGEST, "the relay shows what the report says"
        if now.renumbered:
            assert now.uidvalidity > highest, "nobody was ever shown it"
        else:
            assert now.uidvalidity == was.uidvalidity
