"""A mass deletion that nobody asked for by our edges: deletions stop, a person is told, and says what is to be.

Mailboxes are read at the servers themselves.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, control
from tests.acceptance.test_failover import LONG
from tests.acceptance.test_links import await_same, await_whole, client, has_begun, linker, mailbox, pairs, send
from tests.acceptance.test_seen import metric, told
from tests.app.test_alerts import Hook
from tests.backend.link.mailbox import append_many, expunge
from tests.lab.process import wait_until

MANY = 90
GONE = 70


@pytest.mark.parametrize("kinds", [("dovecot", "node"), *[("cyrus", "dovecot")] * LONG], ids="-".join)
def test_a_mass_deletion_waits_for_a_person(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str]
) -> None:
    with Hook() as hook:
        one, other = (make_home(kind, name) for kind, name in zip(kinds, "ab", strict=True))
        cluster = make_cluster(one, other, people=1, lives=["a"], replicas={"a": "b"},
                               extra={"alerts": {"webhook": hook.url, "every": 1}})
        [ann] = cluster.people
        pair = {"source": "a", "target": "b"}
        wait_until(lambda: has_begun(cluster), "a linker that is active", 30)
        with cluster.homes["a"].lab.imap(ann) as session:
            append_many(session, "INBOX", [f"Subject: {n}\r\n\r\n{n}\r\n".encode() for n in range(MANY)])
        control(cluster.edge, "link_retry", account=ann)
        assert len(await_same(cluster, ann)["INBOX"][1]) == MANY
        assert metric(cluster, "links", state="braked", **pair) == 0

        # Past the edges, as a mistaken script does it at the server itself; mail goes on coming.
        with cluster.homes["a"].lab.imap(ann) as session:
            expunge(session, "INBOX", f"1:{GONE}")
        send(cluster, ann, text="meanwhile")
        cluster.await_quiet()
        await_whole(cluster)
        assert [len(mailbox(cluster, server, ann)["INBOX"][1]) for server in "ab"] == [MANY - GONE + 1, MANY + 1]
        assert pairs(cluster)[0]["braked"] == 1
        [row] = json.loads(cluster.edge.run("link", "list", "--troubled", "--json"))
        assert (row["account"], row["braked"]) == (ann, ["INBOX"])
        assert "INBOX" in cluster.edge.run("link", "list", "--troubled")
        wait_until(lambda: metric(cluster, "links", state="braked", **pair) == 1, "in metrics", 10)
        wait_until(lambda: any("gone at once" in text for text in told(hook)), "told", 30)

        # Of that folder only: what is deleted in another one goes.
        with client(cluster, ann) as session:
            session.create("Other")
            session.append("Other", None, None, b"Subject: x\r\n\r\nx\r\n")  # type: ignore[arg-type]
            session.select("Other")
            session.store("1", "+FLAGS", "(\\Deleted)")
            session.expunge()
        await_whole(cluster)
        assert not mailbox(cluster, "b", ann)["Other"][1]
        assert len(mailbox(cluster, "b", ann)["INBOX"][1]) == MANY + 1

        # A person says that it was meant, also if the linker ends before the next pass; what goes on the replica is
        # kept for a time.
        cluster.homes["b"].lab.kill()
        cluster.edge.run("link", "accept", ann)
        [row] = control(cluster.edge, "link_list", troubled=True)
        assert row["accepted"] and "INBOX" in row["braked"]
        os.kill(linker(cluster), signal.SIGKILL)
        cluster.homes["b"].lab.start()
        assert len(await_same(cluster, ann)["INBOX"][1]) == MANY - GONE + 1
        await_whole(cluster)
        assert json.loads(cluster.edge.run("link", "list", "--troubled", "--json")) == []
        rows = [each for each in cluster.edge.ask("aside", "list", ann) if each["folder"] == "INBOX"]
        assert len(rows) == GONE and {each["kind"] for each in rows} == {"deleted"}
        wait_until(lambda: metric(cluster, "links", state="braked", **pair) == 0, "in metrics", 10)
        assert [each["account"] for each in cluster.edge.events("link accepted")] == [ann]
