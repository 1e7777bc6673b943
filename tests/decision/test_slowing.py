"""The wait as a table: mistakes are free, guessing is not, an owner at a known address never waits for a guesser."""

from __future__ import annotations

import pytest

from onedomain.decision.slowing import Slowing


@pytest.mark.parametrize(
    "address, account, known, seconds",
    [
        (0, 0, False, 0),
        (3, 5, False, 0),
        (3.4, 5.4, False, 0),
        (4, 0, False, 1),
        (5, 0, False, 2),
        (7, 0, False, 8),
        (8, 0, False, 15),
        (1e9, 0, True, 15),
        (0, 6, False, 1),
        (0, 1e9, False, 15),
        (0, 1e9, True, 0),
        (4, 8, False, 4),
    ],
)
def test_waits(address: float, account: float, known: bool, seconds: float) -> None:
    assert Slowing().wait(address, account, known=known) == seconds


@pytest.mark.parametrize("network, known, seconds", [(10, False, 0), (11, False, 1), (1e9, False, 15), (1e9, True, 0)])
def test_waits_for_a_network(network: float, known: bool, seconds: float) -> None:
    assert Slowing().wait(0, 0, network, known=known) == seconds
