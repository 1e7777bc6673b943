"""People at work: they leave when they are told to, also if they were told already."""

from __future__ import annotations

from pathlib import Path

from onedomain.drill.people import People
from onedomain.drill.theatre import Door
from tests.lab.ports import free_port


def test_whoever_is_not_let_in_leaves_all_the_same(tmp_path: Path) -> None:
    port = free_port()
    people = People([Door("e1", "127.0.0.1", port, port, port)], ["a@example.com"], "x", tmp_path / "ledger")
    people.start()
    people.stop(10)
    people.stop(10)
    assert not people.changes
