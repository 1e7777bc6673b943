"""Link states and promotions as JSON: back as they went, small, and readable by another version."""

from __future__ import annotations

import json

import pytest

from onedomain.directory.spelling import read, spelt
from onedomain.model.replica import FolderLink, Identity, LinkState, Mark, Pass, Promotion, Run, Shown

PLAIN = FolderLink("INBOX", "INBOX", "guid", Mark(7, 12, 99, 11), Mark(7, 12, 98, 11), settled=True)
FULL = FolderLink("箱", "INBOX.b", "", Mark(7, 12), Mark(), (Run(1, 2), Run(5, 9, 3)), (4,), (5, 6), (6,),
                  frozenset({"$x", "b"}), (1,), (2,), 3, Mark(7, 9), Pass(1, 2), 4, 5.5, True, True, True,
                  "\\Sent", "SUBSCRIBE", True, "箱~1", (7,), (8, 9), 3600)
ARRIVED = Shown("a", "b", 3, (Identity("d", "id", True),), True, "\\Sent")


@pytest.mark.parametrize("value", [
    LinkState(), LinkState(3, (PLAIN, FULL), True), Promotion(2, (ARRIVED, Shown("x", "x", 1))),
    Promotion(1, (), "why"),
])
def test_values_come_back_as_they_went(value: object) -> None:
    assert read(type(value), spelt(value)) == value


def test_an_aligned_folder_is_small() -> None:
    assert len(spelt(PLAIN)) < 250


def test_fields_of_another_version_are_passed_over() -> None:
    record = json.loads(spelt(LinkState(3, (PLAIN,))))
    record["new"] = record["folders"][0]["newer"] = {"x": 1}
    assert read(LinkState, json.dumps(record)) == LinkState(3, (PLAIN,))


@pytest.mark.parametrize("text", ["", "[]", "3", '{"folders":[{}]}', '{"folders":[1]}', '{"epoch":"x"}'])
def test_damage_is_said(text: str) -> None:
    with pytest.raises(ValueError):
        read(LinkState, text)
