"""What links set aside comes back: deleted messages into a folder, refused ones as files; each once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_failover import home
from tests.acceptance.test_links import await_same, await_whole, client, send
from tests.lab import fetched
from tests.lab.process import wait_until

LARGE = 2 << 20


def test_what_was_set_aside_comes_back(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], tmp_path: Path
) -> None:
    small = {"max_message": LARGE // 2}
    cluster = make_cluster(make_home("dovecot", "a"), make_home("node", "b", settings=small), lives=["a"],
                           replicas={"a": "b"}, people=1)  # fmt: skip
    [ann] = cluster.people
    edge = cluster.edge
    for text in ("kept", "deleted", "deleted, too"):
        send(cluster, ann, text=text)
    cluster.await_quiet()
    await_same(cluster, ann)
    assert edge.ask("aside", "list") == [] and "nothing" in edge.run("aside", "list")

    # A person deletes two, and is sorry.
    with client(cluster, ann) as session:
        session.select("INBOX")
        heads = [fetched.body(session.fetch(str(n), "(BODY.PEEK[HEADER.FIELDS (Subject)])")) for n in (2, 3)]
        deleted = {head.strip().removeprefix(b"Subject: ") for head in heads}  # deliveries may overtake one another
        session.store("2:3", "+FLAGS", "(\\Deleted \\Flagged)")
        session.expunge()
    wait_until(lambda: len(edge.ask("aside", "list", ann)) == 2, "both set aside", 20)
    await_whole(cluster)
    rows = edge.ask("aside", "list", ann)
    assert [(row["kind"], row["number"], row["account"], row["folder"], row["server"]) for row in rows] == [
        ("deleted", 1, ann, "INBOX", "b"), ("deleted", 2, ann, "INBOX", "b")]
    assert ann in edge.run("aside", "list")
    refused = edge.run("aside", "restore", ann, check=False)
    assert not refused, "none was refused"
    done = edge.ask("aside", "restore", ann, "--deleted", "--folder", "復元")
    assert (done["server"], done["added"], done["there"]) == ("a", 2, 0)
    with cluster.homes["a"].mailbox(ann).open() as session:
        assert session.select('"&X6lRQw-"', readonly=True)[1] == [b"2"]
        bodies = [fetched.parts(session.fetch(str(n), "(FLAGS BODY.PEEK[])")) for n in (1, 2)]
        subjects = {raw.partition(b"\r\nSubject: ")[2].partition(b"\r\n")[0] for _, raw in bodies}
        assert subjects == deleted
        assert all(b"\\Deleted" not in head for head, _ in bodies)
        assert b"&X6lRQw-" in b"".join(session.lsub()[1])
    assert edge.ask("aside", "list", ann) == []
    control(edge, "link_retry", account=ann)
    await_same(cluster, ann)

    # One that the replica refuses is kept, and after a promotion can be had as a file.
    body = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * (LARGE // 18)
    with client(cluster, ann) as session:
        assert session.append("INBOX", "(\\Seen)", None, body)[0] == "OK"  # type: ignore[arg-type]

    def kinds() -> list[str]:
        return [row["kind"] for row in edge.ask("aside", "list", ann)]

    wait_until(lambda: kinds() == ["refused"], "set aside", 20)
    await_whole(cluster)
    cluster.change("server", "promote", "a", "--to", "b")
    assert home(cluster, ann)[0] == "b"
    again = edge.run("aside", "restore", ann, "--json", check=False)
    assert json.loads(again)["refused"] and json.loads(again)["added"] == 0
    assert "refused" in kinds(), "it is still here"
    edge.run("aside", "save", ann, tmp_path / "saved")
    [file] = (tmp_path / "saved").iterdir()
    assert file.read_bytes() == body and file.stat().st_mode & 0o077 == 0
    assert edge.ask("aside", "forget", ann)["forgotten"] == 1
    assert "refused" not in kinds()
