"""A home that takes its mail by SMTP with STARTTLS: a Postfix with a queue of its own in front of a Dovecot.

What Postfix has taken may be nowhere to be seen for a while, and when it is killed it may deliver things twice itself.
"""

from __future__ import annotations

import asyncio
import email
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import KINDS, Cluster, Home, control, verdict
from tests.acceptance.conftest import new_folder, started
from tests.acceptance.load import QUICK, SEED, acknowledged, load
from tests.conftest import _running
from tests.lab.postfix import Postfix
from tests.lab.process import wait_until
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.lab.tls import Certificate

QUEUE_TIME = 4
"""Seconds; a Postfix of the lab tries again every second."""

KILLS = 6 if os.environ.get("ONEDOMAIN_LONG") == "1" else 2

REFUSED, LATER = "s1-1@example.com", "s1-2@example.com"


def answering(account: str, reply: str) -> dict[str, str]:
    """Postfix's settings by which it gives that answer to RCPT for one account."""
    rule = f"check_recipient_access inline:{{ {{ {account} = {reply} }} }}"
    return {"smtpd_recipient_restrictions": f"{rule}, permit_mynetworks, reject"}


@dataclass(frozen=True)
class Office:
    """One home at a Postfix, one at a node, and the world outside."""

    cluster: Cluster
    door: Postfix
    world: Sink

    @property
    def people(self) -> list[str]:
        return self.cluster.of("s1")


def behind(home: Home, door: Postfix, certificate: Certificate, **more: Any) -> Home:
    delivery = {
        "host": door.host, "port": door.smtp_port, "protocol": "smtp", "tls": "starttls",
        "ca_file": certificate.ca, "queue_time": f"{QUEUE_TIME}s",
    }
    return replace(home, table={**home.table, "delivery": delivery, **more})


@pytest.fixture(scope="module")
def office(certificate: Certificate) -> Iterator[Office]:
    with ExitStack() as stack:
        folder = new_folder(stack)
        dovecot = KINDS["dovecot"](folder, "s1")
        door = Postfix(
            new_folder(stack), name="door.example.com", tls=certificate, protocol="lmtp",
            relay={"example.com": (dovecot.lab.host, dovecot.lab.lmtp_port)},
            # Long ids are never used again, so that they tell which copy came which way.
            settings={"smtpd_tls_security_level": "encrypt", "enable_long_queue_ids": "yes", "allow_min_user": "yes",
                      "header_checks": "regexp:{ {/^Subject: not this/ REJECT not that}}"})
        world = Sink(new_folder(stack))
        for server in (door, world):
            _running.append(server)
            stack.callback(_running.remove, server)
            stack.callback(server.kill)
            server.start()
        home = behind(dovecot, door, certificate, probe={"accounts": ["s1-0@example.com"], "password": "secret"})
        extra = {**QUICK, "smarthost": {"host": world.host, "port": world.port, "tls": "none"},
                 "health": {"message_interval": "1s"}}
        cluster = started(stack, [home, KINDS["node"](folder)], folder / "edges", people=4, extra=extra)
        yield Office(cluster, door, world)


def letter(subject: str, body: bytes = b"x") -> bytes:
    return f"Subject: {subject}\r\nFrom: <writer@example.org>\r\n\r\n".encode() + body + b"\r\n"


def having(office: Office, account: str, subject: str) -> list[bytes]:
    return [one for one in office.cluster.messages(account) if f"\nSubject: {subject}\r\n".encode() in one]


async def arrived(office: Office, account: str, subject: str) -> bytes:
    """The one copy; it may still lie in the queue of the door."""
    await asyncio.to_thread(wait_until, lambda: having(office, account, subject), f"{subject!r} for {account}", 20)
    (message,) = having(office, account, subject)
    return message


def statuses(report: bytes) -> dict[str, str]:
    """Final-Recipient -> Status of a report (RFC 3464)."""
    parts = email.message_from_bytes(report).walk()
    status = next(part for part in parts if part.get_content_type() == "message/delivery-status")
    blocks = [one for one in status.get_payload() if isinstance(one, Message) and "Final-Recipient" in one]
    return {str(one["Final-Recipient"]).partition(";")[2].strip(): str(one["Status"]) for one in blocks}


