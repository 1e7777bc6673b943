"""What readers have been shown: that a UID which named a message names no other (RFC 9051, 2.3.1.1), and that UIDNEXT
does not go back.

Knows tokens and numbers that clients have read. Knows no socket. Used by several threads at once.
"""

from __future__ import annotations

import threading

MOST = 100
"""Contradictions that are kept; one is too many."""


class Seen:
    """`mailbox`: whatever the numbers are valid in, such as account, folder and UIDVALIDITY."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[tuple[str, str], str] = {}
        self._next: dict[str, int] = {}
        self.contradictions: list[str] = []

    def message(self, mailbox: str, uid: str, token: str) -> None:
        with self._lock:
            before = self._names.setdefault((mailbox, uid), token)
            if before != token:
                self._complain(f"{mailbox}: {uid} was {before} and is {token}")

    def nexts(self, prefix: str) -> dict[str, int]:
        """By mailbox, the highest UIDNEXT that anybody has read by now: who asks from now on must not be told less."""
        with self._lock:
            return {mailbox: uidnext for mailbox, uidnext in self._next.items() if mailbox.startswith(prefix)}

    def uidnext(self, mailbox: str, uidnext: int, before: int) -> None:
        """`before`: what `nexts` said when it had not been asked for yet."""
        with self._lock:
            if uidnext < before:
                self._complain(f"{mailbox}: UIDNEXT went back from {before} to {uidnext}")
            self._next[mailbox] = max(self._next.get(mailbox, 0), uidnext)

    def _complain(self, text: str) -> None:
        if len(self.contradictions) < MOST:
            self.contradictions.append(text)
