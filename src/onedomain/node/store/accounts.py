"""Accounts as rows: making one with its first folders, its password, and who there is.

Functions that write take the writer's transaction, those that read take any connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from onedomain.node.store import folders, messages
from onedomain.node.store.values import Account, Removed
from onedomain.node.store.writer import Transaction

DEFAULT_FOLDERS = {"Drafts": "\\Drafts", "Sent": "\\Sent", "Trash": "\\Trash", "Junk": "\\Junk", "Archive": "\\Archive"}
"""Name -> special use (RFC 6154); subscribed from the start, so that every client shows them."""


def find(db: sqlite3.Connection, name: str) -> Account | None:
    row = db.execute("SELECT id, name FROM account WHERE name = ?", (name,)).fetchone()
    return None if row is None else Account(*row)


def everyone(db: sqlite3.Connection) -> list[Account]:
    return [Account(*row) for row in db.execute("SELECT id, name FROM account ORDER BY name")]


def password(db: sqlite3.Connection, name: str) -> str:
    """The hash, or "" where there is none or no such account."""
    row = db.execute("SELECT password FROM account WHERE name = ?", (name,)).fetchone()
    return "" if row is None else str(row[0])


def create(
    tx: Transaction, name: str, now: int, password: str = "", others: Mapping[str, str] = DEFAULT_FOLDERS
) -> Account:
    """The account of that name, made with INBOX and the other folders where it was not there."""
    found = find(tx.db, name)
    if found is not None:
        return found
    cursor = tx.db.execute(
        "INSERT INTO account (name, password, created, changed) VALUES (?, ?, ?, ?)", (name, password, now, tx.number)
    )
    account = Account(int(cursor.lastrowid or 0), name)
    for folder, use in {"INBOX": "", **others}.items():
        folders.create(tx, account.id, folder, now, use)
        folders.subscribe(tx, account.id, folder)
    return account


def set_password(tx: Transaction, account: int, password: str) -> None:
    tx.db.execute("UPDATE account SET password = ? WHERE id = ?", (password, account))


def remove(tx: Transaction, account: int) -> None:
    """With everything it has."""
    gone = [folder.id for folder in folders.of_account(tx.db, account)]
    rows = tx.db.execute("SELECT body FROM message JOIN folder ON folder.id = folder WHERE account = ?", (account,))
    bodies = [body for (body,) in rows]
    tx.db.execute("DELETE FROM account WHERE id = ?", (account,))
    messages.drop_bodies(tx, bodies)
    tx.changes.extend(Removed(folder) for folder in gone)
