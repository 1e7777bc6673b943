"""Replicas between running servers in all five directions, one contract for all: first copy, every kind of change,
twenty accounts at once, ten times more active accounts than connections, and a huge mailbox beside small ones.

By default nodes and small numbers; ONEDOMAIN_LONG=1 takes real Dovecots and Cyrus, too, and everything in full. What is
on a server is read there with imaplib; connections are those that the kernel shows. `pytest -s` shows the figures.
"""

from __future__ import annotations

import imaplib
import os
import poplib
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import KINDS, PASSWORD, Cluster, add_accounts, control
from tests.acceptance.conftest import new_folder, started
from tests.acceptance.test_links import await_whole, client, linker, pairs, send
from tests.backend.link.mailbox import Mailbox, append, append_many, done, expunge, look
from tests.backend.link.mailbox import client as at_server
from tests.backend.link.test_pairs import NOT_BY_ITSELF
from tests.lab.process import NotReady, wait_until

LONG = os.environ.get("ONEDOMAIN_LONG") == "1"
PAIRS = [("node", "node"), *[
    ("dovecot", "dovecot"), ("dovecot", "cyrus"), ("cyrus", "dovecot"), ("node", "dovecot"),
] * LONG]  # fmt: skip
PASSES = 16 if LONG else 2
CONNECTIONS = 20
"""Sessions that links may have at one server (backend/link/sessions.SessionLimits)."""
ADMINISTRATORS = {"cyrus": 4}
"""And besides, of an administrator who serves all accounts (backend/link/cyrus)."""
BULK = 1000 if LONG else 200
TOGETHER = 20 if LONG else 6
ACTIVE = 10 * CONNECTIONS if LONG else 10 * PASSES
HUGE = 10_000 if LONG else 1_000
SMALL = 6


