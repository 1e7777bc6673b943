"""The drill as it is asked for: real servers of several brands, two edges on PostgreSQL, every way to lose one.

ONEDOMAIN_LONG=1; ONEDOMAIN_DRILL_SECONDS (600), ONEDOMAIN_SEED, ONEDOMAIN_RATE (50).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from onedomain.cli.drill import plain
from onedomain.drill.conductor import Conductor, Load
from onedomain.drill.plan import plan
from tests.conftest import _running
from tests.drill.troupe import Troupe
from tests.lab.netns import Network

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.environ.get("ONEDOMAIN_LONG") != "1", reason="long form: ONEDOMAIN_LONG=1"),
]
SECONDS = float(os.environ.get("ONEDOMAIN_DRILL_SECONDS", "600"))
SEED = int(os.environ.get("ONEDOMAIN_SEED", "1"))
RATE = float(os.environ.get("ONEDOMAIN_RATE", "50"))
BEHIND = 5.0
"""Seconds that a link may be behind when its server dies: what it lacks then is counted, and has to be little."""
NODES = (("node", "n1", "n2"), ("node", "n2", "n1"))
DOVECOTS = (("dovecot", "d1", "d2"), ("dovecot", "d2", "d1"))
RING = (("dovecot", "d1", "d2"), ("dovecot", "d2", "c1"), ("cyrus", "c1", "d1"))
BRANDS = (("dovecot", "d1", "c1"), ("cyrus", "c1", "d1"))


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize(
    "pairs", [NODES, DOVECOTS, BRANDS, NODES + RING], ids=["nodes", "dovecots", "brands", "all"]
)
def test_nobody_notices(
    lab_folder: Path, make_network: Callable[..., Network], pairs: tuple[tuple[str, str, str], ...]
) -> None:
    with ExitStack() as stack:
        troupe = Troupe(lab_folder, pairs, 12 // len(pairs), make_network, stack)
        for server in troupe.lab:
            _running.append(server)
            stack.callback(_running.remove, server)
        acts = plan(SEED, SECONDS, {name: one.ways for name, one in troupe.servers.items()},
                    {name: one.ways for name, one in troupe.edges.items()})
        result = lab_folder / "drill"
        result.mkdir()
        load = Load(RATE, duration=SECONDS, seed=SEED)
        ending = Conductor(troupe, acts, load, result, lambda what, act: print(what, act or "", flush=True)).play()
    found = plain(ending)
    (result / "result.json").write_text(json.dumps(found, indent=1))
    for one in found["acts"]:
        print(one)
    print(json.dumps({key: value for key, value in found.items() if key not in ("acts", "findings")}))
    assert ending.judgement.changes and ending.notices.looks, "people were at work"
    assert ending.clean, ending.judgement.report.table()
    assert all(one.before < BEHIND for one in ending.judgement.swallowed), ending.judgement.swallowed
    assert ending.in_time, [one for one in ending.answered if not one.in_time]
