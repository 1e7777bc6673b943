"""Pauses grow, end at their longest, and are never all the same; failures are told apart by whom they are about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedomain.decision.retry import DAY, HOUR, Patience, Pauses, expired, is_of_server, late, too_late
from onedomain.model.failure import Failure, Kind, again, give_up
from onedomain.model.message import Outcome, State


def test_pauses_double_up_to_the_longest() -> None:
    pauses = Pauses(1, 300, jitter=0)
    assert [pauses.after(failures, 0.5) for failures in range(1, 12)] == [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300
    ]


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_pauses_stay_within_their_bounds(failures: int, chance: float) -> None:
    pause = Pauses(5, 1800).after(failures, chance)
    assert 5 * 0.8 <= pause <= 1800
    assert pause == Pauses(5, 1800, jitter=0).after(failures, 0) * (1 - 0.2 * chance)


@pytest.mark.parametrize(("failure", "of_server"), [  # as we found it ourselves
    (again(421, "4.3.2", "closing"), True),
    (again(421, "", "closing"), True),
    (again(451, "4.4.1", "refused"), True),
    (again(451, "4.4.2", "lost"), True),
    (again(452, "4.3.1", "full"), True),
    (again(450, "4.2.0", "greylisted"), False),
    (again(452, "4.2.2", "over quota"), False),
    (again(451, "4.7.1", "policy"), False),
    (again(451, "4.3.0", "queue file write error"), False),
    (again(451, "", "no code"), False),
    (give_up(554, "5.4.4", "no route"), False),
    (Failure(Kind.REFUSE, 421, "4.7.0", "go away"), False),
])
def test_whom_a_failure_is_about(failure: Failure, of_server: bool) -> None:
    assert is_of_server(Outcome(State.AGAIN, "s", failure=failure)) is of_server


@pytest.mark.parametrize(("reply", "of_server"), [
    ("421 4.3.2 closing", True),
    ("452 4.3.1 full", True),
    ("451 4.4.0 DNS query failed", False),      # Exchange Online, of one recipient's domain
    ("450 4.4.1 connection timed out", False),  # Postfix, reject_unverified_recipient
])
def test_what_a_server_says_of_the_way_beyond_it_is_not_about_itself(reply: str, of_server: bool) -> None:
    code, enhanced, text = reply.split(" ", 2)
    assert is_of_server(Outcome(State.AGAIN, "s", reply, again(int(code), enhanced, text))) is of_server


def test_when_to_stop_and_when_to_say_something() -> None:
    patience = Patience(warn_after=4 * HOUR, give_up_after=5 * DAY)
    assert [(late(0, now, patience), expired(0, now, patience)) for now in (
        0, 4 * HOUR - 1, 4 * HOUR, 5 * DAY - 1, 5 * DAY
    )] == [(False, False), (False, False), (True, False), (True, False), (False, True)]
    assert not late(0, 4 * HOUR, Patience(warn_after=0)), "0 is never"


def test_giving_up_keeps_the_last_words() -> None:
    failure = too_late(again(450, "4.2.2", "Mailbox full", "quota 1G"))
    assert str(failure) == "554 5.4.7 Delivery time expired (last: 450 4.2.2 Mailbox full)"
    assert failure.kind is Kind.GIVE_UP
    assert str(too_late(None)) == "554 5.4.7 Delivery time expired"
