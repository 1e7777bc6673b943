"""Several clients work in one mailbox, mbsync beside them, while its server dies, another takes over, and it returns.

Long form only (ONEDOMAIN_LONG=1). What each client was told is its own ledger; servers are read with imaplib.
"""

from __future__ import annotations

import imaplib
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import PASSWORD, Cluster, control
from tests.acceptance.programs import Mbsync, digest
from tests.acceptance.test_failover import AUTOMATIC, LONG, home, log_in
from tests.acceptance.test_links import await_whole, mailbox, send
from tests.acceptance.test_no_body_again import returned
from tests.lab.process import wait_until

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


class Client(threading.Thread):
    """Appends, moves, flags and expunges what it appended itself; comes again when it is sent away."""

    def __init__(self, cluster: Cluster, name: str, shown: Shown, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.cluster, self.tag, self.shown, self.over = cluster, name, shown, over
        self.dice = random.Random(name)
        self.kept: set[str] = set()
        self.removed: set[str] = set()  # or perhaps
        self.moved: set[str] = set()
        self.acts = 0

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
        if what < 0.7:
            self.moved.add(own[uid])
            session.uid("MOVE", str(uid), FOLDERS[folder == "INBOX"])
        elif what < 0.85:
            session.uid("STORE", str(uid), "+FLAGS", "(\\Flagged)")
        else:
            self.removed.add(own[uid])
            session.uid("STORE", str(uid), "+FLAGS", "(\\Deleted)")
            session.uid("EXPUNGE", str(uid))


@pytest.mark.skipif(not LONG, reason="long form: ONEDOMAIN_LONG=1")
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
    for thread in threads:
        thread.start()
    try:
        worked(200)
        cluster.homes["a"].lab.kill()
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
    for client in clients:
        assert len(client.kept) > 20
        assert all(there_now[token] == 1 for token in client.kept - client.removed), client.tag
    assert max(there_now.values()) == 1
    compared = control(cluster.edge, "link_compare", account=ann, octets=True)
    assert set(compared["counts"]) == {"same"}, compared
    mbsync.sync()
    mbsync.sync()  # what it flagged itself the first time
    near, far = Counter(mbsync.kept().values()), Counter(map(digest, bodies))
    assert not near - far
    # It never looks again at UIDs below the highest it knows: there what was expunged or moved unseen has come back.
    back = {token for client in clients for token in client.moved | client.removed}
    assert {tokens[each] for each in far - near} <= back
