"""Which sessions a change ends, and the places an account has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onedomain.edge.relays import Relays, TooMany, may_stay
from onedomain.model.account import Account, Home
from onedomain.net.shared import SharedTable

JOE = Account("joe@example.com", "head", Home("s1", epoch=3))
ANN = Account("ann@example.com", "head", Home("s1"))


def table() -> SharedTable:
    made = SharedTable()
    made.start(0)
    return made


@pytest.mark.parametrize(
    "now, stays",
    [
        (JOE, True),
        (replace(JOE, unit="branch", password="x", forward_to=("a@b",)), True),
        (replace(JOE, home=Home("s1", ("s2",), 3)), True),
        (replace(JOE, home=Home("s1", ("s2",), 4)), True),
        (replace(JOE, home=Home("s1", ("s2",), 5)), False),
        (replace(JOE, home=Home("s1", ("s2",), 2)), False),
        (replace(JOE, home=Home("s1", epoch=3, no_modseq=True)), False),
        (replace(JOE, home=Home("s1", epoch=3, shown="1 2:3")), False),
        (replace(JOE, home=Home("s2", epoch=4)), False),
        (replace(JOE, home=Home("s1", epoch=4)), True),
        (replace(JOE, home=Home("s2", epoch=3)), False),
        (replace(JOE, mailbox="joseph"), False),
        (replace(JOE, enabled=False), False),
        (None, False),
    ],
)
def test_what_a_change_ends(now: Account | None, stays: bool) -> None:
    relays = Relays(table())
    ended: list[str] = []
    seats = [relays.take(account) for account in (JOE, JOE, ANN)]
    for seat in seats:
        seat.cut = ended.append
    assert relays.account_changed("joe@example.com", now) == (0 if stays else 2)
    assert len(ended) == (0 if stays else 2)
    assert may_stay(JOE, now) == stays
    assert {seat.account for seat in seats[:2]} == {now if stays else JOE} and seats[2].account == ANN
    assert len(relays) == 3
    for seat in seats:
        relays.release(seat)
    assert len(relays) == 0


def test_a_session_of_the_new_home_is_left_alone() -> None:
    relays = Relays(table())
    ended: list[str] = []
    now = replace(JOE, home=Home("s2", epoch=4))
    relays.take(now).cut = ended.append
    relays.take(now)  # still on its way to its home: nothing to cut
    assert relays.account_changed(now.address, now) == 0
    assert relays.cut("nobody@example.com", "x") == 0
    assert relays.cut(now.address, "x") == relays.cut_all("y") == 1
    assert ended == ["x", "y"]


def test_a_session_stays_over_any_number_of_changes_of_replicas_but_no_change_of_primary() -> None:
    relays = Relays(table())
    ended: list[str] = []
    seat = relays.take(JOE)
    seat.cut = ended.append
    for home in (Home("s1", ("s2",), 4), Home("s1", ("s3", "s2"), 5), Home("s1", epoch=6)):
        assert relays.account_changed(JOE.address, replace(JOE, home=home)) == 0
        assert seat.account.home == home
    assert relays.cut_fenced(lambda account: not account.home.replicas) == 0
    assert relays.account_changed(JOE.address, replace(JOE, home=Home("s1", ("s2",), 7))) == 0
    assert relays.cut_fenced(lambda account: not account.home.replicas) == 1, "it needs a lease from then on"
    assert relays.account_changed(JOE.address, replace(JOE, home=Home("s2", ("s1",), 8, pending=True))) == 1
    assert len(ended) == 2


def test_ending_one_may_end_others_of_its_own_accord() -> None:
    relays = Relays(table())
    ended: list[str] = []
    seats = [relays.take(JOE) for _ in range(3)]

    def cut(reason: str) -> None:
        ended.append(reason)
        for seat in seats:
            relays.release(seat)

    for seat in seats:
        seat.cut = cut
    assert relays.cut_all("x") == 3
    assert len(ended) == 3


def test_places() -> None:
    counts = table()
    relays = Relays(counts, limit=2)
    seats = [relays.take(JOE), relays.take(JOE), relays.take(ANN)]
    with pytest.raises(TooMany):
        relays.take(JOE)
    for _ in range(2):
        for seat in seats:
            relays.release(seat)
    assert counts.total("sessions of joe@example.com") == 0
    relays.take(JOE)
    unlimited = Relays(counts)
    for _ in range(100):
        unlimited.take(JOE)
