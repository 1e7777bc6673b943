"""People at their mail programs: log in at any edge by IMAP or POP3, look, leave; again and again.

Knows the standard library's clients. Counts what people would notice: log-ins that failed, how long they took, and
numbers that meant something else before.
"""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import random
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from onedomain.ledger.corpus import TOKEN_HEADER
from onedomain.ledger.seen import NOTHING, Seen, Told

PAUSE = 0.05
TIMEOUT = 20.0
AT_ONCE = 10
"""Messages of which the header is read in one look."""
TOKEN = re.compile(rb"^" + TOKEN_HEADER.encode() + rb":[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
FOLDERS = ("INBOX", "INBOX", "Work", "Trash")


@dataclass
class Notices:
    """`looks` that worked; `turned_away` with the server's own words; `broken` connections; `slowest` answer, seconds.

    `slowest` counts those turned away too: no log-in may hang. `contradictions`: UIDs that named two messages.
    """

    looks: int = 0
    turned_away: int = 0
    broken: int = 0
    slowest: float = 0.0
    words: dict[str, int] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)


class Readers:
    """`count` people at once; `doors` are (address, IMAP port, POP3 port) of edges, `people` account names; `pause`:
    seconds between two looks of one.
    """

    def __init__(self, doors: Sequence[tuple[str, int, int]], people: Sequence[str], password: str,
                 count: int = 4, pause: float = PAUSE) -> None:
        self.notices = Notices()
        self._seen = Seen()
        self.notices.contradictions = self._seen.contradictions
        self._doors = doors
        self._people, self._password = people, password
        self._pause = pause
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
        while not self._stop.wait(self._pause):
            look = self._look_imap if dice.random() < 0.7 else self._look_pop3
            began = time.monotonic()
            try:
                look(dice, dice.choice(self._doors), dice.choice(self._people))
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

    def _look_imap(self, dice: random.Random, door: tuple[str, int, int], person: str) -> None:
        session = imaplib.IMAP4(door[0], door[1], timeout=TIMEOUT)
        try:
            session.login(person, self._password)
            folder = dice.choice(FOLDERS)
            before, asked = self._seen.nexts(f"{person}/{folder}/"), time.time()
            if session.select(folder, readonly=True)[0] == "OK":
                mailbox = f"{person}/{folder}/{_number(session, 'UIDVALIDITY')}"
                how = f"{asked:.3f} to {time.time():.3f} through {door[0]}"
                self._seen.uidnext(mailbox, Told(_number(session, "UIDNEXT"), how), before.get(mailbox, NOTHING))
                _, found = session.uid("SEARCH", "ALL")
                uids = (found[0] or b"").decode().split()
                for uid, token in self._tokens(session, dice.sample(uids, min(AT_ONCE, len(uids)))):
                    self._seen.message(mailbox, uid, token)
                if uids:
                    session.uid("FETCH", uids[-1], "(FLAGS BODY.PEEK[])")
            session.logout()
        finally:
            with contextlib.suppress(OSError):  # after a LOGOUT imaplib has closed it already
                session.shutdown()

    @staticmethod
    def _tokens(session: imaplib.IMAP4, uids: Sequence[str]) -> list[tuple[str, str]]:
        if not uids:
            return []
        wanted = f"(UID BODY.PEEK[HEADER.FIELDS ({TOKEN_HEADER})])"
        answer: list[Any] = session.uid("FETCH", ",".join(uids), wanted)[1]
        found = []
        for part in answer:
            if isinstance(part, tuple):
                uid, token = re.search(rb"UID (\d+)", part[0]), TOKEN.search(part[1])
                if uid and token:
                    found.append((uid[1].decode(), token[1].decode("ascii", "replace")))
        return found

    def _look_pop3(self, dice: random.Random, door: tuple[str, int, int], person: str) -> None:
        session = poplib.POP3(door[0], door[2], timeout=TIMEOUT)
        try:
            session.user(person)
            session.pass_(self._password)
            lines = session.uidl()[1]
            for line in dice.sample(lines, min(3, len(lines))):
                number, uidl = line.decode("ascii", "replace").split()
                token = TOKEN.search(b"\n".join(session.top(int(number), 0)[1]))
                if token:
                    self._seen.message(f"{person}/POP3", uidl, token[1].decode("ascii", "replace"))
            session.quit()
        finally:
            session.close()


def _number(session: imaplib.IMAP4, word: str) -> int:
    """Of an answer to SELECT."""
    return int(session.response(word)[1][0] or 0)
