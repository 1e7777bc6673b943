"""The log: lines are whole, bounded, rotated, and hold nothing unwritable."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from onedomain.trace.recorder import MAX_FIELD, Recorder
from onedomain.trace.search import search


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        self.now += 0.001
        return self.now


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_line_is_written_at_once_without_a_loop(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "worker-0", edge="e1", clock=FakeClock())
    log.note("received", queue_id="Q1", sender="", size=10, recipient=None)
    (line,) = lines(log.path)
    assert line["event"] == "received" and line["queue_id"] == "Q1" and line["size"] == 10
    assert "sender" not in line and "recipient" not in line


async def test_lines_of_one_turn_are_written_together_at_its_end(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "worker-0", edge="e1", clock=FakeClock())
    log.bind(asyncio.get_running_loop())
    log.note("a")
    log.note("b")
    assert lines(log.path) == []
    await asyncio.sleep(0)
    assert [line["event"] for line in lines(log.path)] == ["a", "b"]


class Word(StrEnum):
    ONE = "one"


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
    | st.lists(st.text(max_size=5) | st.integers(), max_size=3) | st.sampled_from(Word)
    | st.dictionaries(st.text(max_size=5), st.text(max_size=5))
)  # fmt: skip


@given(event=st.text(max_size=10), value=VALUES, other=VALUES)
@example(event='"', value=float("nan"), other=float("inf"))
@example(event="x", value=1e300, other=-0.0)
@settings(max_examples=200, deadline=None)
def test_a_line_is_what_json_would_make_of_it(event: str, value: Any, other: Any) -> None:
    with TemporaryDirectory() as folder:
        log = Recorder(Path(folder), 'w"', edge="e\\", clock=FakeClock())
        log.note(event, value=value, other=other)
        log.close()
        text = log.path.read_text("utf-8")
    fields = {"value": value, "other": other}
    kept = {key: one for key, one in fields.items() if one is not None and one != ""}
    line = {"time": 1_700_000_000.001, "edge": "e\\", "process": 'w"', "event": event, **kept}
    # a lone surrogate, which UTF-8 has no form for, is written as its escape
    assert repr(json.loads(text)) == repr(json.loads(json.dumps(line)))


def test_what_is_no_json_does_not_hide_that_something_happened(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "w", edge="e1", clock=FakeClock())
    circle: list[Any] = []
    circle.append(circle)
    log.note("x", before=1, odd=circle)
    log.note("y")
    first, second = lines(log.path)
    assert first["event"] == "x" and "Circular" in str(first["unwritable"]) and "before" not in first
    assert second["event"] == "y"


def test_what_a_peer_chooses_is_bounded_and_never_breaks_the_line(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "w", edge="e1", clock=FakeClock())
    log.note("x", reply="a\r\nb" * 5000, raw="\udcff", odd=object())
    (line,) = lines(log.path)
    assert len(str(line["reply"])) == MAX_FIELD


def test_rotation_keeps_every_line_findable(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "w", edge="e1", clock=FakeClock(), rotate=500)
    for number in range(50):
        log.note("received", queue_id=f"Q{number}", message_id=f"<m{number}@x>")
    assert len(list(tmp_path.glob("*.jsonl"))) > 5
    assert [e["queue_id"] for e in search(tmp_path, "m48@x").events] == ["Q48"]


def test_a_message_is_found_whole_by_message_id_address_and_queue_id(tmp_path: Path) -> None:
    one = Recorder(tmp_path, "worker-0", edge="e1", clock=FakeClock())
    two = Recorder(tmp_path, "worker-1", edge="e1", clock=FakeClock())
    one.note("received", queue_id="QA01", message_id="<one@x>", sender="s@x", recipients=["Anna@example.com"])
    two.note("received", queue_id="QB01", message_id="<two@x>", recipients=["bob@example.com"])
    two.note("delivered", queue_id="QA01", server="north", reply="250 ok")
    for needle in ("<one@x>", "anna@EXAMPLE.com", "QA01"):
        assert [e["event"] for e in search(tmp_path, needle).events] == ["received", "delivered"], needle
    assert search(tmp_path, "nobody@example.com").events == []
    assert search(tmp_path, "a").events == []


def test_a_torn_last_line_does_not_hide_the_others(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "w", edge="e1", clock=FakeClock())
    log.note("received", queue_id="QA01")
    with log.path.open("ab") as file:
        file.write(b'{"time":1,"event":"deliv","queue_id":"QA01"')
    assert [e["event"] for e in search(tmp_path, "QA01").events] == ["received"]
    assert len(search(tmp_path, "QA01", limit=1).events) <= 1
