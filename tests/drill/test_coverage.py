"""Up to when changes are known to be on the replica."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

import pytest

from onedomain.drill.coverage import Coverage


def coverage(*answers: Mapping[str, float]) -> Coverage:
    left: Iterator[Mapping[str, float]] = iter(answers)
    return Coverage(lambda: next(left))


def test_the_last_word_stays_when_nobody_can_be_asked() -> None:
    now = time.time()
    seen = coverage({"a": 2.0, "b": 0.1}, {}, {"a": 60.0})
    assert seen.look() == {"a": pytest.approx(now - 2.0, abs=0.5), "b": pytest.approx(now - 0.1, abs=0.5)}
    before = seen.known()
    assert seen.look() == before, "nobody answered"
    assert seen.look() == before, "a linker that is new knows less; what was covered is"


def test_an_answer_is_as_old_as_its_question() -> None:
    def slow() -> Mapping[str, float]:
        time.sleep(0.05)
        return {"a": 0.0}

    asked = time.time()
    assert Coverage(slow).look()["a"] == pytest.approx(asked, abs=0.04)


def test_it_looks_by_itself_until_it_is_stopped() -> None:
    looked = threading.Event()

    def ages() -> Mapping[str, float]:
        looked.set()
        return {"a": 0.0}

    seen = Coverage(ages)
    seen.start()
    assert looked.wait(10)
    seen.stop()
    assert "a" in seen.known()
