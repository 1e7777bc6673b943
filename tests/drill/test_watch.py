"""For how long log-ins were not possible."""

from __future__ import annotations

import pytest

from onedomain.drill.watch import Try, dead_ends, outage


def tries(*times: tuple[float, float, str], edge: str = "e1", account: str = "a") -> list[Try]:
    return [Try(account, edge, began, ended, why) for began, ended, why in times]


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        (tries((9, 9.1, ""), (10.2, 10.3, ""), (10.4, 10.5, "")), 0.0),
        (tries((9.9, 10.1, "gone"), (10.2, 10.3, "down"), (12.0, 12.1, "")), 2.1),
        (tries((10.1, 10.2, "down"), (11.0, 11.1, ""), (12, 12.1, "down"), (13, 13.1, "")), 3.1),
        (tries((10.1, 10.2, "down"), (19.0, 19.5, "down")), None),
        (tries((9.9, 14.0, "")), 4.0),
        (tries((9.9, 14.0, "timed out"), (14.1, 14.2, "")), 4.2),
        (tries((10.1, 10.2, "down"), (11, 11.1, "")) + tries((10.1, 10.2, "down"), (15, 15.1, ""), edge="e2"), 5.1),
        (tries((10.1, 10.2, "down"), account="other"), 0.0),
        (tries((25, 26, "down")), 0.0),
        (tries((10.1, 10.2, "down"), (11.9, 12, ""), (19.9, 20.1, "the next act")), 2.0),
        (tries((10.1, 10.2, "down"), (11.9, 12, ""), (15, 24, "hung")), None),
        (tries((9.9, 24, "")), None),
        ([], 0.0),
    ],
)
def test_outage(seen: list[Try], seconds: float | None) -> None:
    assert outage(seen, ["a"], since=10, until=20) == pytest.approx(seconds)


def test_an_edge_that_is_away_is_not_asked() -> None:
    seen = tries((10.1, 10.2, "refused"), (19, 19.1, "refused"), edge="e2") + tries((10.1, 10.2, ""))
    assert outage(seen, ["a"], since=10, until=20, absent="e2") == 0.0
    assert outage(seen, ["a"], since=10, until=20) is None


def test_an_edge_that_does_not_come_back_is_told() -> None:
    seen = tries((1, 2, "down"), (3, 4, "")) + tries((1, 2, ""), (3, 4, "no lease"), edge="e2")
    assert dead_ends(seen) == ("e2: no lease",)
