"""Several clients work in one mailbox, mbsync beside them, while its server dies, another takes over, and it returns;
and what programs see of changes that a dead server took with it.

A UID never names another message (RFC 3501 section 2.3.1.1). What was expunged or moved and not carried is there again
as what it was, under the UID that it had: a change that the dead server swallowed, as many as the link had not covered.
Long form only (ONEDOMAIN_LONG=1). What each client was told is its own ledger; servers are read with imaplib.
"""

from __future__ import annotations

import imaplib
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onedomain.demo.show import ages
from onedomain.drill.coverage import Coverage
from onedomain.drill.judge import AFTER
from tests.acceptance.cluster import PASSWORD, Cluster, control
from tests.acceptance.programs import Mbsync, OfflineImap, digest
from tests.acceptance.test_failover import AUTOMATIC, LONG, home, log_in, pair_of
from tests.acceptance.test_links import await_whole, client, linker, mailbox, send
from tests.acceptance.test_no_body_again import returned
from tests.lab.process import wait_until

pytestmark = pytest.mark.skipif(not LONG, reason="long form: ONEDOMAIN_LONG=1")

FOLDERS = ("INBOX", "Work")
CLIENTS = 3


class Shown:
    """What any client was ever shown: (folder, UIDVALIDITY, UID) -> subject."""

    def __init__(self) -> None:
        self.subjects: dict[tuple[str, int, int], bytes] = {}
        self.broken: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()

    def look(self, session: imaplib.IMAP4, folder: str) -> dict[int, bytes]:
        session.select(folder)
        validity = int(session.untagged_responses["UIDVALIDITY"][-1])
        found = {}
        for part in session.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
            if isinstance(part, tuple):
                uid = int(re.search(rb"UID (\d+)", part[0])[1])  # type: ignore[index]
                found[uid] = part[1].strip().removeprefix(b"Subject: ")
        with self._lock:
            for uid, subject in found.items():
                first = self.subjects.setdefault((folder, validity, uid), subject)
                if first != subject:
                    self.broken.append((folder, validity, uid, first, subject))
        return found


@dataclass
class Change:
    """A MOVE or EXPUNGE. `ended`: when it was acknowledged, by the wall clock; never, if nobody knows."""

    token: str
    gone: bool
    began: float
    ended: float = float("inf")


class Client(threading.Thread):
    """Appends, moves, flags and expunges what it appended itself; comes again when it is sent away."""

    def __init__(self, cluster: Cluster, name: str, shown: Shown, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.cluster, self.tag, self.shown, self.over = cluster, name, shown, over
        self.dice = random.Random(name)
        self.kept: set[str] = set()
        self.changes: list[Change] = []
        self.acts = 0

    @property
    def removed(self) -> set[str]:
        """Or perhaps."""
        return {change.token for change in self.changes if change.gone}

    def run(self) -> None:
        while not self.over.is_set():
            with suppress(imaplib.IMAP4.error, OSError):
                session = log_in(self.cluster, self.cluster.people[0], seconds=30)
                session.create("Work")
                while not self.over.is_set():
                    self.act(session, self.dice.choice(FOLDERS))
                    self.acts += 1
                session.logout()

    def act(self, session: imaplib.IMAP4, folder: str) -> None:
        own = {uid: subject.decode() for uid, subject in self.shown.look(session, folder).items()
               if subject.startswith(self.tag.encode())}
        what = self.dice.random()
        if what < 0.5 or not own:
            token = f"{self.tag}-{self.acts}-{time.monotonic_ns()}"
            if session.append(folder, "", "", f"Subject: {token}\r\n\r\nx\r\n".encode())[0] == "OK":
                self.kept.add(token)
            return
        uid = self.dice.choice(sorted(own))
        if 0.7 <= what < 0.85:
            session.uid("STORE", str(uid), "+FLAGS", "(\\Flagged)")
            return
        change = Change(own[uid], what >= 0.85, time.time())
        self.changes.append(change)
        if change.gone:
            session.uid("STORE", str(uid), "+FLAGS", "(\\Deleted)")
            answer = session.uid("EXPUNGE", str(uid))
        else:
            answer = session.uid("MOVE", str(uid), FOLDERS[folder == "INBOX"])
        if answer[0] == "OK":
            change.ended = time.time()


@pytest.mark.parametrize("kinds", [("burning", "burning"), ("imap", "burning"), ("dovecot", "cyrus"), ("node", "node")],
                         ids="-".join)  # fmt: skip
def test_many_clients_over_a_failover_and_the_return(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], tmp_path: Path, kinds: tuple[str, str]
) -> None:
    cluster = make_cluster(make_home(kinds[0], "a"), make_home(kinds[1], "b"), lives=["a"], replicas={"a": "b"},
                           people=1, extra=AUTOMATIC)  # fmt: skip
    ann = cluster.people[0]
    send(cluster, ann)
    cluster.await_quiet()
    await_whole(cluster)
    shown, over = Shown(), threading.Event()
    clients = [Client(cluster, f"client{number}", shown, over) for number in range(CLIENTS)]
    mbsync = Mbsync(tmp_path / "mbsync", cluster.edge.host, cluster.edge.port["imap"], ann, PASSWORD, folders=("Work",))

    def synchronise() -> None:
        while not over.is_set():
            with suppress(AssertionError):  # it was sent away
                mbsync.sync()

    def worked(count: int) -> None:
        before = sum(client.acts for client in clients)
        wait_until(lambda: sum(client.acts for client in clients) >= before + count, f"{count} acts", 120)

    threads = [*clients, threading.Thread(target=synchronise, daemon=True)]
    coverage = Coverage(lambda: ages([cluster.edge.state / "control.sock"], [ann]))
    for thread in threads:
        thread.start()
    try:
        worked(200)
        covered = coverage.look()[ann]
        cluster.homes["a"].lab.kill()
        died = time.time()
        wait_until(lambda: home(cluster, ann)[0] == "b", "the other took over", 60)
        worked(200)
        cluster.homes["a"].lab.start()
        wait_until(lambda: returned(cluster), "the return", 120)
        worked(100)
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    cluster.await_quiet()
    await_whole(cluster, 60)
    assert not shown.broken, "a UID named two messages"
    bodies = [raw for _, messages in mailbox(cluster, "b", ann).values() for _, _, raw in messages.values()]
    tokens = {digest(raw): re.search(rb"Subject: (\S*)", raw)[1].decode() for raw in bodies}  # type: ignore[index]
    there_now = Counter(tokens[digest(raw)] for raw in bodies)
    changes = [change for each in clients for change in each.changes]
    open_ones = {each.token for each in changes if each.began <= died + AFTER and each.ended >= covered}
    for each in clients:
        assert len(each.kept) > 20
        assert all(there_now[token] == 1 for token in each.kept - each.removed), each.tag
    assert max(there_now.values()) == 1
    surely = {each.token for each in changes if each.gone and each.ended < float("inf")} - open_ones
    assert not [token for token in surely if there_now[token]], "expunged, and covered"
    compared = control(cluster.edge, "link_compare", account=ann, octets=True)
    assert set(compared["counts"]) == {"same"}, compared
    mbsync.sync()
    mbsync.sync()  # what it flagged itself the first time
    near, far = Counter(mbsync.kept().values()), Counter(map(digest, bodies))
    assert not near - far
    # It never looks again at UIDs below the highest it knows: there what was expunged or moved unseen has come back.
    back = {tokens[each] for each in far - near}
    print(f"{'-'.join(kinds)}: covered until {died - covered:.3f} s before the death; of {len(changes)} moves and "
          f"expunges {len(open_ones)} were open then, {len(back)} of them are unseen by mbsync")
    places = {tokens[digest(raw)]: (name, uid) for name, (_, messages) in mailbox(cluster, "b", ann).items()
              for uid, (_, _, raw) in messages.items()}
    assert back <= open_ones, (mbsync.state(), sorted(places[token] for token in back - open_ones))


