"""What goes wrong around an edge: full disks, dead, frozen and cut-off homes, lost answers, refusals, loops."""

from __future__ import annotations

import asyncio
import email
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import KINDS, Cluster, Home, control, queued, verdict
from tests.acceptance.conftest import new_folder, started
from tests.acceptance.load import acknowledged, load
from tests.lab.disk import SmallDisk
from tests.lab.edge import Edge
from tests.lab.process import wait_until
from tests.lab.relay import Relay

OUT_WITHIN = 5.0
"""Seconds from a server's return until its mail is out: issue and product promise it."""
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pids: list[int]) -> float:
    """Seconds of processor time that the processes have used: proc(5)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def workers(edge: Edge) -> list[int]:
    return [one["pid"] for one in control(edge, "status")["workers"]]


def servers_waited_for(edge: Edge) -> set[str]:
    waiting = control(edge, "queue_list", limit=10_000)
    return {target["server"] for one in waiting for target in one["targets"] if target["state"] != "done"}


# -- a full disk


async def test_a_full_disk_refuses_for_now_and_loses_nothing(
    make_cluster: Callable[..., Cluster], small_disk: SmallDisk, lab_folder: Path
) -> None:
    """With nothing kept free, writes fail in the middle of messages; outcomes have to be noted all the same."""
    (lab_folder / "edges/e1").mkdir(parents=True)
    (lab_folder / "edges/e1/state").symlink_to(small_disk.folder)
    cluster = make_cluster("node", extra={"limits": {"spool_free": 1}})
    edge = cluster.edge
    async with load(cluster, max_size=64 << 10, rate=40) as running:
        await acknowledged(running, 20)
        small_disk.fill(leave=32 << 10)
        await asyncio.to_thread(
            wait_until, lambda: any(reply.startswith("452 4.3.1") for reply in running.outcome.replies), "a 452")
        small_disk.fill()
        await asyncio.to_thread(wait_until, lambda: queued(edge) == 0, "what was taken goes out all the same")
        assert not running.outcome.unknown, running.outcome.summary()
        # Nor does a crash keep it from starting, whatever that tore. Who was sending then hears no answer.
        await asyncio.to_thread(edge.kill)
        await asyncio.to_thread(edge.start)
        refused = sum(number for reply, number in running.outcome.replies.items() if reply.startswith("452 4.3.1"))
        await asyncio.to_thread(
            wait_until, lambda: refused < sum(
                number for reply, number in running.outcome.replies.items() if reply.startswith("452 4.3.1")),
            "another 452")
        small_disk.relieve()
        await acknowledged(running, 20)
    outcome = running.outcome
    assert not outcome.refused and outcome.unknown <= running.plan.sessions, outcome.summary()
    assert not control(edge, "status")["queue"]["trouble"]
    cluster.assert_exact()
    edge.kill()
    edge.start()
    cluster.assert_exact()


# -- a disk that fails

BAD_DISK = """
import errno, os
trigger, sync = os.environ["BAD_DISK"], os.fdatasync

def fdatasync(descriptor):
    try:
        with open(trigger) as file:
            journal = file.read()
        failing = f"/{journal}-" in os.readlink(f"/proc/self/fd/{descriptor}")
        if failing:
            os.unlink(trigger)
    except OSError:
        failing = False
    if failing:
        raise OSError(errno.EIO, "Input/output error")
    return sync(descriptor)

os.fdatasync = fdatasync
"""
"""Loaded by the edge's Python before anything else: one fdatasync of the journal that the file names fails."""


