"""`onedomain node check`: whether everything that the rows say is true, of each other and of the bodies.

Knows what must hold. Changes nothing, and may run beside a running node: it looks at one moment of the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onedomain.node.store.bodies import FOLDER, BodyFile, Place, Segments
from onedomain.node.store.schema import open_for_reading

_PLACE = "id, segment, offset, size, digest"

_RULES = {
    "uid not below uidnext": (
        "SELECT folder, uid FROM message JOIN folder ON folder.id = folder WHERE uid >= uidnext OR uid < 1"
    ),
    "modseq above the folder's": (
        "SELECT folder, uid FROM message JOIN folder ON folder.id = folder WHERE modseq > highestmodseq OR modseq < 1"
    ),
    "expunged uid not below uidnext": (
        "SELECT folder, uid FROM expunged JOIN folder ON folder.id = folder WHERE uid >= uidnext"
    ),
    "expunged modseq above the folder's": (
        "SELECT folder, uid FROM expunged JOIN folder ON folder.id = folder WHERE modseq > highestmodseq"
    ),
    "expunged and still there": "SELECT folder, uid FROM message JOIN expunged USING (folder, uid)",
    "uidvalidity above the account's": (
        "SELECT folder.id, folder.name FROM folder JOIN account ON account.id = account"
        " WHERE folder.uidvalidity > account.uidvalidity OR folder.uidvalidity < 1"
    ),
    "changed after the last commit": "SELECT folder.id, name FROM folder, node WHERE changed > change",
    "forgotten uid not below uidnext": "SELECT id, name FROM folder WHERE forgotten_uid >= uidnext",
    "forgotten modseq above the folder's": "SELECT id, name FROM folder WHERE forgotten_modseq > highestmodseq",
    "account without INBOX": (
        "SELECT id, name FROM account WHERE NOT EXISTS"
        " (SELECT 1 FROM folder WHERE folder.account = account.id AND folder.name = 'INBOX')"
    ),
    "body without a message": "SELECT id, segment FROM body WHERE id NOT IN (SELECT body FROM message)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    accounts: int
    folders: int
    messages: int
    bodies: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        return not self.findings


def verify(directory: Path) -> Report:
    """Reads every body. Raises sqlite3.Error where there is no database that can be read at all."""
    db = open_for_reading(directory)
    try:
        db.execute("BEGIN")
        count = {
            table: int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
            for table in ("account", "folder", "message", "body")
        }
        findings = [Finding("integrity", row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        findings += [Finding("foreign key", str(tuple(row))) for row in db.execute("PRAGMA foreign_key_check")]
        for rule, query in _RULES.items():
            findings += [Finding(rule, f"{a}: {b}") for a, b in db.execute(query)]
        places = [(row[0], Place(*row[1:])) for row in db.execute(f"SELECT {_PLACE} FROM body")]
        db.execute("COMMIT")
        findings += [Finding("body", what) for what in _unsound(db, Segments(directory / FOLDER), places)]
        size = sum(place.size for _, place in places)
        return Report(count["account"], count["folder"], count["message"], count["body"], size, tuple(findings))
    finally:
        db.close()


def _unsound(db: sqlite3.Connection, segments: Segments, places: list[tuple[int, Place]]) -> Iterator[str]:
    for body, place in places:
        where = f"body {body} in segment {place.segment} at {place.offset}"
        try:
            with BodyFile(segments.path(place.segment), place) as file:
                if not file.is_sound():
                    yield f"{where}: the bytes are not those that were stored"
        except FileNotFoundError:
            row = db.execute(f"SELECT {_PLACE} FROM body WHERE id = ?", (body,)).fetchone()
            if row is not None and row[1] == place.segment:  # else it was expunged or compacted while we looked
                yield f"{where}: the segment is missing"
