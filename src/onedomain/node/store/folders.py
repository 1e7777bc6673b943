"""Folders as rows: names, UIDVALIDITY, subscriptions (RFC 3501 section 6.3).

Functions that write take the writer's transaction, those that read take any connection. A name with children and no
row of its own is not a folder: LIST shows it as \\Noselect.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any

from onedomain.node.store import messages, retired
from onedomain.node.store.values import Doubt, Folder, Rejected, Removed
from onedomain.node.store.writer import Transaction

SEPARATOR = "/"
MAX_NAME = 255          # characters of the whole name
MAX_DEPTH = 32
MAX_FOLDERS = 10_000    # of one account

LARGEST = 0xFFFF_FFFF    # of UIDVALIDITY and UID (RFC 3501 section 2.3.1.1)

_COLUMNS = (
    "id, account, name, mailbox_id, special_use, uidvalidity, uidnext, highestmodseq, recent_uid,"
    " forgotten_modseq, forgotten_uid, changed, doubt_from, doubt_to"
)


def _folder(row: Sequence[Any]) -> Folder:
    *fields, after, before = row
    return Folder(*[*fields, Doubt(after, before)])


def find(db: sqlite3.Connection, account: int, name: str) -> Folder | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM folder WHERE account = ? AND name = ?", (account, name)).fetchone()
    return None if row is None else _folder(row)


def get(db: sqlite3.Connection, account: int, name: str) -> Folder:
    folder = find(db, account, name)
    if folder is None:
        raise Rejected("NONEXISTENT", "No such mailbox")
    return folder


def by_id(db: sqlite3.Connection, folder: int) -> Folder:
    row = db.execute(f"SELECT {_COLUMNS} FROM folder WHERE id = ?", (folder,)).fetchone()
    if row is None:
        raise Rejected("NONEXISTENT", "Mailbox has been deleted")
    return _folder(row)


def with_mailbox_id(db: sqlite3.Connection, account: int, mailbox_id: str) -> Folder | None:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM folder WHERE mailbox_id = ? AND account = ?", (mailbox_id, account)
    ).fetchone()
    return None if row is None else _folder(row)


def of_account(db: sqlite3.Connection, account: int) -> list[Folder]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM folder WHERE account = ? ORDER BY name", (account,))
    return [_folder(row) for row in rows]


def check_name(name: str) -> None:
    """Raises Rejected with what the client is told."""
    parts = name.split(SEPARATOR)
    if not name or len(name) > MAX_NAME or len(parts) > MAX_DEPTH:
        raise Rejected("LIMIT", "Mailbox name is empty, too long or too deep")
    if not all(parts):
        raise Rejected("CANNOT", "Mailbox name has an empty level")
    if any(c < " " or c == "\x7f" or "\x80" <= c <= "\x9f" or c in "*%\u2028\u2029\ufffd" for c in name):
        raise Rejected("CANNOT", "Mailbox name has a character that is not allowed")
    if parts[0].upper() == "INBOX" and parts[0] != "INBOX":
        raise Rejected("CANNOT", "INBOX is written in capitals here")


def create(tx: Transaction, account: int, name: str, now: int, special_use: str = "") -> Folder:
    """A new folder, with a UIDVALIDITY that the account never had. Raises Rejected."""
    check_name(name)
    if find(tx.db, account, name) is not None:
        raise Rejected("ALREADYEXISTS", "Mailbox exists already")
    (count,) = tx.db.execute("SELECT count(*) FROM folder WHERE account = ?", (account,)).fetchone()
    if count >= MAX_FOLDERS:
        raise Rejected("LIMIT", "Too many mailboxes")
    (uidvalidity,) = tx.db.execute(
        "UPDATE account SET uidvalidity = max(uidvalidity + 1, ?), changed = ? WHERE id = ? RETURNING uidvalidity",
        (now, tx.number, account),
    ).fetchone()
    if uidvalidity > LARGEST:
        raise Rejected("LIMIT", "No UIDVALIDITY is left")
    tx.db.execute(
        "INSERT INTO folder (account, name, mailbox_id, special_use, uidvalidity, changed) VALUES (?, ?, ?, ?, ?, ?)",
        (account, name, secrets.token_hex(12), special_use, uidvalidity, tx.number),
    )
    return get(tx.db, account, name)


def touch(tx: Transaction, account: int) -> None:
    """The account's folders, their special use or its subscriptions have changed."""
    tx.db.execute("UPDATE account SET changed = ? WHERE id = ?", (tx.number, account))