async def test_a_sync_that_fails_costs_a_restart_and_no_message(
    make_cluster: Callable[..., Cluster], lab_folder: Path
) -> None:
    """After it nobody knows what is on the disk (the kernel calls the pages clean): a new worker reads it again."""
    (lab_folder / "sitecustomize.py").write_text(BAD_DISK)
    trigger = lab_folder / "fails"
    path = os.pathsep.join(filter(None, (str(lab_folder), os.environ.get("PYTHONPATH"))))
    cluster = make_cluster("node", "dovecot", environment={"PYTHONPATH": path, "BAD_DISK": str(trigger)})
    edge = cluster.edge
    async with load(cluster, rate=60, recipients_per_message=2) as running:
        for count, journal in enumerate(("log", "state", "log", "state"), start=1):
            await acknowledged(running, 40)
            trigger.write_text(journal)
            await asyncio.to_thread(
                wait_until, lambda count=count: len(edge.events("spool poisoned")) == count, f"EIO in {journal}", 20)
            assert not trigger.exists()
            await asyncio.to_thread(wait_until, edge.control_answers, "a new worker", 20)
    outcome = running.outcome
    print(outcome.summary(), outcome.replies)
    assert not outcome.refused, outcome.summary()
    assert "Input/output error" in edge.events("spool poisoned")[0]["reason"]
    cluster.assert_exact()


# -- homes in trouble


@dataclass
class Lines:
    """A cluster whose edge reaches its homes over relays; `generic` can't be asked for deliveries."""

    cluster: Cluster
    relays: dict[str, Relay]


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    with ExitStack() as stack:
        folder = new_folder(stack)
        homes: list[Home] = []
        relays = {}
        for kind in ("dovecot", "cyrus", "node"):
            home = KINDS[kind](folder)
            relay = Relay(home.lab.host, home.lab.lmtp_port)
            stack.callback(relay.stop)
            relay.start()
            homes.append(home.by_way_of(relay))
            relays[home.name] = relay
        yield Lines(started(stack, homes, folder / "edges"), relays)


@pytest.mark.parametrize("home, fault", [("n1", "killed"), ("d1", "paused"), ("c1", "cut"), ("n1", "silent")])
async def test_mail_waits_for_a_home_and_is_out_soon_after_its_return(lines: Lines, home: str, fault: str) -> None:
    cluster, edge, lab, relay = lines.cluster, lines.cluster.edge, lines.cluster.homes[home].lab, lines.relays[home]
    begin, end = {
        "killed": (lab.kill, lab.start),
        "paused": (lab.pause, lab.resume),
        "cut": (relay.cut, relay.mend),
        "silent": (relay.hang, relay.mend),
    }[fault]
    try:
        async with load(cluster, rate=50) as running:
            await acknowledged(running, 20)
            await asyncio.to_thread(begin)
            began = time.monotonic()
            await asyncio.to_thread(wait_until, lambda: verdict(edge, home) in ("refusing", "silent"), "a verdict")
            seen = time.monotonic() - began
            await asyncio.to_thread(wait_until, lambda: (queued(edge) or 0) >= 40, "mail that waits")
        assert not running.outcome.refused and not running.outcome.unknown, running.outcome.summary()
        await asyncio.to_thread(wait_until, lambda: servers_waited_for(edge) == {home}, "all other mail gone")
        waiting = queued(edge)
        pids = workers(edge)
        used = cpu(pids)
        await asyncio.sleep(3)  # a span to measure over, not an event
        used = cpu(pids) - used
    finally:
        await asyncio.to_thread(end)
    back = time.monotonic()
    cluster.await_quiet(30)
    out = time.monotonic() - back
    print(f"{fault} {home}: seen after {seen:.1f} s, {waiting} waited, {used / 3:.1%} of a core, out in {out:.1f} s")
    cluster.assert_exact()
    assert out < OUT_WITHIN
    assert used / 3 < 0.1


KEPT = {"d1": b"Saved", "c1": b"Success SESSIONID", "n1": b"stored"}
"""In the answer that says that a message is kept, and in no other: Cyrus names its session after LHLO and RSET, too."""


