"""A replica whose disk is full in the middle of a first copy: nobody notices, nothing is given up, and it goes on by
itself when there is room.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_failover import LONG
from tests.acceptance.test_links import await_whole, client, send
from tests.acceptance.test_pairs import Linked, await_same, fill
from tests.lab.disk import SmallDisk
from tests.lab.dovecot import UID
from tests.lab.process import wait_until

KINDS = ["dovecot", *["node", "cyrus"] * LONG]
WHERE = {"dovecot": "mail", "node": "data", "cyrus": "mail"}
OWNER = {"dovecot": (UID, UID), "node": (0, 0), "cyrus": ("cyrus", "mail")}
COUNT = 800
SIZE, LEFT = {"dovecot": 24, "node": 100, "cyrus": 24}, {"dovecot": 5, "node": 60, "cyrus": 5}
"""Megabytes; a node keeps 64 free."""


@pytest.fixture(params=KINDS)
def pair(
    request: pytest.FixtureRequest, make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> Iterator[tuple[Cluster, SmallDisk]]:
    kind = request.param
    full = make_home(kind, "b")
    disk = SmallDisk(full.lab.folder / WHERE[kind], f"{SIZE[kind]}m")
    shutil.chown(disk.folder, *OWNER[kind])
    os.chmod(disk.folder, 0o755)
    try:
        yield make_cluster(make_home("node", "a"), full, lives=["a"], people=2, replicas={"a-1@example.com": "b"}), disk
    finally:
        full.lab.kill()
        disk.close()


def test_a_disk_is_full_in_the_middle_of_a_first_copy(pair: tuple[Cluster, SmallDisk]) -> None:
    cluster, disk = pair
    ann, bob = cluster.people
    fill(cluster.homes["a"].lab, ann, "bulk", COUNT, 10_000)
    disk.fill(leave=LEFT[cluster.homes["b"].lab.kind] << 20)
    cluster.edge.run("account", "set", ann, "--replica", "b")

    def link() -> dict[str, Any]:
        return dict(control(cluster.edge, "link_show", account=ann) or {})

    wait_until(lambda: link().get("phase") == "stopped", "the link stopped", 60)
    assert link()["reason"]
    # The primary is none the worse for it, and what comes now waits for the replica in the safety net.
    send(cluster, ann, text="meanwhile")
    cluster.await_quiet()
    with client(cluster, ann) as session:
        assert session.select("INBOX")[1] == [b"%d" % (COUNT + 1)]
        session.store("1:10", "+FLAGS", "(\\Flagged)")
    assert cluster.edge.ask("aside", "list", ann) == [], "nothing is given up"
    disk.relieve()
    control(cluster.edge, "link_retry", account=ann)
    control(cluster.edge, "link_retry", account=bob)
    await_whole(cluster, 90)
    assert len(await_same(Linked(cluster), ann).boxes["INBOX",].messages) == COUNT + 1
    assert cluster.edge.ask("aside", "list", ann) == []