@dataclass
class Linked:
    """A cluster of two servers, `a` the primary and `b` the replica, and what was measured of it."""

    cluster: Cluster
    figures: dict[str, str] = field(default_factory=dict)

    def lab(self, name: str) -> Any:
        return self.cluster.homes[name].lab

    def accounts(self, what: str, count: int = 1) -> list[str]:
        """New ones, without a replica yet."""
        found = [f"{what}-{number}@example.com" for number in range(count)]
        self.cluster.accounts.update(dict.fromkeys(found, "a"))
        self.lab("a").prepare(*found)
        before = self.known()
        add_accounts(self.cluster.edge, [(each, "a") for each in found])
        wait_until(lambda: self.known() == before + count, "the accounts", 10)
        self.known()  # the workers have been told before they answer
        return found

    def known(self) -> int:
        return int(control(self.cluster.edge, "status")["directory"]["accounts"])

    def link(self, accounts: Sequence[str]) -> None:
        """What comes to them from now on is to be carried."""
        before = self.links()
        add_accounts(self.cluster.edge, [(each, "a") for each in accounts], replicas={"a": "b"})
        wait_until(lambda: self.links() == before + len(accounts), "the links", 10)
        self.known()

    def links(self) -> int:
        return sum(int(pair["accounts"]) for pair in pairs(self.cluster))

    def passes(self, accounts: Sequence[str]) -> list[dict[str, Any]]:
        """Of these accounts, from the edge's log."""
        return [each for each in self.cluster.edge.events("link pass") if each["account"] in accounts]

    def copied(self, accounts: Sequence[str]) -> tuple[int, float]:
        """Messages, and seconds from the begin of the first pass to the end of the last."""
        passes = self.passes(accounts)
        begin = min(each["time"] - each["seconds"] for each in passes)
        return sum(each.get("copied", 0) for each in passes), max(each["time"] for each in passes) - begin

    def await_copied(self, accounts: Sequence[str], seconds: float = 120) -> None:
        wanted = set(accounts)

        def whole() -> bool:
            return wanted <= {each["account"] for each in self.passes(accounts) if each["whole"]}

        wait_until(whole, f"{len(accounts)} first copies", seconds)
        await_whole(self.cluster, seconds)


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def linked(request: pytest.FixtureRequest) -> Iterator[Linked]:
    with ExitStack() as stack:
        folder = new_folder(stack)
        own = {"dovecot": {"extra": NOT_BY_ITSELF}}  # what it subscribes by itself nobody can unsubscribe
        homes = [KINDS[kind](folder, name, **own.get(kind, {})) for kind, name in zip(request.param, "ab", strict=True)]
        cluster = started(stack, homes, folder / "edges", lives=[], workers=1, extra={"links": {"passes": PASSES}})
        found = Linked(cluster)
        yield found
        print(f"\n{'-'.join(request.param)}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for what, figure in found.figures.items():
            print(f"  {what:<66}{figure}")


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mail(what: str, number: int, size: int) -> bytes:
    head = f"Date: Sat, 21 Nov 2026 22:00:00 +0900\r\nMessage-ID: <{what}{number}@o.example>\r\n"
    text = b"line %06d of a message\r\n" % number
    return f"{head}Subject: {what} {number}\r\n\r\n".encode() + text * max(1, size // len(text))


def fill(lab: Any, account: str, what: str, count: int, size: int) -> None:
    with at_server(lab, account) as session:
        for first in range(0, count, 100):
            numbers = range(first, min(count, first + 100))
            append_many(session, "INBOX", [mail(what, number, size) for number in numbers])


def await_same(
    linked: Linked, account: str, seconds: float = 30, renumbered: Sequence[tuple[str, ...]] = ()
) -> Mailbox:
    """Until both servers show the same, as seen by imaplib; what that is. Folders of the replica's own may be there.
    `renumbered`: folders that can't have their UIDs.
    """
    trouble: list[object] = [""]

    def same() -> bool:
        here, there = look(linked.lab("a"), account), look(linked.lab("b"), account)
        extra = {path for path, box in there.boxes.items() if not box.messages} - here.boxes.keys()
        trouble[:] = [here]
        if there.boxes.keys() - extra != here.boxes.keys():
            trouble.append((here.boxes.keys(), there.boxes.keys()))
        if here.subscribed & here.boxes.keys() != there.subscribed & here.boxes.keys():
            trouble.append(("subscribed", here.subscribed, there.subscribed))
        for path in here.boxes.keys() & there.boxes.keys():
            one, other = here.boxes[path], there.boxes[path]
            if path in renumbered:
                if one.contents != other.contents:
                    trouble.append((path, sorted(one.messages), sorted(other.messages)))
            elif (one.uidvalidity, one.messages) != (other.uidvalidity, other.messages) or one.uidnext > other.uidnext:
                trouble.append((path, one.uidvalidity, other.uidvalidity, one.uidnext, other.uidnext,
                                sorted(one.messages.items() ^ other.messages.items())[:4]))  # fmt: skip
        return len(trouble) == 1

    try:
        wait_until(same, "the same on both", seconds)
    except NotReady as late:
        show = control(linked.cluster.edge, "link_show", account=account)
        raise AssertionError(f"{late}\n{trouble[1:]}\n{show['phase']} {show['alerts']}") from None
    here = trouble[0]
    assert isinstance(here, Mailbox)
    return here


def test_a_first_copy(linked: Linked) -> None:
    """All with their UIDs, and little of our own processor's time."""
    bulk = linked.accounts("bulk")
    fill(linked.lab("a"), bulk[0], "bulk", BULK, 10_000)
    with at_server(linked.lab("a"), bulk[0]) as session:
        expunge(session, "INBOX", "100,150")
    asked = updates(linked)
    process = linker(linked.cluster)
    before = processor_time(process)
    linked.link(bulk)
    linked.await_copied(bulk)
    spent = processor_time(process) - before
    assert len(await_same(linked, bulk[0], 1).boxes["INBOX",].messages) == BULK - 2
    count, seconds = linked.copied(bulk)
    assert count == BULK - 2, "each once"
    assert updates(linked) - asked <= 8, "doveadm is called for folders and holes, not for messages"
    assert spent < 0.3 + count * 0.001, f"{spent:.2f} s of the linker for {count} messages"
    linked.figures[f"first copy of {BULK} x 10 KB"] = (
        f"{count / seconds:,.0f}/s ({seconds:.2f} s), linker {1000 * spent / count:.2f} ms CPU each")


def updates(linked: Linked) -> int:
    """Calls of doveadm by links, as far as the replica tells."""
    return int(linked.lab("b").log().count("Executing command 'mailbox update'"))


def everything(session: imaplib.IMAP4, number: int) -> None:
    """Every kind of change that a client makes to messages and folders of the mailbox that `prepared` it."""
    done(session.select("INBOX"))
    done(session.uid("STORE", "1:3", "+FLAGS", "(\\Seen \\Flagged)"))
    done(session.uid("STORE", "2", "-FLAGS", "(\\Flagged)"))
    done(session.uid("STORE", "4", "FLAGS", "(\\Answered $Label1 work)"))
    done(session.uid("COPY", "5", "Keep"))
    done(session.uid("COPY", "5:6", "Keep/Below"))
    done(session.uid("MOVE", "7:8", "Keep"))
    done(session.uid("STORE", "9:10", "+FLAGS.SILENT", "(\\Deleted)"))
    done(session.uid("EXPUNGE", "9"))
    done(session.expunge())
    append(session, "INBOX", mail("own", number, 2_000), "\\Draft", "20-Nov-2026 09:15:00 +0900")
    done(session.create("New"))
    done(session.create("New/Deep"))
    append(session, "New/Deep", mail("deep", number, 300_000), "\\Seen", "19-Nov-2026 09:15:00 +0900")
    done(session.subscribe("New/Deep"))
    done(session.rename("Keep", "Kept"))
    done(session.unsubscribe("Keep"))
    done(session.subscribe("Kept"))
    done(session.delete("Gone"))
    done(session.unsubscribe("Gone"))
    done(session.rename("New", "Newer"))  # and what lies below it
    done(session.create("New"))  # another folder of that name
    append(session, "New", mail("again", number, 100), "", "18-Nov-2026 09:15:00 +0900")
    done(session.select("Kept"))
    done(session.uid("STORE", "1:*", "+FLAGS", "(\\Deleted)"))
    done(session.close())


def prepared(session: imaplib.IMAP4, what: str) -> None:
    append_many(session, "INBOX", [mail(what, number, 3_000) for number in range(12)])
    for name in ("Keep", "Keep/Below", "Gone"):
        done(session.create(name))
        done(session.subscribe(name))
    append_many(session, "Gone", [mail(f"gone {what}", number, 100) for number in range(3)])


def test_every_kind_of_change_by_twenty_at_once(linked: Linked) -> None:
    """Accounts are copied at once, and then all their clients work at once. (A few in the short form.)"""
    people = linked.accounts("person", TOGETHER)

    def prepare(account: str) -> None:
        with at_server(linked.lab("a"), account) as session:
            prepared(session, account)

    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(prepare, people))
    linked.link(people)
    linked.await_copied(people)
    count, seconds = linked.copied(people)
    assert count == TOGETHER * 15
    linked.figures[f"first copy of {TOGETHER} accounts of 15 messages"] = f"{seconds:.2f} s"
    for account in people[:2]:
        await_same(linked, account)

    def work(item: tuple[int, str]) -> None:
        with client(linked.cluster, item[1]) as session:
            everything(session, item[0])

    before = linked.lab("b").log()
    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(work, enumerate(people)))
    began = time.monotonic()
    await_whole(linked.cluster, 60)
    linked.figures[f"after the last change of {TOGETHER}, until all are whole"] = f"{time.monotonic() - began:.2f} s"
    for account in people:
        found = await_same(linked, account)
        boxes = {"/".join(path): len(box.messages) for path, box in found.boxes.items() if box.messages}
        assert boxes == {"INBOX": 9, "Kept/Below": 2, "Newer/Deep": 1, "New": 1}, boxes
        compared = control(linked.cluster.edge, "link_compare", account=account, octets=True)
        assert set(compared["counts"]) == {"same"}, compared
    assert "Panic" not in linked.lab("b").log()[len(before) :]


