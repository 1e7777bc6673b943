"""People move from server to server while mail flows and they are logged in; what they know stays right.

The ledger is the senders' own; mailboxes are read at the servers themselves.
"""

from __future__ import annotations

import asyncio
import imaplib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from onedomain.ledger.verify import verify
from tests.acceptance.cluster import PASSWORD, Cluster, control, verdict
from tests.acceptance.test_failover import LONG, failover, home, log_in, uids
from tests.acceptance.test_links import await_whole, busy, client, pairs, send
from tests.backend.link.mailbox import expunge
from tests.lab.process import wait_until


def judged(cluster: Cluster) -> None:
    """Every acknowledged message is there once, at each account's home as it is now."""
    cluster.await_quiet()
    homes = {account: home(cluster, account)[0] for account in cluster.people}
    report = verify(cluster.ledger, [cluster.homes[homes[account]].mailbox(account) for account in cluster.people])
    assert report.ok, report.table()


def shown(cluster: Cluster, account: str) -> dict[str, tuple[int, set[int]]]:
    """Folder -> UIDVALIDITY, UIDs; what a client sees, through the edge."""
    found = {}
    with client(cluster, account) as session:
        for line in session.list()[1]:
            name = re.search(rb'"?([^" ]+)"?$', line)[1].decode()  # type: ignore[index]
            if session.select(f'"{name}"', readonly=True)[0] == "OK":
                validity = int(session.untagged_responses["UIDVALIDITY"][0])
                found[name] = validity, {int(uid) for uid in session.uid("SEARCH", "ALL")[1][0].split()}
    return found


MORE = [("cyrus", "dovecot"), ("imap", "node"), ("cyrus", "imap"), ("imap", "dovecot"), ("node", "cyrus")]


@pytest.mark.parametrize("kinds", [("node", "node"), ("dovecot", "cyrus"), *MORE * LONG], ids="-".join)
async def test_there_and_back_while_mail_flows(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str]
) -> None:
    cluster = make_cluster(make_home(kinds[0], "a"), make_home(kinds[1], "b"), lives=["a"], people=2)
    ann, bob = cluster.people
    for text in ("one", "two", "three"):
        send(cluster, ann, text=text)
    cluster.await_quiet()
    busy(cluster, ann)
    before = shown(cluster, ann)
    assert "would move" in cluster.edge.run("account", "move", ann, "--to", "b", "--dry-run")
    assert home(cluster, ann) == ("a", [])

    load = asyncio.create_task(cluster.send(duration=8, rate=20, persistent=True, sessions=4))
    await asyncio.to_thread(cluster.edge.run, "account", "move", ann, "--to", "b", "--wait")
    assert home(cluster, ann) == ("b", ["a"])
    after = await asyncio.to_thread(shown, cluster, ann)
    for name, (validity, known) in before.items():
        if known:
            assert after[name][0] == validity and known <= after[name][1], name
    report = cluster.edge.ask("link", "compare", ann, "--bytes", "--all")
    assert set(report["counts"]) <= {"same", "missing"}, "what has just come may be on its way"
    told = {(name, uid) for name, uid, _, verdict, _ in report["lines"] if verdict == "same"}
    assert {(name, uid) for name, (_, known) in before.items() for uid in known} <= told, "a report per message"
    await asyncio.to_thread(cluster.edge.run, "account", "move", ann, "--to", "a", "--drop", "--wait")
    assert home(cluster, ann) == ("a", [])
    await load
    judged(cluster)
    back = shown(cluster, ann)
    for name, (validity, known) in before.items():
        if known:
            assert back[name][0] == validity and known <= back[name][1], name
    (moved,) = json.loads(cluster.edge.run("account", "moves", ann, "--json"))
    assert moved["stage"] == "done" and home(cluster, bob) == ("a", [])
    kept = cluster.edge.ask("account", "report", ann)
    counts = {each["verdict"]: each["messages"] for each in kept["counts"]}
    assert moved["differ"] == kept["differ"] == 0 and counts.keys() <= {"same", "missing"}, kept
    assert counts["same"] >= sum(len(known) for _, known in before.values()), "each message, before the copy is dropped"


