"""Loops: by our own trace, by the count of hops."""

import pytest

from onedomain.decision.loop import find_loop


@pytest.mark.parametrize(("received", "hops", "looping"), [
    (0, (), False), (50, (), False), (51, (), True), (3, ("example.com",) * 4, False), (3, ("example.com",) * 5, True),
    (3, ("other.org",) * 40, False), (3, ("other.org", "example.com") * 5, True)])
def test_table(received: int, hops: tuple[str, ...], looping: bool) -> None:
    failure = find_loop(received, hops, "Example.com")
    assert (failure is not None) is looping
    if failure is not None:
        assert (failure.code, failure.enhanced) == (554, "5.4.6") and failure.reason


def test_limits_are_arguments() -> None:
    assert find_loop(3, (), "x", max_received=2) is not None
    assert find_loop(3, ("x", "x"), "x", max_own=2) is not None
