"""People at their mail programs: log in at any edge by IMAP or POP3, look, leave; again and again.

Knows the standard library's clients. Counts what people would notice: log-ins that failed and how long they took.
"""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

PAUSE = 0.05
TIMEOUT = 20.0


@dataclass
class Notices:
    """`looks` that worked; `turned_away` with the server's own words; `broken` connections; `slowest` answer, seconds.

    `slowest` counts those turned away too: no log-in may hang.
    """

    looks: int = 0
    turned_away: int = 0
    broken: int = 0
    slowest: float = 0.0
    words: dict[str, int] = field(default_factory=dict)


class Readers:
    """`count` people at once; `edges` are addresses, `people` account names."""

    def __init__(self, edges: Sequence[str], imap: int, pop3: int, people: Sequence[str], password: str,
                 count: int = 4) -> None:
        self.notices = Notices()
        self._edges, self._imap, self._pop3 = edges, imap, pop3
        self._people, self._password = people, password
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._live, args=(n,), daemon=True) for n in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT + 5)

    def _live(self, number: int) -> None:
        dice = random.Random(number)
        while not self._stop.wait(PAUSE):
            look = self._look_imap if dice.random() < 0.7 else self._look_pop3
            began = time.monotonic()
            try:
                look(dice.choice(self._edges), dice.choice(self._people))
            except (imaplib.IMAP4.abort, OSError, EOFError):
                self._count("broken", began)
            except (imaplib.IMAP4.error, poplib.error_proto) as error:
                self._count("turned_away", began, str(error))
            else:
                self._count("looks", began)

    def _count(self, what: str, began: float, words: str = "") -> None:
        with self._lock:
            setattr(self.notices, what, getattr(self.notices, what) + 1)
            self.notices.slowest = max(self.notices.slowest, time.monotonic() - began)
            if words and len(self.notices.words) < 20:
                self.notices.words[words[:80]] = self.notices.words.get(words[:80], 0) + 1

    def _look_imap(self, edge: str, person: str) -> None:
        session = imaplib.IMAP4(edge, self._imap, timeout=TIMEOUT)
        try:
            session.login(person, self._password)
            session.select("INBOX", readonly=True)
            _, found = session.uid("SEARCH", "ALL")
            uids = (found[0] or b"").split()
            if uids:
                session.uid("FETCH", uids[-1].decode(), "(FLAGS BODY.PEEK[])")
            session.logout()
        finally:
            with contextlib.suppress(OSError):  # after a LOGOUT imaplib has closed it already
                session.shutdown()

    def _look_pop3(self, edge: str, person: str) -> None:
        session = poplib.POP3(edge, self._pop3, timeout=TIMEOUT)
        try:
            session.user(person)
            session.pass_(self._password)
            count, _ = session.stat()
            if count:
                session.top(count, 0)
            session.quit()
        finally:
            session.close()
