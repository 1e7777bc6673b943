"""Whose turn it is at a server, and how fast."""

from __future__ import annotations

from onedomain.decision.retry import Pauses
from onedomain.queue.lane import Job, Lane

A, B, C = Job("a", False), Job("b", False), Job("c", False)


def lane() -> Lane:
    return Lane("s", Pauses(1, 8, jitter=0))


def drain(one: Lane, now: float = 0, limit: int = 10) -> list[Job]:
    jobs = []
    while (job := one.next(now, limit)) is not None:
        one.active += 1
        jobs.append(job)
    return jobs


def test_first_come_first_served_and_nobody_twice() -> None:
    one = lane()
    for job in (A, B, A, C, B):
        one.add(job)
    assert len(one) == 3
    assert drain(one, limit=2) == [A, B]
    one.active -= 1
    assert drain(one, limit=2) == [C]


def test_a_failing_server_gets_one_try_after_each_pause() -> None:
    one = lane()
    for job in (A, B, C):
        one.add(job)
    assert one.next(0, 10) == A
    assert one.failed(0, 0)
    assert not one.failed(0.5, 0), "others that fail at the same time are the same failure"
    assert drain(one, 0.9) == []
    assert drain(one, 1) == [B]
    assert one.failed(1, 0)
    assert one.paused_until == 3
    one.active = 0
    assert drain(one, 3) == [C]


def test_what_waits_for_the_server_goes_when_it_works_again() -> None:
    one = lane()
    one.failed(0, 0)
    one.failed(1, 0)
    one.defer(A, 100, parked=True)
    one.defer(B, 100, parked=False)
    assert drain(one, 50) == []
    one.worked()
    assert drain(one) == [A], "B waits for itself"
    assert one.due(B, 100)
    assert drain(one) == [B]


def test_one_failure_may_be_the_messages_own_fault() -> None:
    one = lane()
    one.failed(0, 0)
    one.defer(A, 100, parked=True)
    one.worked()
    assert drain(one) == []
    one.kick()
    assert drain(one) == [A]


def test_a_moment_that_was_overtaken_is_none() -> None:
    one = lane()
    one.defer(A, 5, parked=True)
    one.kick()
    assert not one.due(A, 5)
    one.defer(A, 7, parked=True)
    assert not one.due(A, 5)
    assert one.until(A) == 7
    one.add(A)
    assert drain(one) == [], "it waits; adding it again changes nothing"
    one.wake(A)
    one.wake(B)
    assert drain(one) == [A, B]


def test_what_is_over_leaves_nothing_behind() -> None:
    one = lane()
    assert [one.tried(A), one.tried(A)] == [1, 2]
    one.add(A)
    one.forget(A)
    assert drain(one) == []
    assert len(one) == 0
    assert one.tried(A) == 1