@pytest.mark.parametrize("kinds", [("node", "node"), *[("dovecot", "cyrus")] * LONG], ids="-".join)
def test_a_copy_that_differs_stays_unless_forced(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str]
) -> None:
    """Messages that nobody deleted by an edge are gone at the home: the copy is the only one that has them."""
    cluster = make_cluster(make_home(kinds[0], "a"), make_home(kinds[1], "b"), people=2, lives=["a"],
                           replicas={"a": "b"}, extra={"links": {"brake_messages": 2, "brake_share": 0.1}})
    ann, bob = cluster.people
    for number in range(6):
        send(cluster, ann, bob, text=f"number {number}")
    cluster.await_quiet()
    await_whole(cluster)
    with cluster.homes["a"].lab.imap(ann) as session:
        expunge(session, "INBOX", "1:4")
    control(cluster.edge, "link_retry", account=ann)
    wait_until(lambda: pairs(cluster)[0]["braked"] == 1, "the brake", 20)
    dropped = json.loads(cluster.edge.run("account", "drop", ann, bob, "--wait", "--json", check=False))
    stages = {each["account"]: (each["stage"], each["differ"]) for each in dropped["moves"]}
    assert stages == {ann: ("failed", 4), bob: ("done", 0)}, dropped
    assert home(cluster, ann) == ("a", ["b"]) and home(cluster, bob) == ("a", [])
    kept = cluster.edge.ask("account", "report", ann)
    assert [(each["folder"], each["uid"], each["verdict"]) for each in kept["entries"]] == [
        ("INBOX", 0, "only there")] * 4
    assert {each["verdict"]: each["messages"] for each in kept["counts"]} == {"same": 2, "only there": 4}
    assert "4 messages differ" in cluster.edge.run("account", "moves")
    if not LONG:  # else all is compared again, which takes half a minute where something differs
        cluster.homes["b"].lab.kill()
    cluster.edge.run("account", "drop", ann, "--force", "--wait")
    assert home(cluster, ann) == ("a", [])
    assert cluster.edge.ask("account", "report", ann)["differ"] == 4, "the report stays"


async def test_people_are_disconnected_once_by_a_move(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    """When the servers change places; not when the copy begins, nor when the old one is dropped."""
    cluster = make_cluster(make_home("node", "a"), make_home("node", "b"), lives=["a"], people=1)
    ann = cluster.people[0]
    for number in range(20):
        send(cluster, ann, text=f"before {number}")
    cluster.await_quiet()
    ended: list[str] = []
    written: list[int] = []
    over = threading.Event()

    def work() -> None:
        """A client that writes all the time and comes again when it is sent away."""
        while not over.is_set():
            session = imaplib.IMAP4(cluster.edge.host, cluster.edge.port["imap"], timeout=30)
            try:
                session.login(ann, PASSWORD)
                session.select("INBOX")
                while not over.is_set():
                    text = f"Subject: own {len(written)}\r\n\r\nmine\r\n".encode()
                    if session.append("INBOX", None, None, text)[0] == "OK":  # type: ignore[arg-type]
                        written.append(len(written))
                    session.noop()
            except (imaplib.IMAP4.error, OSError) as error:
                ended.append(str(error))
            finally:
                session.shutdown()

    async with asyncio.timeout(60):
        working = asyncio.create_task(asyncio.to_thread(work))
        try:
            for target, words in (("b", ()), ("a", ("--drop",))):
                before, done = len(ended), len(written)
                await asyncio.to_thread(cluster.edge.run, "account", "move", ann, "--to", target, "--wait", *words)
                await asyncio.to_thread(wait_until, lambda done=done: len(written) > done + 5, "more written", 30)
                assert home(cluster, ann)[0] == target
                assert len(ended) - before == 1, ended[before:]
        finally:
            over.set()
            await working
    subjects = Counter(message.partition(b"Subject: own ")[2].partition(b"\r\n")[0] for message in
                       cluster.messages(ann))
    assert all(subjects[b"%d" % number] >= 1 for number in written), "what was acknowledged is there"


@pytest.mark.parametrize("kinds", [("node", "node"), *[("cyrus", "imap"), ("imap", "cyrus")] * LONG], ids="-".join)
async def test_a_drain_and_the_return(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str]
) -> None:
    cluster = make_cluster(
        make_home(kinds[0], "a"), make_home(kinds[1], "b"), make_home("node", "c"), people=4, lives=["a"],
        replicas={"a": "b"})
    send(cluster, *cluster.people)
    cluster.await_quiet()
    await_whole(cluster)
    load = asyncio.create_task(cluster.send(duration=6, rate=20, persistent=True, sessions=4))
    answer = json.loads(await asyncio.to_thread(cluster.edge.run, "server", "drain", "a", "--wait", "--json"))
    assert {each["to"] for each in answer["moves"]} == {"b"}, "where the copies are"
    assert {home(cluster, account)[0] for account in cluster.people} == {"b"}
    await asyncio.to_thread(cluster.edge.run, "server", "return", "a", "--wait")
    assert {home(cluster, account)[0] for account in cluster.people} == {"a"}
    await load
    judged(cluster)
    await_whole(cluster)
    compared = json.loads(cluster.edge.run("link", "compare", cluster.people[0], "--bytes", "--json"))
    assert set(compared["counts"]) == {"same"} and not compared["lines"]