def test_by_pop3_and_to_inbox_itself(linked: Linked) -> None:
    """INBOX can't leave: RENAME empties it (RFC 9051 section 6.3.6). At a Dovecot it leaves with its UIDVALIDITY, and
    another begins anew in its place; UIDs of an INBOX that goes on elsewhere can't go back to 1. Cyrus 3.6's imapd
    dies of it, and nothing has moved.
    """
    [account] = linked.accounts("other")
    cluster = linked.cluster
    for number in range(6):
        send(cluster, account, text=f"letter {number}")
    cluster.await_quiet()
    linked.link([account])
    linked.await_copied([account])
    session = poplib.POP3(cluster.edge.host, cluster.edge.port["pop3"], timeout=20)
    session.user(account)
    session.pass_(PASSWORD)
    for number in (2, 5):
        session.dele(number)
    session.quit()
    await_whole(cluster)
    assert len(await_same(linked, account).boxes["INBOX",].messages) == 4
    moved = linked.lab("a").kind != "cyrus"
    with client(cluster, account) as one:
        if moved:
            done(one.rename("INBOX", "Before"))
        append(one, "INBOX", mail("young", 0, 100), "\\Seen", "20-Nov-2026 09:15:00 +0900")
    send(cluster, account, text="after")
    cluster.await_quiet()
    await_whole(cluster)
    anew = [("INBOX",)] if linked.lab("a").kind == "dovecot" else []
    found = await_same(linked, account, renumbered=anew).boxes
    now = {("INBOX",): 2, ("Before",): 4} if moved else {("INBOX",): 6}
    assert {path: len(box.messages) for path, box in found.items() if box.messages} == now
    compared = control(cluster.edge, "link_compare", account=account, octets=True)
    assert set(compared["counts"]) == {"same"}, compared


