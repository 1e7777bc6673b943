"""Verdicts as tables of sightings: what falls, what does not, and how fast."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.decision.health import Health, Patience, after, fell_together, overall
from onedomain.model.health import Seen, Sighting, Verdict

PATIENCE = Patience()
UP, SLOW, REFUSING, SILENT, DRAINING = Verdict


def run(*steps: tuple[float, str], start: Health | None = None) -> Health:
    """Steps are (now, what): ok, refused, silent, broken; with "t" before it seen by traffic; "silent:2" took 2 s."""
    health = start or Health()
    for now, what in steps:
        name, _, seconds = what.partition(":")
        probe = not name.startswith("t-")
        sighting = Sighting("s", "imap", Seen(name.removeprefix("t-")), float(seconds or 0), name)
        health = after(health, sighting, now, PATIENCE, probe=probe)
    return health


@pytest.mark.parametrize(
    ("verdict", "steps"),
    [
        (UP, []),
        (UP, [(1, "ok:0.01")]),
        (UP, [(1, "refused")]),
        (REFUSING, [(1, "refused"), (1.2, "refused")]),
        (REFUSING, [(1, "broken"), (1.2, "refused")]),
        (REFUSING, [(1, "t-refused"), (1.2, "refused")]),
        (REFUSING, [(1, "refused"), (1.2, "t-refused")]),
        (UP, [(1, "refused"), (1.2, "ok:0.01"), (2, "refused")]),
        (UP, [(1, "t-refused"), (2, "t-refused"), (3, "t-refused")]),  # traffic alone convicts nobody
        (UP, [(1, "ok"), (3.1, "silent:2")]),
        (UP, [(1, "ok"), (3.1, "silent:2"), (3.5, "silent:2")]),  # two open questions, but only 2.4 s of silence
        (SILENT, [(1, "ok"), (3.1, "silent:2"), (4.1, "silent:2")]),
        (SLOW, [(1, "ok"), (3.1, "silent:2"), (3.2, "t-ok:0.1"), (4.1, "silent:2")]),  # something was heard
        (UP, [(1, "ok"), (3.1, "silent:2"), (3.2, "refused"), (4.1, "silent:2")]),
        (UP, [(1, "ok"), (9, "silent:8")]),  # one question, however long: a packet may have been lost
        (SILENT, [(5, "silent:2"), (6, "silent:2")]),
        (SILENT, [(1, "refused"), (1.1, "refused"), (4, "silent:2"), (5, "silent:2")]),
        (REFUSING, [(5, "silent:2"), (6, "silent:2"), (7, "refused"), (7.1, "refused")]),
    ],
)
def test_falls(verdict: Verdict, steps: list[tuple[float, str]]) -> None:
    assert run(*steps).verdict is verdict


@pytest.mark.parametrize(
    ("verdict", "steps", "now"),
    [
        (SILENT, [(1, "ok"), (3.1, "silent:2")], 3.2),
        (SILENT, [(1, "ok"), (3.1, "silent:2")], 5.4),
        (UP, [(1, "ok"), (3.1, "silent:2")], 6),  # the other one is silent for another reason
        (UP, [(1, "ok")], 3.2),
        (UP, [(1, "ok"), (3.1, "t-silent:2")], 3.2),  # traffic alone convicts nobody
        (SLOW, [(2.9, "silent:2"), (3.0, "ok")], 3.2),  # something was heard
        (REFUSING, [(1, "refused"), (1.2, "refused"), (3.1, "silent:2")], 3.2),
    ],
)
def test_falls_with_another_face(verdict: Verdict, steps: list[tuple[float, str]], now: float) -> None:
    other = run((0.5, "ok"), (2.55, "silent:2"), (3.15, "silent:2"))
    assert other.verdict is SILENT
    assert fell_together(run(*steps), other, now, PATIENCE).verdict is verdict


@pytest.mark.parametrize(
    ("verdict", "steps"),
    [
        (REFUSING, [(5, "ok")]),
        (UP, [(5, "ok"), (5.3, "ok")]),
        (REFUSING, [(5, "ok"), (5.1, "refused"), (5.3, "ok")]),  # not in a row
        (REFUSING, [(5, "t-ok"), (5.3, "t-ok"), (6, "ok")]),  # traffic does not bring it back
    ],
)
def test_comes_back(verdict: Verdict, steps: list[tuple[float, str]]) -> None:
    down = run((1, "refused"), (1.2, "refused"))
    assert run(*steps, start=down).verdict is verdict


def good_probes_to_return(health: Health, now: float) -> tuple[int, Health, float]:
    count = 0
    while not health.verdict.usable:
        now += 0.5
        count += 1
        health = run((now, "ok:0.01"), start=health)
    return count, health, now


def test_flapping_is_damped_and_forgotten() -> None:
    health, now, asked = Health(), 0.0, []
    for _ in range(6):
        health = run((now, "refused"), (now + 0.1, "refused"), start=health)
        count, health, now = good_probes_to_return(health, now)
        asked.append(count)
    assert asked == [2, 3, 4, 4, 4, 4]
    now += PATIENCE.memory + 1
    health = run((now, "refused"), (now + 0.1, "refused"), start=health)
    assert good_probes_to_return(health, now)[0] == 2


def test_a_server_that_always_answers_late_is_slow_not_silent() -> None:
    """Asked every second, it answers after four: each question is reported open after two seconds, then answered."""
    health = run((0, "ok:0.1"), (1, "ok:1"), (2, "ok:2"), (3, "ok:3"))
    events = [(i + 2.0, "silent:2") for i in range(60)] + [(i + 4.0, "ok:4") for i in range(60)]
    for now, what in sorted(events):
        health = run((now, what), start=health)
        assert health.verdict.usable
    assert health.verdict is SLOW
    assert "answers in" in health.reason


def test_slow_and_no_longer_slow() -> None:
    health = run(*((float(i), "ok:0.01") for i in range(60)))
    assert health.verdict is UP
    health = run(*((60 + i, "ok:0.6") for i in range(10)), start=health)
    assert health.verdict is SLOW
    since = health.since
    health = run(*((70 + i, "ok:0.6") for i in range(10)), start=health)
    assert health.since == since
    health = run(*((80 + i, "ok:0.01") for i in range(10)), start=health)
    assert health.verdict is UP


def test_no_flutter_around_the_limit() -> None:
    """What has become slow has to be clearly faster before it is no longer called so."""
    health = run(*((float(i), "ok:1.2") for i in range(40)))
    assert health.verdict is SLOW
    health = run(*((40.0 + i, "ok:0.85") for i in range(40)), start=health)
    assert health.verdict is SLOW
    health = run(*((80.0 + i, "ok:0.5") for i in range(40)), start=health)
    assert health.verdict is UP
    health = run(*((120.0 + i, "ok:0.85") for i in range(40)), start=health)
    assert health.verdict is UP


def test_one_slow_answer_counts_at_once() -> None:
    busy = run(*((i / 1000, "t-ok:0.005") for i in range(1000)))
    assert busy.seconds == pytest.approx(0.005)
    assert run((1.0, "t-ok:1.005"), start=busy).seconds > 0.2


@given(
    st.lists(
        st.tuples(
            st.floats(0, 5), st.sampled_from(["ok", "refused", "silent", "broken", "t-ok", "t-refused", "t-silent"]),
            st.floats(0, 30),
        ),
        max_size=60,
    )
)
@settings(max_examples=150)
def test_laws_hold_for_any_sightings(steps: list[tuple[float, str, float]]) -> None:
    health, now, down_by_probe = Health(), 0.0, False
    for gap, what, seconds in steps:
        now += gap
        before = health
        health = run((now, f"{what}:{seconds}"), start=health)
        down_by_probe = down_by_probe or not what.startswith("t-")
        assert len(health.falls) <= 4 and health.good < 4
        if not health.verdict.usable:
            assert down_by_probe
        if what.endswith("ok"):
            assert health.verdict.usable or not before.verdict.usable  # an answer never makes a face unusable
        elif not before.verdict.usable:
            assert not health.verdict.usable  # a failure never brings it back
        assert health.since <= now


@pytest.mark.parametrize(
    ("faces", "draining", "expected"),
    [
        ([], False, UP),
        ([], True, DRAINING),
        ([UP, SLOW], False, SLOW),
        ([SLOW, UP], True, DRAINING),
        ([REFUSING, UP], True, REFUSING),
        ([REFUSING, SILENT], False, SILENT),
    ],
)
def test_overall(faces: list[Verdict], draining: bool, expected: Verdict) -> None:
    assert overall(faces, draining) is expected
