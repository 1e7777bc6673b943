"""kill -9 at each named point, in a process of its own: the rest of the mail is delivered by its successor, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from onedomain.queue import crash
from onedomain.queue.ids import derived_id

ROOT = Path(__file__).parents[2]


def run(directory: Path, slot: int, messages: int, crash_at: str = "") -> tuple[int, list[str]]:
    """-> exit status, acknowledgements."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", crash.VARIABLE: crash_at}
    done = subprocess.run(
        [sys.executable, "-m", "tests.queue.killable", str(directory), str(slot), str(messages)],
        env=environment, cwd=ROOT, capture_output=True, timeout=60, check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode, done.stdout.decode().splitlines()


def check(directory: Path, acknowledged: list[str], held: list[str]) -> None:
    far = Counter((directory / "far").read_text().splitlines())
    promoted = directory / "far-s1"
    second = Counter(promoted.read_text().splitlines() if promoted.exists() else [])
    assert set(second.values()) <= {1}, second
    for line, count in far.items():
        # a smarthost can't be asked what it has: there a lost answer may cost a second copy, and is logged as such
        assert count == 1 or line.startswith("sender@example.net"), f"{line} came {count} times"
    for line in acknowledged:
        name, id = line.split()
        if name == "refused":
            assert far[f"sender@example.net {derived_id(id, 'failed 0')}"], "its sender was not told"
        elif name == "moved":
            assert second[f"{name}@example.com {id}"] == 1, "it is not on the new primary"
        else:
            assert far[f"{name}@example.com {id}"] == 1
        assert (f"held {id}" in held) is (name == "net"), "the net holds what has a replica, and nothing else"


@pytest.mark.parametrize("point", sorted(crash.POINTS))
def test_killed_at(point: str, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    slot = 0
    if point == crash.IN_ADOPTION:
        acknowledged += run(tmp_path, 1, 30, f"{crash.AFTER_250}:30")[1]
        status, lines = run(tmp_path, 0, 30, f"{point}:1")
        acknowledged += lines
        assert status == -signal.SIGKILL
    else:
        for count in (1, 2):
            status, lines = run(tmp_path, slot, 60, f"{point}:{count}")
            acknowledged += lines
            assert status == -signal.SIGKILL, "the point was never reached"
            slot = 1 - slot
    status, held = run(tmp_path, slot, 0)
    assert status == 0
    check(tmp_path, acknowledged, held)
    assert acknowledged or point in (crash.AFTER_WRITE, crash.AFTER_SYNC, crash.IN_ADOPTION)


def test_the_point_must_exist() -> None:
    with pytest.raises(ValueError, match="no crash point"):
        crash.crash_points({crash.VARIABLE: "after-lunch"})
    assert isinstance(crash.crash_points({}), crash.NoCrash)