@pytest.mark.parametrize("kind", ["dovecot", "node"])
def test_what_was_expunged_or_moved_unseen_is_there_again_as_what_it_was(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    """offlineimap, which compares lists, has it again; mbsync looks only above the highest UID that it knows."""
    cluster = pair_of(make_cluster, make_home, kind, people=2)
    ann, bob = cluster.people
    edge = cluster.edge
    for number in range(6):
        send(cluster, *cluster.people, text=f"letter {number}")
    cluster.await_quiet()
    for account in cluster.people:
        with client(cluster, account) as session:
            session.create("Work")
    await_whole(cluster)
    programs = [one(tmp_path / one.name, edge.host, edge.port["imap"], account, PASSWORD, folders=("Work",))
                for one, account in ((Mbsync, ann), (OfflineImap, bob))]
    before = {account: mailbox(cluster, "a", account) for account in cluster.people}
    for program in programs:
        program.sync()
        assert len(program.kept()) == 6
    held = linker(cluster)
    os.kill(held, signal.SIGSTOP)
    try:
        for account in cluster.people:
            with client(cluster, account) as session:
                session.select("INBOX")
                session.uid("STORE", "2", "+FLAGS", "(\\Deleted)")
                assert session.uid("EXPUNGE", "2")[0] == session.uid("MOVE", "3", "Work")[0] == "OK"
        for program in programs:
            program.sync()
            assert len(program.kept()) == 5
        cluster.homes["a"].lab.kill()
    finally:
        os.kill(held, signal.SIGCONT)
    for account in cluster.people:
        log_in(cluster, account).logout()
        assert home(cluster, account)[0] == "b"
        now = mailbox(cluster, "b", account)
        for name in ("INBOX", "Work"):
            assert now[name][0] == before[account][name][0]
            assert {uid: raw for uid, (_, _, raw) in now[name][1].items()} == {
                uid: raw for uid, (_, _, raw) in before[account][name][1].items()}, name
    send(cluster, *cluster.people, text="later")
    cluster.await_quiet()
    there = {account: Counter(digest(raw) for _, _, raw in mailbox(cluster, "b", account)["INBOX"][1].values())
             for account in cluster.people}
    for program in programs:
        program.sync()
    near, far = (Counter(program.kept().values()) for program in programs)
    second, third = (digest(before[ann]["INBOX"][1][uid][2]) for uid in (2, 3))
    assert near == there[ann] - Counter([second, third])
    assert far == there[bob]

    cluster.homes["a"].lab.start()
    wait_until(lambda: returned(cluster), "the return", 60)
    await_whole(cluster)
    for account in cluster.people:
        found = mailbox(cluster, "a", account)["INBOX"][1].values()
        assert Counter(digest(raw) for _, _, raw in found) == there[account]
        print([(row["kind"], row["why"]) for row in edge.ask("aside", "list", account)])
    for program, kept in zip(programs, (near, far), strict=True):
        program.sync()
        assert Counter(program.kept().values()) == kept
