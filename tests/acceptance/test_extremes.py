"""What is large or wrong: a message of 100 MB over a link, and a server whose clock is an hour off.

Long form only (ONEDOMAIN_LONG=1); `pytest -s` shows the figures. Mailboxes are read at the servers.
"""

from __future__ import annotations

import asyncio
import imaplib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, Home, add_accounts, control
from tests.acceptance.test_failover import AUTOMATIC, LONG, home, log_in
from tests.acceptance.test_links import await_whole, busy, client, linker, mailbox, send
from tests.acceptance.test_moves import shown
from tests.acceptance.test_no_body_again import returned
from tests.backend.link.mailbox import client as at_server
from tests.backend.link.mailbox import done
from tests.lab.process import need, wait_until

pytestmark = [pytest.mark.skipif(not LONG, reason="long form: ONEDOMAIN_LONG=1"), pytest.mark.timeout(400)]
PAIRS = [("node", "node"), ("dovecot", "dovecot"), ("dovecot", "cyrus"), ("cyrus", "dovecot"), ("node", "dovecot")]
LARGE = 100 << 20


def linked(make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str]) -> Cluster:
    return make_cluster(make_home(kinds[0], "a"), make_home(kinds[1], "b"), lives=["a"], people=2,
                        extra={"limits": {"message_size": LARGE + (1 << 20)}})


def link(cluster: Cluster, *accounts: str) -> None:
    add_accounts(cluster.edge, [(each, "a") for each in accounts], replicas={"a": "b"})


def peak(process: int) -> int:
    """The most memory that a process ever had, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) >> 10


def status(session: imaplib.IMAP4, folder: str = "INBOX") -> bytes:
    return bytes(done(session.status(folder, "(MESSAGES UIDNEXT UIDVALIDITY)"))[0])


@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_a_message_of_a_hundred_megabytes(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kinds: tuple[str, str]
) -> None:
    """It is carried, in bounded memory, and holds up nobody's mail."""
    cluster = linked(make_cluster, make_home, kinds)
    ann, bob = cluster.people
    link(cluster, ann, bob)
    send(cluster, ann, bob)
    cluster.await_quiet()
    await_whole(cluster)
    before = peak(linker(cluster))
    line = b"x" * 76 + b"\r\n"
    large = b"Subject: large\r\n\r\n" + line * (LARGE // len(line))
    with cluster.smtp() as session:
        session.sendmail("ann@example.org", [ann], large)
    cluster.await_quiet(120)
    delivered = time.monotonic()
    send(cluster, bob, text="beside")
    with at_server(cluster.homes["b"].lab, bob) as session:
        wait_until(lambda: b"MESSAGES 2" in status(session), "the small one", 60)
    beside = time.monotonic() - delivered
    await_whole(cluster, 120)
    took = time.monotonic() - delivered
    compared = control(cluster.edge, "link_compare", account=ann, octets=True)
    assert compared["counts"] == {"same": 2}, compared
    print(f"{'-'.join(kinds)}: {len(large) >> 20} MB on the replica {took:.1f} s after it was delivered, a small one "
          f"beside it {beside:.2f} s; linker's memory {before} -> {peak(linker(cluster))} MB")
    assert peak(linker(cluster)) - before < 5 * (LARGE >> 20), "as it is read, put together, and sent"


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), Path("/usr/lib/faketime/libfaketime.so.1"))
HANDED_ON = "import_environment = $import_environment LD_PRELOAD FAKETIME FAKETIME_DONT_FAKE_MONOTONIC\n"
"""Dovecot clears what its processes get."""


def off(made: Home, offset: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The same, its clock off by so much whenever it is started."""
    start = made.lab.start

    def late() -> None:
        with monkeypatch.context() as around:
            around.setenv("LD_PRELOAD", str(FAKETIME))
            around.setenv("FAKETIME", offset)
            around.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            start()

    monkeypatch.setattr(made.lab, "start", late)
    return made


Undated = dict[str, dict[int, tuple[frozenset[str], bytes]]]


def undated(cluster: Cluster, server: str, account: str) -> Undated:
    """What is there, but for INTERNALDATEs: Dovecot makes those in its future the present."""
    return {name: {uid: (flags, raw) for uid, (flags, _, raw) in messages.items()}
            for name, (_, messages) in mailbox(cluster, server, account).items() if messages}


def assert_known(cluster: Cluster, account: str, before: dict[str, tuple[int, set[int]]]) -> None:
    """What a client knows is as it was. A folder that is made where the clock is behind is shown under another
    UIDVALIDITY than its server's, above all that was shown before.
    """
    now = shown(cluster, account)
    for name, (validity, uids) in before.items():
        assert now[name][0] == validity and uids <= now[name][1], name


@pytest.mark.parametrize("offset", ["+1h", "-1h"])
@pytest.mark.parametrize("kinds", [("dovecot", "dovecot"), ("dovecot", "cyrus"), ("cyrus", "dovecot")], ids="-".join)
async def test_a_primary_whose_clock_is_an_hour_off(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    kinds: tuple[str, str], offset: str,
) -> None:
    """Copies, failover, a folder made at the new primary, the return and the way back are as with a right one."""
    need("faketime", "faketime")
    own = {"dovecot": {"extra": HANDED_ON}}
    first = off(make_home(kinds[0], "a", **own.get(kinds[0], {})), offset, monkeypatch)
    cluster = make_cluster(first, make_home(kinds[1], "b"), lives=["a"], people=1, replicas={"a": "b"}, extra=AUTOMATIC)
    ann = cluster.people[0]
    for number in range(4):
        send(cluster, ann, text=f"letter {number}")
    cluster.await_quiet()
    busy(cluster, ann)
    await_whole(cluster)
    dates = [date for _, messages in mailbox(cluster, "a", ann).values() for _, date, _ in messages.values()]
    assert any(time.strftime("%H", time.gmtime(time.time() + (3600 if offset == "+1h" else -3600))) in date
               for date in dates), "its clock is off"
    before, known = undated(cluster, "a", ann), shown(cluster, ann)
    assert undated(cluster, "b", ann) == before
    passes = len(cluster.edge.events("link pass"))
    await asyncio.sleep(2)
    assert len(cluster.edge.events("link pass")) == passes, "nothing is carried again and again"

    cluster.homes["a"].lab.kill()
    died = time.monotonic()
    (await asyncio.to_thread(log_in, cluster, ann)).logout()
    answered = time.monotonic() - died
    assert home(cluster, ann)[0] == "b"
    assert_known(cluster, ann, known)
    with client(cluster, ann) as session:
        done(session.create("Later"))
        done(session.append("Later", "", "", b"Subject: later\r\n\r\nx\r\n"))
    send(cluster, ann, text="after")
    cluster.await_quiet()
    known = shown(cluster, ann)
    assert known["Later"][0] > max(validity for name, (validity, _) in known.items() if name != "Later")
    cluster.homes["a"].lab.start()
    wait_until(lambda: returned(cluster), "the return", 60)
    await_whole(cluster)
    assert undated(cluster, "a", ann) == undated(cluster, "b", ann)
    cluster.edge.run("server", "promote", "b")
    wait_until(lambda: returned(cluster), "the way back", 60)
    assert_known(cluster, ann, known)
    send(cluster, ann, text="last")
    cluster.await_quiet()
    await_whole(cluster)
    assert undated(cluster, "a", ann) == undated(cluster, "b", ann)
    assert before.keys() <= undated(cluster, "a", ann).keys()
    print(f"{'-'.join(kinds)}, {offset}: log-in {answered:.2f} s after the kill")
