"""`make bench` in its shortest form: two rows, everybody in them, a table at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.process import need

ROOT = Path(__file__).parents[2]


@pytest.mark.real
def test_a_row_of_everybody() -> None:
    for program in ("nginx", "/usr/sbin/dovecot", "postfix"):
        need("the peers", program, root=True)
    command = [sys.executable, "-m", "bench", "--quick", "--rounds", "1", "--rows", "imap,smtp-1-many", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    sessions, mail = json.loads(done.stdout)["rows"]
    for row, who in ((sessions, {"nginx", "dovecot", "onedomain"}), (mail, {"postfix", "onedomain"})):
        assert set(row["results"]) == who
        for result in row["results"].values():
            assert result["rate"]["median"] > 0
        # CPU is counted in ticks of 10 ms: of so short a run the cheapest may have none.
        assert max(result["cost"]["median"] for result in row["results"].values()) > 0


def test_rows_that_do_not_exist_are_named() -> None:
    command = [sys.executable, "-m", "bench", "--rows", "imap,nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "nonsense" in done.stderr
