"""What clients of an account are shown, remembered, and held against what they are shown later.

Spoken by imaplib; knows nothing of links. Names are paths, as in tests/backend/link/mailbox.py.
"""

from __future__ import annotations

import imaplib
import re
from dataclasses import dataclass, field
from typing import Any

from tests.backend.link.mailbox import Mailbox, Path, done, quote


@dataclass
class Shown:
    """Everything that was ever shown, of invariants 1 and 3 as much as can be seen at each look."""

    named: dict[tuple[Path, int, int], str] = field(default_factory=dict)  # (folder, UIDVALIDITY, UID) -> digest
    uidnext: dict[tuple[Path, int], int] = field(default_factory=dict)

    def look(self, seen: Mailbox, where: str, *, primary: bool = True) -> Mailbox:
        """Of a replica clients see nothing, but what its UIDs name it names for ever."""
        for path, box in seen.boxes.items():
            for uid, message in box.messages.items():
                first = self.named.setdefault((path, box.uidvalidity, uid), message.digest)
                assert first == message.digest, f"{where}: UID {uid} of {path} named another message before"
                assert uid < box.uidnext, f"{where}: {path}"
            if not primary:
                continue
            floor = self.uidnext.setdefault((path, box.uidvalidity), box.uidnext)
            assert box.uidnext >= floor, f"{where}: UIDNEXT of {path} went from {floor} to {box.uidnext}"
            self.uidnext[path, box.uidvalidity] = box.uidnext
        return seen

    def forget(self, path: Path) -> None:
        """Clients were told another UIDVALIDITY."""
        self.named = {key: digest for key, digest in self.named.items() if key[0] != path}


@dataclass
class Cache:
    """One folder of a mail program: UIDVALIDITY, HIGHESTMODSEQ and flags by UID."""

    name: str
    uidvalidity: int = 0
    modseq: int = 0
    flags: dict[int, frozenset[str]] = field(default_factory=dict)

    def fill(self, session: imaplib.IMAP4) -> None:
        done(session.select(quote(self.name), readonly=True))
        self.uidvalidity, self.modseq = (_code(session, word) for word in ("UIDVALIDITY", "HIGHESTMODSEQ"))
        self.flags = listed(session)

    def list_again(self, session: imaplib.IMAP4) -> set[int]:
        """As programs without QRESYNC do it; returns the UIDs whose bodies have to be fetched."""
        done(session.select(quote(self.name), readonly=True))
        if _code(session, "UIDVALIDITY") != self.uidvalidity:
            self.flags = {}
        fresh = listed(session)
        unknown = fresh.keys() - self.flags.keys()
        self.flags = fresh
        return unknown

    def resynchronise(self, session: imaplib.IMAP4) -> set[int]:
        """SELECT with QRESYNC (RFC 7162 section 3.2.5.2): what it tells, and no more, is what the cache becomes."""
        session.enable("QRESYNC")
        session.untagged_responses.clear()
        known = f"(QRESYNC ({self.uidvalidity} {self.modseq}))"
        done(session._simple_command("SELECT", quote(self.name), known))  # type: ignore[attr-defined]
        session.state = "SELECTED"
        assert _code(session, "UIDVALIDITY") == self.uidvalidity
        modseq = _code(session, "HIGHESTMODSEQ")
        assert modseq >= self.modseq, "HIGHESTMODSEQ went down"
        self.modseq = modseq
        for told in session.untagged_responses.get("VANISHED", []):
            for uid in _uids(told.removeprefix(b"(EARLIER) ")) & self.flags.keys():
                del self.flags[uid]
        unknown = set()
        for told in session.untagged_responses.get("FETCH", []):
            uid, flags = _fetched(told)
            if uid not in self.flags:
                unknown.add(uid)
            self.flags[uid] = flags
        return unknown


def listed(session: imaplib.IMAP4) -> dict[int, frozenset[str]]:
    """UID FETCH 1:* (FLAGS) of the folder that is open."""
    return dict(_fetched(each) for each in done(session.uid("FETCH", "1:*", "(FLAGS)")) if each)


def modseqs(session: imaplib.IMAP4, names: list[str]) -> dict[str, int]:
    found = {}
    for name in names:
        answer = done(session.status(quote(name), "(HIGHESTMODSEQ)"))[0]
        number = re.search(rb"HIGHESTMODSEQ (\d+)", answer)
        assert number, answer
        found[name] = int(number[1])
    return found


def _code(session: imaplib.IMAP4, word: str) -> int:
    return int(session.untagged_responses[word][-1])


def _fetched(told: Any) -> tuple[int, frozenset[str]]:
    uid, flags = re.search(rb"UID (\d+)", told), re.search(rb"FLAGS \(([^)]*)\)", told)
    assert uid and flags, told
    return int(uid[1]), frozenset(flags[1].decode().split()) - {"\\Recent"}


def _uids(ranges: bytes) -> set[int]:
    found: set[int] = set()
    for part in ranges.split(b","):
        low, _, high = part.partition(b":")
        first, last = int(low), int(high or low)
        assert last - first < 10_000_000, ranges
        found.update(range(first, last + 1))
    return found
