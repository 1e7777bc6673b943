"""The drill itself, in short: `onedomain drill` on its own stage (docs/drill.md). Its full form is test_full.py."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.lab.ours import command

SECONDS = 44
PATIENCE = 10.0
"""Of log-ins, in seconds: two cores do other things meanwhile. The limits themselves are held by the full form."""


@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_short_drill(tmp_path: Path) -> None:
    seed = os.environ.get("ONEDOMAIN_SEED", "1")
    words = ["drill", "--json", "--duration", SECONDS, "--rate", 15, "--people", 3, "--seed", seed]
    done = subprocess.run(command(*map(str, words), "--folder", tmp_path / "drill"), capture_output=True, text=True,
                          timeout=280)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["clean"], done.stderr
    assert done.returncode == (0 if found["in_time"] else 1)
    acts = found["acts"]
    assert [act["edge"] for act in acts] == [False, True, False, False], "a server, an edge, a server, who followed it"
    assert acts[3]["name"] != acts[2]["name"] and acts[3]["accounts"] >= acts[2]["accounts"] > 0, (acts, done.stderr)
    assert all(act["log_ins_after"] is not None and act["log_ins_after"] < PATIENCE for act in acts), acts
    assert acts[0]["log_ins_after"] > 0, "it was noticed"
    assert not found["dead_ends"] and found["acknowledged"] > SECONDS * 15 * 0.9 and found["changes"] > 100