@pytest.mark.parametrize("home", list(KEPT))
async def test_lost_answers_are_looked_up(lines: Lines, home: str) -> None:
    cluster, edge, relay = lines.cluster, lines.cluster.edge, lines.relays[home]
    before = len(edge.events("looked up"))
    relay.lose(KEPT[home], times=4)
    async with load(cluster, recipients=cluster.of(home), recipients_per_message=3) as running:
        await asyncio.to_thread(wait_until, lambda: not relay.still_to_lose, "the last answer lost")
        await acknowledged(running, 5)
    cluster.assert_exact()
    looked = edge.events("looked up")[before:]
    assert sum(event["found"] == "yes" for event in looked) >= 4, looked


# -- what fails for good


@pytest.fixture
def outside(start_sink: Callable[..., Any]) -> Any:
    """The rest of the world, that keeps what it is sent."""
    return start_sink()


def smarthost(far: Any, port: int) -> dict[str, Any]:
    return {"smarthost": {"host": far.host, "port": port, "tls": "none"}}


def field(report: Message, name: str) -> list[str]:
    """The values of a field of a report's delivery-status part: RFC 3464 section 2.1."""
    status = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    return [str(block[name]) for block in status.get_payload() if isinstance(block, Message) and name in block]


async def test_what_a_home_refuses_is_told_to_the_sender_once(
    make_home: Callable[..., Home], make_cluster: Callable[..., Cluster], outside: Any
) -> None:
    """One message, kept at one home, refused by the other: one report, about the one who did not get it."""
    choosy = make_home("node", "n2", users={"somebody@example.com": "x"})
    cluster = make_cluster("node", choosy, people=2, extra=smarthost(outside, outside.port))
    kept, refused = cluster.of("n1")[0], cluster.of("n2")
    text = b"Subject: to three\r\nMessage-ID: <three@example.org>\r\n\r\nbody\r\n"
    with cluster.smtp() as client:
        client.sendmail("writer@example.org", [kept, *refused], text, ["RET=HDRS", "ENVID=env+2B1"])
        client.sendmail("", [refused[0]], text)  # nobody to tell
    cluster.await_quiet()
    assert len(cluster.messages(kept)) == 1
    (caught,) = outside.caught()
    assert (caught.sender, caught.recipients) == ("", ("writer@example.org",))
    report = email.message_from_bytes(caught.message)
    assert report.get_content_type() == "multipart/report" and report.get_param("report-type") == "delivery-status"
    assert field(report, "Action") == ["failed", "failed"]
    assert all(status.startswith("5.1.1") for status in field(report, "Status"))
    assert {value.partition(";")[2].strip() for value in field(report, "Final-Recipient")} == set(refused)
    assert field(report, "Original-Envelope-Id") == ["env+1"]
    assert len(cluster.edge.events("double bounce")) == 1


async def test_a_loop_over_the_world_outside_is_cut(
    make_cluster: Callable[..., Cluster], start_postfix: Callable[..., Any]
) -> None:
    """Somebody forwards to an address that leads back: some copies, then an end, and one report."""
    back = "inline:{ {round@example.net = n1-0@example.com} }"
    world = start_postfix(start=False, settings={"virtual_alias_maps": back})
    cluster = make_cluster("node", people=2, extra=smarthost(world, world.smtp_port))
    edge = cluster.edge
    # Who its way back leads to was not known before.
    way_back = f"inline:{{ {{example.com = smtp:[{edge.host}]:{edge.port['smtp']}}} }}"
    world.set(transport_maps=way_back, relay_domains="example.com")
    await asyncio.to_thread(world.start)
    cluster.change("account", "set", "n1-0@example.com", "--forward", "round@example.net", "--keep-copy")
    with cluster.smtp() as client:
        client.sendmail("n1-1@example.com", ["n1-0@example.com"], b"Subject: round\r\n\r\nand round\r\n")
    await asyncio.to_thread(wait_until, lambda: cluster.messages("n1-1@example.com"), "a report")
    await asyncio.to_thread(wait_until, lambda: not world.queue(), "quiet outside")
    cluster.await_quiet()
    (report,) = cluster.messages("n1-1@example.com")
    assert b"5.4.6" in report and b"loop" in report
    assert 1 <= len(cluster.messages("n1-0@example.com")) <= 6
