"""No body again: mail programs that are not ours keep what they have over a failover and over the way back.

What they fetch is counted on the wire, between them and the edge.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import PASSWORD, Cluster
from tests.acceptance.programs import PROGRAMS, digest
from tests.acceptance.test_failover import LONG, failover, home, log_in
from tests.acceptance.test_links import await_whole, client, mailbox
from tests.lab.process import wait_until

MANY = 60
FEW = 2
"""New ones, each time."""
LINE = b"y" * 76 + b"\r\n"
BODY = LINE * 400
"""31,200 octets: a single one that is fetched in vain is seen."""
TALK = 30_000
"""What all else comes to that a program may ask and be told: less than one body."""


def letter(text: str) -> bytes:
    return f"From: ann@example.org\r\nSubject: {text}\r\nMessage-ID: <{text}@example.org>\r\n\r\n".encode() + BODY


def deliver(cluster: Cluster, text: str, count: int) -> None:
    """To everybody, and there when this returns."""
    with cluster.smtp() as session:
        for account in cluster.people:
            for number in range(count):
                session.sendmail("ann@example.org", [account], letter(f"{text}-{number}-{account.partition('@')[0]}"))
    cluster.await_quiet()


def fill(cluster: Cluster) -> None:
    """An INBOX of which something is gone and something moved, and a folder of one's own."""
    deliver(cluster, "first", MANY)
    for account in cluster.people:
        with client(cluster, account) as session:
            session.create("Projects")
            for number in range(5):
                session.append("Projects", "(\\Seen)", None, letter(f"filed-{number}"))  # type: ignore[arg-type]
            session.select("INBOX")
            session.store("1:10", "+FLAGS", "(\\Seen)")
            session.store("11", "+FLAGS", "(\\Flagged)")
            session.store("20:22", "+FLAGS", "(\\Deleted)")
            session.expunge()


def there(cluster: Cluster, server: str, account: str) -> Counter[str]:
    """What a program has on its disk that has everything."""
    return Counter(digest(raw) for _, messages in mailbox(cluster, server, account).values()
                   for _, _, raw in messages.values())


def returned(cluster: Cluster) -> bool:
    return not failover(cluster)["unreturned"] and not failover(cluster)["pending"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kinds", [
    ("dovecot", "dovecot"), *[("node", "node"), ("burning", "burning"), ("dovecot", "cyrus"), ("cyrus", "dovecot"),
                              ("node", "dovecot")] * LONG], ids="-".join)
async def test_over_a_failover_and_back(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], start_relay: Callable[..., Any],
    tmp_path: Path, kinds: tuple[str, str],
) -> None:
    cluster = make_cluster(
        make_home(kinds[0], "a"), make_home(kinds[1], "b"), lives=["a"], replicas={"a": "b"}, people=len(PROGRAMS),
        extra={"failover": {"automatic": True}})
    fill(cluster)
    wires = {account: start_relay(cluster.edge.host, cluster.edge.port["imap"]) for account in cluster.people}
    programs = {
        account: program(tmp_path / program.name, wires[account].host, wires[account].port, account, PASSWORD,
                         folders=("Projects",))
        for account, program in zip(cluster.people, PROGRAMS, strict=True)}
    kept: dict[str, dict[str, str]] = {}

    async def sync(what: str, server: str, *, new: int, first: bool = False) -> None:
        for account, program in programs.items():
            wire = wires[account]
            down, up = wire.bytes_down, wire.bytes_up
            await asyncio.to_thread(program.sync)
            down, up = wire.bytes_down - down, wire.bytes_up - up
            print(f"{'–'.join(kinds)} {what}: {program.name} fetched {down:,} octets and sent {up:,}")
            before, kept[account] = kept.get(account, {}), program.kept()
            assert Counter(kept[account].values()) == there(cluster, server, account), f"{program.name} {what}"
            assert before.items() <= kept[account].items(), "what was there is as it was"
            assert len(kept[account]) - len(before) == new
            bodies = new * len(BODY)
            assert bodies <= down < bodies + TALK * (3 if first else 1), f"{program.name} {what}: {down:,} octets"
            assert up < TALK, f"{program.name} {what}: {up:,} octets sent"

    await await_linked(cluster)
    await sync("the first time", "a", new=MANY - 3 + 5, first=True)
    await sync("nothing new", "a", new=0)
    await await_linked(cluster)

    cluster.homes["a"].lab.kill()
    for account in cluster.people:
        (await asyncio.to_thread(log_in, cluster, account)).logout()
    assert {home(cluster, account)[0] for account in cluster.people} == {"b"}
    deliver(cluster, "second", FEW)
    await sync("after the failover", "b", new=FEW)
    await sync("and once more", "b", new=0)

    cluster.homes["a"].lab.start()
    wait_until(lambda: returned(cluster), "the return", 60)
    await await_linked(cluster)
    cluster.edge.run("server", "promote", "b")
    wait_until(lambda: returned(cluster), "the way back", 60)
    assert {home(cluster, account)[0] for account in cluster.people} == {"a"}
    deliver(cluster, "third", FEW)
    await sync("when the old primary is one again", "a", new=FEW)
    await sync("and once more", "a", new=0)


async def await_linked(cluster: Cluster) -> None:
    await asyncio.to_thread(await_whole, cluster, 60)