def delete(tx: Transaction, account: int, name: str, now: int) -> None:
    """The folder and its messages; its children stay (RFC 3501 section 6.3.4). Raises Rejected."""
    if name == "INBOX":
        raise Rejected("CANNOT", "INBOX can't be deleted")
    folder = find(tx.db, account, name)
    if folder is None:
        if _children(tx.db, account, name):
            raise Rejected("HASCHILDREN", "Mailbox has no messages, only children")
        raise Rejected("NONEXISTENT", "No such mailbox")
    retired.retire(tx, folder, now)
    bodies = [body for (body,) in tx.db.execute("SELECT body FROM message WHERE folder = ?", (folder.id,))]
    tx.db.execute("DELETE FROM folder WHERE id = ?", (folder.id,))
    touch(tx, account)
    messages.drop_bodies(tx, bodies)
    tx.changes.append(Removed(folder.id))


def rename(tx: Transaction, account: int, old: str, new: str, now: int) -> None:
    """With all children; UIDVALIDITY and UIDs stay. Raises Rejected.

    INBOX stays, and its messages move out (RFC 3501 section 6.3.5).
    """
    check_name(new)
    if find(tx.db, account, new) is not None or _children(tx.db, account, new):
        raise Rejected("ALREADYEXISTS", "Mailbox exists already")
    if new.startswith(old + SEPARATOR):
        raise Rejected("CANNOT", "A mailbox can't become its own child")
    if old == "INBOX":
        inbox, target = get(tx.db, account, old), create(tx, account, new, now)
        uids = [uid for (uid,) in tx.db.execute("SELECT uid FROM message WHERE folder = ? ORDER BY uid", (inbox.id,))]
        messages.move(tx, inbox.id, target.id, uids)
        return
    moved = _children(tx.db, account, old)
    if find(tx.db, account, old) is not None:
        moved.append(old)
    if not moved:
        raise Rejected("NONEXISTENT", "No such mailbox")
    touch(tx, account)
    for name in moved:
        check_name(new + name[len(old):])
        tx.db.execute(
            "UPDATE folder SET name = ? WHERE account = ? AND name = ?", (new + name[len(old):], account, name)
        )


def subscribe(tx: Transaction, account: int, name: str) -> None:
    check_name(name)
    (count,) = tx.db.execute("SELECT count(*) FROM subscription WHERE account = ?", (account,)).fetchone()
    if count >= MAX_FOLDERS:
        raise Rejected("LIMIT", "Too many subscriptions")
    if tx.db.execute("INSERT OR IGNORE INTO subscription (account, name) VALUES (?, ?)", (account, name)).rowcount:
        touch(tx, account)


def unsubscribe(tx: Transaction, account: int, name: str) -> None:
    if tx.db.execute("DELETE FROM subscription WHERE account = ? AND name = ?", (account, name)).rowcount:
        touch(tx, account)


def subscriptions(db: sqlite3.Connection, account: int) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM subscription WHERE account = ? ORDER BY name", (account,))]


def claim_recent(tx: Transaction, folder: int, below: int) -> None:
    """A session has been shown everything below this UID as \\Recent: no other will be."""
    tx.db.execute("UPDATE folder SET recent_uid = ? WHERE id = ? AND recent_uid < ?", (below, folder, below))


def _children(db: sqlite3.Connection, account: int, name: str) -> list[str]:
    """Names below `name`; half-open range, so that the index of names answers ("0" follows "/")."""
    rows = db.execute(
        "SELECT name FROM folder WHERE account = ? AND name >= ? AND name < ?", (account, name + "/", name + "0")
    )
    return [row[0] for row in rows]
