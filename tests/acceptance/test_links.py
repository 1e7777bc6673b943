"""Replicas of running servers: mail comes in and clients change things at an edge, and both servers show the same.

What is on a server is read there with imaplib; the edge is asked nothing but what people ask it.
"""

from __future__ import annotations

import imaplib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.cluster import PASSWORD, Cluster, control
from tests.backend.link.mailbox import append_many
from tests.lab.process import NotReady, wait_until

Mailbox = dict[str, tuple[int, dict[int, tuple[frozenset[str], str, bytes]]]]
"""Folder -> UIDVALIDITY, {UID: (flags, INTERNALDATE, bytes)}."""


def mailbox(cluster: Cluster, server: str, account: str) -> Mailbox:
    """All of an account as one server shows it."""
    found: Mailbox = {}
    with cluster.homes[server].mailbox(account).open() as session:
        for line in session.list()[1]:
            name = re.search(rb'"?([^" ]+)"?$', line)[1].decode()  # type: ignore[index]
            if session.select(f'"{name}"', readonly=True)[0] != "OK":
                continue  # it has none of its own, or a link has renamed it since it was listed
            validity = int(session.untagged_responses["UIDVALIDITY"][0])
            messages = {}
            for part in session.uid("FETCH", "1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")[1]:
                if isinstance(part, tuple):
                    head = part[0].decode()
                    flags = frozenset(re.search(r"FLAGS \(([^)]*)\)", head)[1].split()) - {"\\Recent"}  # type: ignore[index]
                    date = re.search(r'INTERNALDATE "([^"]*)"', head)[1]  # type: ignore[index]
                    messages[int(re.search(r"UID (\d+)", head)[1])] = flags, date, part[1]  # type: ignore[index]
            found[name] = validity, messages
    return found


def await_same(cluster: Cluster, account: str, seconds: float = 30) -> Mailbox:
    """Until replica and primary show the same; what that is."""
    primary = cluster.accounts[account]
    replica = cluster.replicas[primary]
    seen: list[Any] = [None, None]
    # The link makes the account at the replica: a node would make another one, with folders, for who comes before it.
    wait_until(lambda: has_begun(cluster), "the first copies", seconds)

    def same() -> bool:
        seen[:] = mailbox(cluster, primary, account), mailbox(cluster, replica, account)
        return seen[0] == seen[1]

    try:
        wait_until(same, f"the same on {primary} and {replica}", seconds)
    except NotReady as late:
        shown = [{name: (v, {uid: (sorted(f), d) for uid, (f, d, _) in m.items()}) for name, (v, m) in one.items()}
                 for one in seen]
        link = control(cluster.edge, "link_show", account=account)
        raise AssertionError(f"{late}\n{shown[0]}\n{shown[1]}\n{json.dumps(link, indent=1)[:3000]}") from None
    return seen[0]  # type: ignore[no-any-return]


@contextmanager
def client(cluster: Cluster, account: str) -> Iterator[imaplib.IMAP4]:
    session = imaplib.IMAP4(cluster.edge.host, cluster.edge.port["imap"], timeout=30)
    session.login(account, PASSWORD)
    try:
        yield session
    finally:
        session.logout()


def send(cluster: Cluster, *accounts: str, text: str = "hello") -> None:
    with cluster.smtp() as session:
        for account in accounts:
            session.sendmail("ann@example.org", [account], f"Subject: {text}\r\n\r\n{text} for {account}\r\n".encode())


def linker(cluster: Cluster) -> int:
    """Its process."""
    return int(control(cluster.edge, "status")["processes"]["linker"])


def pairs(cluster: Cluster) -> list[dict[str, Any]]:
    links = control(cluster.edge, "status")["links"]
    return list(links["pairs"])


def has_begun(cluster: Cluster) -> bool:
    """No account waits for its first copy, as far as is known while processes are replaced."""
    try:
        found = pairs(cluster)
    except (OSError, ValueError):
        return False
    return bool(found) and not any(pair["first_copy"] for pair in found)


def all_whole(cluster: Cluster) -> bool:
    found = pairs(cluster)
    return bool(found) and all(pair["whole"] == pair["accounts"] and not pair["uncovered"] for pair in found)


def await_whole(cluster: Cluster, seconds: float = 30) -> None:
    for edge in cluster.edges:
        control(edge, "status")  # its workers have told of what was done before
    try:
        wait_until(lambda: all_whole(cluster), "all links whole", seconds)
    except NotReady as late:
        raise AssertionError(f"{late}: {pairs(cluster)} {control(cluster.edge, 'link_list', troubled=True)}") from None