@contextmanager
def watched(linked: Linked) -> Iterator[Counter[str]]:
    """The most connections that the linker had at once to each server, as the kernel shows them."""
    process, most, over = linker(linked.cluster), Counter[str](), threading.Event()
    ports = {f"{linked.lab(name).imap_port:04X}": name for name in "ab"}

    def watch() -> None:
        while not over.wait(0.02):
            own = set()
            for path in Path(f"/proc/{process}/fd").iterdir():
                try:
                    own.add(os.readlink(path))
                except OSError:
                    continue
            now = {name: set[str]() for name in "ab"}  # a row may be listed twice while others come and go
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                row = line.split()
                name = ports.get(row[2].rpartition(":")[2])
                if name and row[3] == "01" and f"socket:[{row[9]}]" in own:
                    now[name].add(row[9])
            for name, sockets in now.items():
                most[name] = max(most[name], len(sockets))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def test_ten_times_more_active_accounts_than_connections(linked: Linked) -> None:
    """All get mail again and again; none is left behind, and the servers see no more connections than they may."""
    people = linked.accounts("active", ACTIVE)
    rounds = 4
    with watched(linked) as most:
        linked.link(people)
        began = time.monotonic()
        for number in range(rounds):
            with linked.cluster.smtp() as session:
                for first in range(0, len(people), 50):
                    text = f"Subject: round {number}\r\n\r\nhello\r\n".encode()
                    session.sendmail("ann@example.org", people[first : first + 50], text)
        linked.cluster.await_quiet(120)
        sent = time.monotonic()
        await_whole(linked.cluster, 180)
        whole = time.monotonic()
    for account in people:
        with at_server(linked.lab("b"), account) as session:
            status = done(session.status("INBOX", "(MESSAGES)"))[0]
        assert re.search(rb"MESSAGES (\d+)", status)[1] == b"%d" % rounds, (account, status)  # type: ignore[index]
    for name in "ab":
        assert 0 < most[name] <= CONNECTIONS + ADMINISTRATORS.get(linked.lab(name).kind, 0), most
    last = {each["account"]: each["time"] for each in linked.passes(people)}
    spread = max(last.values()) - min(last.values())
    linked.figures[f"{ACTIVE} active accounts, {ACTIVE * rounds} deliveries"] = (
        f"in {sent - began:.2f} s, all whole {whole - sent:.2f} s later; last passes within {spread:.2f} s")
    linked.figures["connections of the linker, at most"] = f"{most['a']} at a, {most['b']} at b (may be {CONNECTIONS})"


