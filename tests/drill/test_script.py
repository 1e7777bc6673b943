"""`onedomain drill --script`: on servers that somebody else has started, taken away by commands in a file."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.cluster import PASSWORD, Home, add_accounts, node
from tests.conftest import _running
from tests.lab.edge import Edge, document
from tests.lab.ours import command

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.environ.get("ONEDOMAIN_LONG") != "1", reason="long form: ONEDOMAIN_LONG=1"),
]
SECONDS = 60
SCRIPT = """\
pid={folder}/drill.pid
case $1 in
start) setsid {command} >>{folder}/drill.log 2>&1 </dev/null & echo $! >$pid
       until (exec 3<>/dev/tcp/{host}/{port}) 2>/dev/null; do sleep 0.1; done;;
kill) kill -KILL -- -$(cat $pid);;
pause) kill -STOP -- -$(cat $pid);;
resume) kill -CONT -- -$(cat $pid);;
esac
"""


def commands(home: Home) -> dict[str, str]:
    """An operator's: the test itself has no hand in it."""
    lab = home.lab
    script = lab.folder / "drill.sh"
    run = " ".join(command("node", "run", "--config", lab.config))
    script.write_text(SCRIPT.format(folder=lab.folder, command=run, host=lab.host, port=lab.imap_port))
    return {word: f"bash {script} {word}" for word in ("start", "kill", "pause", "resume")}


@pytest.mark.timeout(SECONDS + 240)
def test_on_servers_of_ones_own(lab_folder: Path) -> None:
    homes = [node(lab_folder, name) for name in ("n1", "n2")]
    edge = Edge(lab_folder / "e1", servers=[home.table for home in homes],
                directory=f"sqlite:///{lab_folder / 'directory.db'}", extra={"failover": {"automatic": True}})
    people = {f"test{n}@example.com": home.name for n, home in enumerate(homes * 2)}
    script, secret = lab_folder / "drill.toml", lab_folder / "secret"
    secret.write_text(PASSWORD)
    tables = [{"name": home.name, **commands(home)} for home in homes]
    door = {"name": "e1", "host": edge.host, **{word: edge.port[word] for word in ("smtp", "imap", "pop3")}}
    script.write_text(document({"server": tables, "edge": [door]}))
    with ExitStack() as stack:
        for table in tables:
            stack.callback(subprocess.run, table["kill"], shell=True)
            subprocess.run(table["start"], shell=True, check=True)
        _running.append(edge)
        stack.callback(_running.remove, edge)
        stack.callback(edge.kill)
        add_accounts(edge, [*people.items(), ("other@example.com", "n1")], replicas={"n1": "n2", "n2": "n1"})
        edge.start()
        words = ["drill", "--script", script, "--password-file", secret, "--duration", SECONDS, "--rate", 10,
                 "--people", 2, "--json", "--folder", lab_folder / "drill", "--config", edge.config]
        asked = [word for account in people for word in ("--account", account)]
        done = subprocess.run(command(*map(str, words), *asked), capture_output=True, text=True)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["clean"] and found["in_time"] and not done.returncode, done.stderr
    assert {act["way"] for act in found["acts"]} <= {"kill", "stop"} and len(found["acts"]) >= 2
    assert found["acknowledged"] > SECONDS * 10 * 0.9 and found["changes"] > 50
    assert {row["account"] for row in found["swallowed"]} <= set(people)