async def test_one_message_for_several_people_each_with_an_outcome(office: Office) -> None:
    cluster, before = office.cluster, len(office.world.caught())
    await asyncio.to_thread(office.door.change, **answering(REFUSED, "550 5.1.1 nobody of that name"))
    kept = [one for one in office.people if one != REFUSED]
    with cluster.smtp() as client:
        client.sendmail("writer@example.org", [*office.people, "n1-0@example.com"], letter("several"))
    for account in [*kept, "n1-0@example.com"]:
        await arrived(office, account, "several")
    cluster.await_quiet()
    (report,) = office.world.caught()[before:]
    assert report.recipients == ("writer@example.org",)
    assert statuses(report.message) == {REFUSED: "5.1.1"}
    one = await arrived(office, kept[0], "several")
    assert b"by door.example.com (Postfix) with ESMTPS id" in one
    attempts = [event for event in cluster.edge.events("attempt") if event["server"] == "s1"]
    assert len(attempts[-1]["recipients"]) == 4, "one transaction for all of them"


async def test_who_is_put_off_waits_alone(office: Office) -> None:
    await asyncio.to_thread(office.door.change, **answering(LATER, "450 4.2.0 come back later"))
    with office.cluster.smtp() as client:
        client.sendmail("writer@example.org", office.people, letter("later"))
    for account in office.people:
        if account != LATER:
            await arrived(office, account, "later")

    def states() -> dict[str, str]:
        (waiting,) = control(office.cluster.edge, "queue_list", limit=10)
        return {target["account"]: target["state"] for target in waiting["targets"]}

    # The door may file what it has taken before the edge has noted its answers.
    told = {account: "again" if account == LATER else "done" for account in office.people}
    await asyncio.to_thread(wait_until, lambda: states() == told, "the door's answers", 10)
    await asyncio.to_thread(office.door.change)
    await arrived(office, LATER, "later")
    office.cluster.await_quiet()
    for account in office.people:
        await arrived(office, account, "later")


async def test_what_is_refused_as_a_whole(office: Office) -> None:
    """After the dot there is one answer for all (RFC 5321 section 3.3)."""
    before = len(office.world.caught())
    with office.cluster.smtp() as client:
        client.sendmail("writer@example.org", office.people[:2], letter("not this"))
    office.cluster.await_quiet()
    (report,) = office.world.caught()[before:]
    assert statuses(report.message) == dict.fromkeys(office.people[:2], "5.7.1")
    assert not any(having(office, account, "not this") for account in office.people)


async def test_eight_bits_only_where_they_are_taken(office: Office) -> None:
    before, body = len(office.world.caught()), "件名も本文も".encode("shift_jis")
    with office.cluster.smtp() as client:
        client.sendmail("writer@example.org", office.people[:1], letter("raw", body), ["BODY=8BITMIME"])
    assert (await arrived(office, office.people[0], "raw")).endswith(b"\r\n\r\n" + body + b"\r\n")
    await asyncio.to_thread(office.door.change, smtpd_discard_ehlo_keywords="8bitmime")
    try:
        with office.cluster.smtp() as client:
            client.sendmail("writer@example.org", office.people[:1], letter("raw again", body))
            client.sendmail("writer@example.org", office.people[:1], letter("plain"))
        await arrived(office, office.people[0], "plain")
        office.cluster.await_quiet()
        (report,) = office.world.caught()[before:]
        assert statuses(report.message) == {office.people[0]: "5.6.3"}
    finally:
        await asyncio.to_thread(office.door.change)


async def test_probe_messages_may_take_a_moment(office: Office) -> None:
    """Behind other mail in the door's queue; that is no reason to think ill of the home."""
    await asyncio.to_thread(office.door.change, lmtp_transport_rate_delay="1s")
    results: list[dict[str, Any]] = []

    def waited() -> bool:
        server = next(one for one in control(office.cluster.edge, "status")["servers"] if one["name"] == "s1")
        results.extend(server["probe_messages"].values())
        return any(probe["seen"] == "ok" and probe["seconds"] > 1 for probe in results)

    since = len(office.cluster.edge.events("delivered"))
    with office.cluster.smtp() as client:
        for account in office.people:
            client.sendmail("writer@example.org", [account], letter("before the probe"))
    await asyncio.to_thread(wait_until, waited, "a probe message that waited", 30)
    assert not [probe for probe in results if "is not in the mailbox" in probe["reason"]]
    assert len(office.cluster.edge.events("delivered")) > since
    await asyncio.to_thread(office.door.change)