def busy(cluster: Cluster, account: str) -> None:
    """A client that does a bit of everything."""
    with client(cluster, account) as session:
        session.create("Sent")
        session.create("Archive/2024")
        session.subscribe("Sent")
        session.append("Sent", "(\\Seen $Label1)", time.time() - 86400, b"Subject: sent\r\n\r\nsent by me\r\n")
        session.select("INBOX")
        session.store("1", "+FLAGS", "(\\Flagged work)")
        session.copy("2", "Archive/2024")
        session.uid("MOVE", "3", "Archive/2024")
        session.store("1", "+FLAGS", "(\\Deleted)")
        session.expunge()
        session.rename("Archive/2024", "Old")


@pytest.mark.parametrize("pair", [("node", "node")])
def test_mail_and_clients_are_carried(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], pair: tuple[str, str]
) -> None:
    one, other = make_home(pair[0], "a"), make_home(pair[1], "b")
    cluster = make_cluster(one, other, people=2, lives=["a"], replicas={"a": "b"})
    ann, bob = cluster.people
    for number in range(5):
        send(cluster, ann, bob, text=f"first {number}")
    cluster.await_quiet()
    assert len(await_same(cluster, ann)["INBOX"][1]) == 5
    busy(cluster, ann)
    found = await_same(cluster, ann)
    assert set(found) >= {"INBOX", "Sent", "Old"} and len(found["INBOX"][1]) == 3 and len(found["Old"][1]) == 2
    await_whole(cluster)
    pid = linker(cluster)
    os.kill(pid, signal.SIGKILL)
    send(cluster, ann, bob, text="while nobody carries")
    busy(cluster, bob)
    await_same(cluster, ann)
    await_same(cluster, bob)
    assert linker(cluster) != pid
    os.kill(int(control(cluster.edge, "status")["processes"]["keeper"]), signal.SIGKILL)
    send(cluster, ann, text="while nobody keeps")
    await_same(cluster, ann)
    await_whole(cluster)
    shown = json.loads(cluster.edge.run("link", "show", ann, "--json"))
    assert shown["phase"] == "whole" and {folder["uids"] for folder in shown["folders"]} == {"same"}
    assert ann in cluster.edge.run("link", "list") and "a" in cluster.edge.run("status")


def test_what_a_client_deletes_goes_however_it_spells_the_folder_and_a_wiped_primary_deletes_nothing(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    cluster = make_cluster(
        make_home("dovecot", "a"), make_home("node", "b"), people=1, lives=["a"], replicas={"a": "b"})
    ann = cluster.people[0]
    many = [f"Subject: {number}\r\n\r\n{number}\r\n".encode() for number in range(80)]
    with cluster.homes["a"].lab.imap(ann) as session:
        for name, count in (("INBOX", 80), ("INBOX/Deep", 80), ("Few", 9)):
            session.create(name)
            append_many(session, name, many[:count])
    wait_until(lambda: has_begun(cluster), "a linker that is active", 30)
    control(cluster.edge, "link_retry", account=ann)
    await_same(cluster, ann)
    for spelt in ("iNboX", "inbox/Deep"):
        with client(cluster, ann) as session:
            assert session.select(spelt)[1] == [b"80"]
            session.store("1:70", "+FLAGS.SILENT", "(\\Deleted)")
            session.expunge()
    found = await_same(cluster, ann)
    assert [len(found[name][1]) for name in ("INBOX", "INBOX/Deep", "Few")] == [10, 10, 9]
    lab = cluster.homes["a"].lab
    lab.kill()
    shutil.rmtree(lab.folder / "mail" / "example.com" / "a-0")
    lab.start()
    send(cluster, ann, text="after the accident")
    cluster.await_quiet()
    await_whole(cluster)
    kept = mailbox(cluster, "b", ann)
    assert [len(kept[name][1]) for name in ("INBOX", "INBOX/Deep", "Few")] == [11, 10, 9]
    assert any("on the replica only" in each for each in control(cluster.edge, "link_show", account=ann)["alerts"])


def test_a_dead_replica_is_told_of_and_caught_up_with(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any]
) -> None:
    cluster = make_cluster(make_home("node", "a"), make_home("node", "b"), people=1, lives=["a"], replicas={"a": "b"})
    ann = cluster.people[0]
    send(cluster, ann)
    cluster.await_quiet()
    await_same(cluster, ann)
    cluster.homes["b"].lab.kill()
    wait_until(lambda: pairs(cluster)[0]["stopped"] == 1, "the link stopped", 20)
    send(cluster, ann, text="meanwhile")
    listed = json.loads(cluster.edge.run("link", "list", "--troubled", "--json"))
    assert listed[0]["account"] == ann and listed[0]["reason"]
    cluster.homes["b"].lab.start()
    assert len(await_same(cluster, ann)["INBOX"][1]) == 2
    await_whole(cluster)
