"""What has changed, for a link that asks: accounts since a commit, messages since a modseq, where a delivery id is.

Knows queries only. All of one call sees one moment of the database.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from onedomain.node.store import folders
from onedomain.node.store.values import Account, Folder

STEP = 500  # parameters in one statement


class Described(NamedTuple):
    """A message as a link sees it. `digest` is the SHA-256 of its bytes, `delivery` "" where it has no id."""

    uid: int
    modseq: int
    date: int
    flags: str
    size: int
    digest: bytes
    delivery: str
    body: int


def mark(db: sqlite3.Connection) -> tuple[str, int]:
    """The database's id and the number of its last commit."""
    row = db.execute("SELECT id, change FROM node").fetchone()
    return str(row[0]), int(row[1])


def accounts_since(db: sqlite3.Connection, commit: int) -> list[Account]:
    rows = db.execute(
        "SELECT id, name FROM account WHERE id IN"
        " (SELECT id FROM account WHERE changed > ? UNION SELECT account FROM folder WHERE changed > ?) ORDER BY id",
        (commit, commit),
    )
    return [Account(*row) for row in rows]


def accounts_named(db: sqlite3.Connection, names: Sequence[str]) -> list[Account]:
    found: list[Account] = []
    for step in (names[at:at + STEP] for at in range(0, len(names), STEP)):
        marks = ",".join("?" * len(step))
        rows = db.execute(f"SELECT id, name FROM account WHERE name IN ({marks}) ORDER BY id", tuple(step))
        found += [Account(*row) for row in rows]
    return found


def of_account(db: sqlite3.Connection, account: int, commit: int) -> tuple[list[str] | None, list[Folder]]:
    """(subscriptions, all folders) where the list of folders has changed since, else (None, the folders changed)."""
    there = folders.of_account(db, account)
    (changed,) = db.execute("SELECT changed FROM account WHERE id = ?", (account,)).fetchone()
    if changed > commit:
        return folders.subscriptions(db, account), there
    return None, [folder for folder in there if folder.changed > commit]


def count(db: sqlite3.Connection, folder: int) -> int:
    (number,) = db.execute("SELECT count(*) FROM message WHERE folder = ?", (folder,)).fetchone()
    return int(number)


def uids_since(db: sqlite3.Connection, folder: int, modseq: int, first: int = 1) -> array[int]:
    """Ascending UIDs from `first` on of the messages added or changed after `modseq`; by the index unless it is nearly
    all of them.
    """
    if modseq <= 1:
        rows = db.execute("SELECT uid FROM message WHERE folder = ? AND uid >= ? ORDER BY uid", (folder, first))
        return array("I", (uid for (uid,) in rows))
    rows = db.execute(
        "SELECT uid FROM message INDEXED BY message_modseq WHERE folder = ? AND modseq > ? AND uid >= ?",
        (folder, modseq, first),
    )
    return array("I", sorted(uid for (uid,) in rows))


def described(db: sqlite3.Connection, folder: int, uids: Sequence[int]) -> Iterator[Described]:
    """Those of `uids` that are there, ascending; at most STEP of them at once."""
    marks = ",".join("?" * len(uids))
    rows = db.execute(
        "SELECT uid, modseq, date, flags, size, digest, coalesce(delivery, ''), body.id"
        f" FROM message JOIN body ON body.id = body WHERE folder = ? AND uid IN ({marks}) ORDER BY uid",
        (folder, *uids),
    )
    return map(Described._make, rows.fetchall())


def deliveries(
    db: sqlite3.Connection, account: int, wanted: Iterable[str]
) -> Iterator[tuple[str, list[tuple[str, int]] | None]]:
    """(id, [(mailbox id, UID), …]): where it is; [] if it was taken here and is gone; None if it never came."""
    for delivery in wanted:
        rows = db.execute(
            "SELECT mailbox_id, uid FROM body JOIN message ON message.body = body.id JOIN folder ON folder.id = folder"
            " WHERE delivery = ? AND account = ? ORDER BY mailbox_id, uid",
            (delivery, account),
        ).fetchall()
        taken = db.execute(
            "SELECT 1 FROM delivered WHERE account = ? AND delivery = ?", (account, delivery)
        ).fetchone()
        yield delivery, [(str(row[0]), int(row[1])) for row in rows] if rows or taken else None
