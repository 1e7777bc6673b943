"""Why links stand still, in a few words for metrics."""

from __future__ import annotations

import pytest

from onedomain.model.account import Account, Home
from onedomain.model.failure import Failure, again, refuse
from onedomain.replica.figures import GAUGES, Lags, by_pair, gauges
from onedomain.replica.linked import Linked
from onedomain.replica.stops import Stop, stop_of


@pytest.mark.parametrize(
    ("failure", "stop"),
    [
        (refuse(535, "5.7.8", "authentication failed"), Stop.LOGIN),
        (again(454, "4.7.0", "temporary authentication failure"), Stop.LOGIN),
        (again(451, "4.7.4", "no secure connection"), Stop.TLS),
        (again(451, "4.7.5", "no secure connection"), Stop.TLS),
        (again(452, "4.2.2", "no room on the replica"), Stop.ROOM),
        (again(452, "4.3.1", "no room for messages that a replica refuses"), Stop.ROOM),
        (again(451, "4.4.1", "no connection"), Stop.SERVER),
        (again(451, "4.3.2", "the mail server is busy"), Stop.SERVER),
        (again(451, "4.5.0", "the mail server cannot be understood"), Stop.ANSWER),
        (refuse(550, "5.6.0", "the mail server will not have that name"), Stop.ANSWER),
        (again(451, "4.3.0", "the database is away"), Stop.OTHER),
        (again(451, "", "whatever"), Stop.OTHER),
    ],
)
def test_of_a_failure(failure: Failure, stop: Stop) -> None:
    assert stop_of(failure) is stop


def test_of_a_pair_in_metrics() -> None:
    """Every reason has its number, also none: who is alerted by one sees it go."""
    linked = [Linked(Account(f"{number}@x", "", Home("a", ("b",)))) for number in range(4)]
    linked[0].trouble, linked[0].stop = "no log-in", Stop.LOGIN
    linked[1].trouble, linked[1].stop = "full", Stop.ROOM
    troubles = ["no log-in", "full", "b is down", ""]
    pairs = by_pair(zip(linked, troubles, strict=True), Lags(), 0.0)
    found = [(value, labels) for name, value, labels in gauges(pairs, {}) if name == "links_stopped"]
    pair = {"source": "a", "target": "b"}
    wanted = {Stop.LOGIN: 1, Stop.ROOM: 1, Stop.SERVER: 1}
    assert found == [(wanted.get(stop, 0), {"reason": stop.value, **pair}) for stop in Stop]
    assert "links_stopped" in GAUGES, "or a pair that is no more keeps its numbers"
