"""What readers have been shown: that a UID which named a message names no other (RFC 9051, 2.3.1.1), and that UIDNEXT
does not go back.

Knows tokens and numbers that clients have read. Knows no socket. Used by several threads at once.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

MOST = 100
"""Contradictions that are kept; one is too many."""


class Told(NamedTuple):
    """`how`: when and through which door, for whoever has to find out how it could be."""

    uidnext: int
    how: str = ""


NOTHING = Told(0)


class Seen:
    """`mailbox`: whatever the numbers are valid in, such as account, folder and UIDVALIDITY."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[tuple[str, str], str] = {}
        self._next: dict[str, Told] = {}
        self.contradictions: list[str] = []

    def message(self, mailbox: str, uid: str, token: str) -> None:
        with self._lock:
            before = self._names.setdefault((mailbox, uid), token)
            if before != token:
                self._complain(f"{mailbox}: {uid} was {before} and is {token}")

    def nexts(self, prefix: str) -> dict[str, Told]:
        """By mailbox, the highest UIDNEXT that anybody has read by now: who asks from now on must not be told less."""
        with self._lock:
            return {mailbox: told for mailbox, told in self._next.items() if mailbox.startswith(prefix)}

    def uidnext(self, mailbox: str, told: Told, before: Told) -> None:
        """`before`: what `nexts` said when it had not been asked for yet."""
        with self._lock:
            if told.uidnext < before.uidnext:
                self._complain(f"{mailbox}: UIDNEXT went back from {before.uidnext} ({before.how}) "
                               f"to {told.uidnext} ({told.how})")
            self._next[mailbox] = max(self._next.get(mailbox, NOTHING), told)

    def _complain(self, text: str) -> None:
        if len(self.contradictions) < MOST:
            self.contradictions.append(text)
