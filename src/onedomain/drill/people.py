"""People at work while servers die: each changes mail through an edge, writes it into the ledger, and comes back after
every broken connection.

Knows the ledger's clients. Does not know what is being done to the servers.
"""

from __future__ import annotations

import imaplib
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

from onedomain.drill.theatre import Door
from onedomain.ledger.clients import Client, work
from onedomain.ledger.ledger import Ledger
from onedomain.ledger.verify import Mailbox

CHANGES_PER_SESSION = 60
PAUSE = 0.1
"""Seconds between two tries to come in."""
PACE = 0.05


class People:
    """One thread for each of `accounts`, at the doors in turn. `turned_away`: log-ins that failed."""

    def __init__(self, doors: Sequence[Door], accounts: Sequence[str], password: str, ledger: Path) -> None:
        self._doors = doors
        self._password = password
        self._ledger = Ledger(ledger)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(number, account), daemon=True)
                         for number, account in enumerate(accounts)]
        self._lock = threading.Lock()
        self.changes = 0
        self.sessions = 0
        self.turned_away = 0

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float = 60.0) -> None:
        """Returns when all have left, or were cut off in the middle of what nobody will answer any more. May be called
        twice.
        """
        if self._ended.is_set():
            return
        self._ended.set()
        for thread in self._threads:
            thread.join(patience)
        self._ledger.close()

    def _live(self, number: int, account: str) -> None:
        for turn in itertools.count():
            if self._ended.is_set():
                return
            door = self._doors[(number + turn) % len(self._doors)]
            mailbox = Mailbox(account, door.host, door.imap, account, self._password, door.edge)
            client = Client(mailbox, self._ledger)
            try:
                client.connect()
                seed = number * 10_000 + turn
                done = work(client, CHANGES_PER_SESSION, seed, pace=PACE, ended=self._ended.is_set)
                self._count(changes=done, sessions=1)
            except (OSError, EOFError, imaplib.IMAP4.error, LookupError):
                self._count(turned_away=1)
                self._ended.wait(PAUSE)
            finally:
                client.close()

    def _count(self, changes: int = 0, sessions: int = 0, turned_away: int = 0) -> None:
        with self._lock:
            self.changes += changes
            self.sessions += sessions
            self.turned_away += turned_away