class Beside:
    """Small accounts that get a message now and then: how long each takes from 250 until the replica shows it."""

    def __init__(self, linked: Linked, accounts: Sequence[str]) -> None:
        self.linked, self.accounts = linked, accounts
        self.sessions = {each: linked.lab("b").imap(each) for each in accounts}
        self.count = {each: self.messages(each) for each in accounts}

    def messages(self, account: str) -> int:
        found = re.search(rb"MESSAGES (\d+)", done(self.sessions[account].status("INBOX", "(MESSAGES)"))[0])
        assert found
        return int(found[1])

    def lag(self, account: str) -> float:
        send(self.linked.cluster, account)
        began = time.monotonic()
        self.count[account] += 1
        wait_until(lambda: self.messages(account) == self.count[account], f"{account}'s message at the replica", 60)
        return time.monotonic() - began

    def during(self, over: threading.Event) -> list[float]:
        """Some at least, also where it is over before."""
        lags: list[float] = []
        while not over.is_set() or len(lags) < 3:
            lags.append(self.lag(self.accounts[len(lags) % len(self.accounts)]))
        return lags


def test_a_huge_mailbox_holds_up_nobody(linked: Linked) -> None:
    """Neither by its first copy, nor by a change of all its flags, nor when most of it is deleted."""
    huge, small = linked.accounts("huge"), linked.accounts("small", SMALL)
    fill(linked.lab("a"), huge[0], "huge", HUGE, 200)
    send(linked.cluster, *small)
    linked.link(small)
    linked.await_copied(small)
    beside = Beside(linked, small)
    alone = [beside.lag(each) for each in small]

    def copy() -> None:
        linked.link(huge)
        linked.await_copied(huge)

    def flag() -> None:
        with client(linked.cluster, huge[0]) as session:
            session.select("INBOX")
            done(session.store("1:*", "+FLAGS.SILENT", "(\\Seen work)"))
        await_whole(linked.cluster, 120)

    def delete() -> None:
        with client(linked.cluster, huge[0]) as session:
            session.select("INBOX")
            done(session.store(f"1:{HUGE - 100}", "+FLAGS.SILENT", "(\\Deleted)"))
            done(session._simple_command("EXPUNGE"))  # type: ignore[attr-defined]
        await_whole(linked.cluster, 120)

    told = f"beside a mailbox of {HUGE}, small ones' lag, median/worst"
    linked.figures[f"{told}: alone"] = f"{1000 * statistics.median(alone):.0f}/{1000 * max(alone):.0f} ms"
    for what, act in (("while it is copied", copy), ("flagged", flag), ("deleted", delete)):
        over = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            lags = pool.submit(beside.during, over)
            began = time.monotonic()
            try:
                act()
            finally:
                over.set()
            seconds = time.monotonic() - began
            found = lags.result()
        linked.figures[f"  {what} ({seconds:.1f} s)"] = (
            f"{1000 * statistics.median(found):.0f}/{1000 * max(found):.0f} ms of {len(found)}")
        assert statistics.median(found) < max(0.5, 10 * statistics.median(alone)), (what, found)
        assert max(found) < max(2.0, seconds / 2), (what, found)
    for session in beside.sessions.values():
        session.logout()
    left = await_same(linked, huge[0], 60).boxes["INBOX",].messages
    assert len(left) == 100 and all({"\\Seen", "work"} <= each.flags for each in left.values())