async def test_an_answer_lost_while_the_message_lies_in_the_doors_queue(
    make_home: Callable[..., Home], make_cluster: Callable[..., Cluster], start_postfix: Callable[..., Postfix],
    start_relay: Callable[..., Relay],
) -> None:
    """Nobody can see it there: a look-up that is believed at once has it sent a second time."""
    home = make_home("dovecot", "s1")
    way_in = start_relay(home.lab.host, home.lab.lmtp_port)
    door = start_postfix(name="door.example.com", relay={"example.com": (way_in.host, way_in.port)}, protocol="lmtp",
                         settings={"enable_long_queue_ids": "yes"})
    line = start_relay(door.host, door.smtp_port)
    delivery = {"host": line.host, "port": line.port, "protocol": "smtp", "queue_time": "60s"}
    cluster = make_cluster(replace(home, table={**home.table, "delivery": delivery}), people=1)
    way_in.cut()
    line.lose(b"queued as")
    with cluster.smtp() as client:
        client.sendmail("writer@example.org", cluster.people, letter("unseen"))

    def denied() -> int:
        return sum(event["found"] == "no" for event in cluster.edge.events("looked up"))

    await asyncio.to_thread(wait_until, lambda: denied() >= 2, "two looks for it", 30)
    assert door.queue() and not cluster.messages("s1-0@example.com")
    way_in.mend()
    door.flush()  # within queue_time, whenever it would have tried by itself
    cluster.assert_exact()
    assert len(cluster.messages("s1-0@example.com")) == 1
    assert len(cluster.edge.events("attempt")) == 1
    (delivered,) = cluster.edge.events("delivered")
    assert delivered["reply"] == "found by its delivery id"


def ways(office: Office) -> dict[tuple[str, str], set[str]]:
    """(account, delivery id) -> the ids that Postfix gave to what it took; two copies of one id are its own doing."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for account in office.people:
        for message in office.cluster.messages(account):
            delivery = re.search(rb"^X-OneDomain-Delivery: (\S+)", message, re.MULTILINE | re.IGNORECASE)
            taken = re.search(rb"door\.example\.com \(Postfix\) with \S+ id (\S+)", message)
            assert delivery and taken, message[:2000]
            found[account, delivery[1].decode()].add(taken[1].decode())
    return found


@pytest.mark.slow
async def test_killed_while_delivering(office: Office, tmp_path: Path) -> None:
    """What it had taken is in its queue, which nobody can look into; asked too soon it would be sent once more."""
    cluster, door = office.cluster, office.door
    await asyncio.to_thread(door.change)
    async with load(cluster, recipients=office.people, recipients_per_message=2, rate=80, seed=SEED) as running:
        for _ in range(KILLS):
            await acknowledged(running, 40)
            await asyncio.to_thread(door.kill)
            await asyncio.to_thread(wait_until, lambda: verdict(cluster.edge, "s1") == "refusing", "a verdict")
            await acknowledged(running, 20)
            await asyncio.to_thread(door.start)
            await asyncio.to_thread(wait_until, lambda: verdict(cluster.edge, "s1") != "refusing", "its return")
    assert not running.outcome.refused, running.outcome.summary()
    cluster.await_quiet()
    await asyncio.to_thread(wait_until, lambda: not door.queue(), "the door's empty queue", 60)
    report = cluster.verify(office.people)
    looked = [event for event in cluster.edge.events("looked up") if event["server"] == "s1"]
    print(f"ONEDOMAIN_SEED={SEED}", running.outcome.summary(), report.table(), sep="\n")
    print("looked up:", {found: sum(event["found"] == found for event in looked) for found in ("yes", "no", "can't")})
    assert not [finding for finding in report.findings if finding.kind != "doubled"], report.table()
    twice = {key: ids for key, ids in ways(office).items() if len(ids) > 1}
    assert not twice, f"ONEDOMAIN_SEED={SEED}: handed over twice: {twice}"
    assert report.acknowledged >= 60 * KILLS