@pytest.mark.parametrize("how", ["killed", *["stopped"] * LONG])
async def test_an_edge_ends_in_the_middle_of_a_drain(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], how: str
) -> None:
    """The next one goes on with it; nobody is left between two homes, and no mail is lost or doubled."""
    cluster = make_cluster(make_home("node", "a"), make_home("node", "b"), people=20, lives=["a"])
    for text in ("one", "two", "three"):
        send(cluster, *cluster.people, text=text)
    cluster.await_quiet()
    load = asyncio.create_task(cluster.send(duration=10, rate=20, persistent=True, sessions=4))
    told = json.loads(await asyncio.to_thread(cluster.edge.run, "server", "drain", "a", "--dry-run", "--json"))
    assert len(told["moves"]) == 20 and not told["written"]
    begun = json.loads(await asyncio.to_thread(cluster.edge.run, "server", "drain", "a", "--json"))
    assert begun["written"] and {each["to"] for each in begun["moves"]} == {"b"}

    def moved() -> int:
        return len(cluster.edge.events("promoted"))

    await asyncio.to_thread(wait_until, lambda: moved() >= 1, "somebody has moved", 30)
    await asyncio.to_thread(cluster.edge.kill if how == "killed" else cluster.edge.stop)
    done = moved()
    await asyncio.to_thread(cluster.edge.start)
    rows: list[dict[str, Any]] = []

    def over() -> bool:
        rows[:] = cluster.edge.ask("account", "moves")
        return {row["stage"] for row in rows} == {"done"}

    await asyncio.to_thread(wait_until, over, "all have moved", 60)
    assert len(rows) == 20 and done < 20, "it was in the middle: five at a time"
    assert {home(cluster, account)[0] for account in cluster.people} == {"b"}
    await load
    judged(cluster)
    await_whole(cluster)


async def test_a_promotion_by_hand(make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]) -> None:
    cluster = make_cluster(make_home("node", "a"), make_home("node", "b"), people=2, lives=["a"], replicas={"a": "b"})
    ann, bob = cluster.people
    send(cluster, ann, bob)
    cluster.await_quiet()
    await_whole(cluster)
    asked = json.loads(cluster.edge.run("server", "promote", "a", "--dry-run", "--json"))
    assert {each["account"]: (each["to"], each["reason"]) for each in asked["accounts"]} == {
        ann: ("b", ""), bob: ("b", "")}
    assert home(cluster, ann)[0] == "a", "only said"
    refused = cluster.edge.run("server", "promote", "--account", ann, "--to", "c", "--json", check=False)
    assert "no replica" in refused
    cluster.edge.run("server", "promote", "--account", ann)
    assert home(cluster, ann) == ("b", ["a"]) and home(cluster, bob) == ("a", ["b"])
    send(cluster, ann, bob, text="after")
    cluster.await_quiet()
    wait_until(lambda: not failover(cluster)["unreturned"] and not failover(cluster)["pending"], "the return", 30)
    await_whole(cluster)
    assert len(uids(cluster, "a", ann)["INBOX"][1]) == len(uids(cluster, "b", ann)["INBOX"][1]) == 2


async def test_a_dead_server_is_promoted_by_hand(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    """Where nothing goes by itself. A replica that is too far behind is promoted by force only: deliveries are there at
    once, what people wrote comes with the old primary.
    """
    cluster = make_cluster(make_home("node", "a"), make_home("node", "b"), people=2, lives=["a"], replicas={"a": "b"},
                           extra={"failover": {"max_lag": 0.2}})
    ann, bob = cluster.people
    send(cluster, ann, bob, text="carried")
    cluster.await_quiet()
    await_whole(cluster)
    cluster.homes["b"].lab.kill()  # one that hangs would find in its buffers what it was sent
    with client(cluster, ann) as session:
        session.append("INBOX", None, None, b"Subject: own\r\n\r\nwritten by ann\r\n")  # type: ignore[arg-type]
    send(cluster, ann, bob, text="late")
    wait_until(lambda: control(cluster.edge, "status")["queue"]["messages"] == 0, "delivered", 20)
    wait_until(lambda: pairs(cluster)[0]["uncovered_accounts"] == 2, "the linker's knowledge of it", 10)
    cluster.homes["a"].lab.kill()
    cluster.homes["b"].lab.start()
    wait_until(lambda: verdict(cluster.edge, "a") == "refusing" and verdict(cluster.edge, "b") == "up", "verdicts", 20)
    with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
        log_in(cluster, ann, seconds=1)

    told = json.loads(cluster.edge.run("server", "promote", "a", "--dry-run", "--json", check=False))
    reasons = {each["account"]: each["reason"] for each in told["accounts"]}
    assert not told["written"] and reasons.keys() == {ann, bob}, told
    assert "people have stored" in reasons[ann] and "behind" in reasons[bob], told
    cluster.edge.run("server", "promote", "--account", ann, check=False)
    assert home(cluster, ann) == ("a", ["b"]) and not failover(cluster)["recent"]
    cluster.edge.run("server", "promote", "a", "--force")
    for account in cluster.people:
        log_in(cluster, account).logout()
        assert home(cluster, account) == ("b", ["a"])
    cluster.await_quiet()
    assert {account: len(uids(cluster, "b", account)["INBOX"][1]) for account in cluster.people} == {ann: 2, bob: 2}

    cluster.homes["a"].lab.start()
    wait_until(lambda: not failover(cluster)["unreturned"] and not failover(cluster)["pending"], "the return", 30)
    await_whole(cluster)
    for server in "ab":
        found = {account: len(uids(cluster, server, account)["INBOX"][1]) for account in cluster.people}
        assert found == {ann: 3, bob: 2}, server
