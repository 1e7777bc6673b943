"""A maildrop as one POP3 session sees it (RFC 1939 section 5): numbered messages, some marked as deleted.

Knows numbers, sizes, UIDLs, marks and the answers made of them. Does not know where messages are kept or how they are
removed. Numbers start at 1 and never change during a session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Entry(NamedTuple):
    """`uid` is the home's; `size` in bytes with CRLF line ends, not dot-stuffed."""

    uid: int
    size: int
    uidl: str


class NoSuchMessage(LookupError):
    """The text is fit for the client."""


class Maildrop:
    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._deleted: set[int] = set()
        # Of what is not deleted. Clients ask again and again, and there may be many thousands.
        self._count = len(entries)
        self._octets = sum(entry.size for entry in entries)

    def entry(self, number: int) -> Entry:
        """Raises NoSuchMessage, for a message marked as deleted too."""
        if not 1 <= number <= len(self._entries):
            raise NoSuchMessage(f"There is no message {number}, only {len(self._entries)}.")
        if number in self._deleted:
            raise NoSuchMessage(f"Message {number} is deleted.")
        return self._entries[number - 1]

    def delete(self, number: int) -> None:
        entry = self.entry(number)
        self._deleted.add(number)
        self._count -= 1
        self._octets -= entry.size

    def reset(self) -> None:
        self._count += len(self._deleted)
        self._octets += sum(self._entries[number - 1].size for number in self._deleted)
        self._deleted.clear()

    @property
    def deleted(self) -> tuple[Entry, ...]:
        return tuple(self._entries[number - 1] for number in sorted(self._deleted))

    def stat(self) -> tuple[int, int]:
        """How many messages are not deleted, and their bytes."""
        return self._count, self._octets

    def listing(self) -> list[str]:
        return [f"{number} {entry.size}" for number, entry in self._kept()]

    def uidls(self) -> list[str]:
        return [f"{number} {entry.uidl}" for number, entry in self._kept()]

    def _kept(self) -> list[tuple[int, Entry]]:
        deleted = self._deleted
        return [(number, entry) for number, entry in enumerate(self._entries, 1) if number not in deleted]
