"""Where edges would judge differently, by what each publishes."""

from __future__ import annotations

import json

from onedomain.decision.agreement import Difference, differences, published

MINE = {"automatic": True, "refusing": 1.5}


def test_what_differs_is_found() -> None:
    others = {"mx3": published({**MINE, "refusing": 9.0}), "mx2": published(MINE)}
    (found,) = differences(published(MINE), others)
    assert found == Difference("mx3", "refusing", 1.5, 9.0)
    assert str(found) == "[failover] refusing is 1.5 here, and 9.0 at mx3"


def test_a_key_that_another_version_does_not_know() -> None:
    assert differences(published(MINE), {"mx2": published({"automatic": True})}) == [
        Difference("mx2", "refusing", 1.5, None)]


def test_who_says_nothing_of_use() -> None:
    others = {"old": "", "torn": "{", "list": "[]", "none": json.dumps({"failover": None}), "other": "{}"}
    assert differences(published(MINE), others) == [] == differences("", {"mx2": published(MINE)})
