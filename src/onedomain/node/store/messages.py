"""Messages as rows: add, copy, move, flag, expunge, deliver. Each change takes the folder's next modseq (RFC 7162).

Functions that write take the writer's transaction and tell it what has changed; those that read take any connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from onedomain.node.store.bodies import Place
from onedomain.node.store.values import Added, Expunged, Flagged, Message, Taken
from onedomain.node.store.writer import Transaction
from onedomain.protocol.imap.flags import Mode, change, has

DIGEST = 8
"""Bytes of its SHA-256 that are remembered of an expunged message: enough to tell it from any other."""

_STEP = 500  # parameters in one statement; SQLite allows 32766


class New(NamedTuple):
    """A message to be added: body id and size, internal date in seconds since 1970, canonical flags."""

    body: int
    size: int
    date: int
    flags: str = ""


class Given(NamedTuple):
    """The UIDs that COPY and MOVE report (RFC 4315): of the source and, in the same order, of the target."""

    uidvalidity: int
    source: tuple[int, ...]
    target: tuple[int, ...]


def add_body(tx: Transaction, place: Place, delivery: str | None = None) -> int:
    cursor = tx.db.execute(
        "INSERT INTO body (segment, offset, size, digest, delivery) VALUES (?, ?, ?, ?, ?)", (*place, delivery)
    )
    return int(cursor.lastrowid or 0)


def add(tx: Transaction, folder: int, new: Sequence[New]) -> Added:
    """Under the folder's next UIDs, in order."""
    row = tx.db.execute(
        "UPDATE folder SET uidnext = uidnext + ?, highestmodseq = highestmodseq + 1, changed = ? WHERE id = ?"
        " RETURNING uidnext, highestmodseq",
        (len(new), tx.number, folder),
    ).fetchone()
    first, modseq = row[0] - len(new), row[1]
    added = tuple(
        Message(uid, modseq, item.date, item.flags, item.body, item.size) for uid, item in enumerate(new, first)
    )
    for message in added:
        insert(tx, folder, message)
    change = Added(folder, added)
    tx.changes.append(change)
    return change


def deliver(
    tx: Transaction, place: Place, accounts: Sequence[int], delivery: str | None, now: int
) -> list[Taken]:
    """One body into the INBOX of several accounts; an id that an account has taken already stores nothing again.

    Four statements for the usual recipient: each costs the other threads a change of hands.
    """
    outcomes: list[Taken] = []
    body: int | None = None
    for account in accounts:
        if delivery is not None and not take(tx, account, delivery, now):
            outcomes.append(Taken.ALREADY if _exists(tx.db, account) else Taken.NO_ACCOUNT)
            continue
        row = tx.db.execute(
            "UPDATE folder SET uidnext = uidnext + 1, highestmodseq = highestmodseq + 1, changed = ?"
            " WHERE account = ? AND name = 'INBOX' RETURNING id, uidnext, highestmodseq",
            (tx.number, account),
        ).fetchone()
        if row is None:
            outcomes.append(Taken.NO_ACCOUNT)
            continue
        if body is None:
            body = add_body(tx, place, delivery)
        message = Message(row[1] - 1, row[2], now, "", body, place.size)
        insert(tx, row[0], message)
        tx.changes.append(Added(row[0], (message,)))
        outcomes.append(Taken.STORED)
    return outcomes


def take(tx: Transaction, account: int, delivery: str, now: int) -> bool:
    """Whether the account is there and the id new to it; it is remembered from now on."""
    cursor = tx.db.execute(
        "INSERT OR IGNORE INTO delivered (account, delivery, time) SELECT id, ?, ? FROM account WHERE id = ?",
        (delivery, now, account),
    )
    return cursor.rowcount == 1


def _exists(db: sqlite3.Connection, account: int) -> bool:
    return db.execute("SELECT 1 FROM account WHERE id = ?", (account,)).fetchone() is not None


def insert(tx: Transaction, folder: int, message: Message) -> None:
    tx.db.execute(
        "INSERT INTO message (folder, uid, modseq, date, flags, body) VALUES (?, ?, ?, ?, ?, ?)",
        (folder, message.uid, message.modseq, message.date, message.flags, message.body),
    )


def forget_deliveries(tx: Transaction, before: int) -> None:
    tx.db.execute("DELETE FROM delivered WHERE time < ?", (before,))


def of_folder(db: sqlite3.Connection, folder: int) -> Iterator[Message]:
    """In ascending order of UIDs."""
    rows = db.execute(
        "SELECT uid, modseq, date, flags, body, size FROM message JOIN body ON body.id = message.body"
        " WHERE folder = ? ORDER BY uid",
        (folder,),
    )
    return map(Message._make, rows)


def some(db: sqlite3.Connection, folder: int, uids: Sequence[int]) -> Iterator[Message]:
    """Those of `uids`, ascending, that are there."""
    for step in _steps(uids):
        yield from map(
            Message._make,
            db.execute(
                "SELECT uid, modseq, date, flags, body, size FROM message JOIN body ON body.id = message.body"
                f" WHERE folder = ? AND uid IN ({_marks(step)}) ORDER BY uid",
                (folder, *step),
            ).fetchall(),
        )


def store_flags(
    tx: Transaction, folder: int, uids: Sequence[int], mode: Mode, flags: str, by: object = None
) -> Flagged | None:
    """Those that are there get their new flags and, if that changed any, a new modseq. None: nothing changed."""
    changed: list[tuple[int, str]] = []
    for message in some(tx.db, folder, uids):
        after = change(message.flags, mode, flags)
        if after != message.flags:
            changed.append((message.uid, after))
    if not changed:
        return None
    modseq = next_modseq(tx, folder)
    tx.db.executemany(
        "UPDATE message SET flags = ?, modseq = ? WHERE folder = ? AND uid = ?",
        [(after, modseq, folder, uid) for uid, after in changed],
    )
    flagged = Flagged(folder, modseq, tuple(changed), by)
    tx.changes.append(flagged)
    return flagged


def modified_since(db: sqlite3.Connection, folder: int, uids: Sequence[int], modseq: int) -> list[int]:
    """Those of `uids` whose modseq is above `modseq`: what UNCHANGEDSINCE protects (RFC 7162 section 3.1.3)."""
    found: list[int] = []
    for step in _steps(uids):
        rows = db.execute(
            f"SELECT uid FROM message WHERE folder = ? AND uid IN ({_marks(step)}) AND modseq > ? ORDER BY uid",
            (folder, *step, modseq),
        )
        found += [uid for (uid,) in rows]
    return found


def expunge(
    tx: Transaction, folder: int, uids: Sequence[int], only: Callable[[Message], bool] | None = None
) -> Expunged | None:
    """Those that are there and `only` wants (by default: what is \\Deleted) are gone. None: there were none."""
    wanted = only or (lambda message: has(message.flags, r"\Deleted"))
    gone = [message for message in some(tx.db, folder, uids) if wanted(message)]
    if not gone:
        return None
    modseq = next_modseq(tx, folder)
    return remove(tx, folder, gone, modseq)


def remove(tx: Transaction, folder: int, gone: Sequence[Message], modseq: int) -> Expunged:
    """Expunge them, by a change that has taken `modseq`. What each UID named is remembered."""
    tx.db.executemany(
        "INSERT INTO expunged (folder, uid, modseq, digest)"
        " SELECT ?, ?, ?, substr(digest, 1, ?) FROM body WHERE id = ?",
        [(folder, m.uid, modseq, DIGEST, m.body) for m in gone],
    )
    tx.db.executemany("DELETE FROM message WHERE folder = ? AND uid = ?", [(folder, m.uid) for m in gone])
    drop_bodies(tx, [m.body for m in gone])
    expunged = Expunged(folder, modseq, tuple(m.uid for m in gone))
    tx.changes.append(expunged)
    return expunged


def copy(tx: Transaction, source: int, target: int, uids: Sequence[int]) -> Given:
    """Flags and dates are kept, bodies shared (RFC 3501 section 6.4.7). What is gone is left out."""
    found = list(some(tx.db, source, uids))
    (uidvalidity,) = tx.db.execute("SELECT uidvalidity FROM folder WHERE id = ?", (target,)).fetchone()
    if not found:
        return Given(uidvalidity, (), ())
    added = add(tx, target, [New(m.body, m.size, m.date, m.flags) for m in found])
    return Given(uidvalidity, tuple(m.uid for m in found), tuple(m.uid for m in added.messages))


def move(tx: Transaction, source: int, target: int, uids: Sequence[int]) -> Given:
    """RFC 6851: a copy and an expunge that nobody sees apart."""
    given = copy(tx, source, target, uids)
    expunge(tx, source, given.source, only=lambda _: True)
    return given


def next_modseq(tx: Transaction, folder: int) -> int:
    (modseq,) = tx.db.execute(
        "UPDATE folder SET highestmodseq = highestmodseq + 1, changed = ? WHERE id = ? RETURNING highestmodseq",
        (tx.number, folder),
    ).fetchone()
    return int(modseq)


def drop_bodies(tx: Transaction, bodies: Iterable[int]) -> None:
    """The rows of those that no message has any more; their bytes go when their segment is compacted."""
    for step in _steps(sorted(set(bodies))):
        rows = tx.db.execute(
            f"DELETE FROM body WHERE id IN ({_marks(step)})"
            " AND NOT EXISTS (SELECT 1 FROM message WHERE message.body = body.id) RETURNING segment",
            step,
        )
        tx.left.update(segment for (segment,) in rows.fetchall())


def with_delivery(db: sqlite3.Connection, folder: int, text: str) -> list[int]:
    """UIDs whose delivery id is `text` or, where there is none, has `text` in it, whatever its case."""
    exact = db.execute(
        "SELECT uid FROM body JOIN message ON message.body = body.id WHERE delivery = ? AND folder = ? ORDER BY uid",
        (text, folder),
    ).fetchall()
    rows = exact or db.execute(
        "SELECT uid FROM message JOIN body ON body.id = message.body"
        " WHERE folder = ? AND instr(lower(delivery), lower(?)) ORDER BY uid",
        (folder, text),
    ).fetchall()
    return [uid for (uid,) in rows]


def counts(db: sqlite3.Connection, folder: int) -> tuple[int, int, int, int]:
    r"""Messages, those without \Seen, those with \Deleted, bytes."""
    row = db.execute(
        "SELECT count(*), coalesce(sum(instr(flags, '\\Seen') = 0), 0),"
        " coalesce(sum(instr(flags, '\\Deleted') > 0), 0), coalesce(sum(size), 0)"
        " FROM message JOIN body ON body.id = message.body WHERE folder = ?",
        (folder,),
    ).fetchone()
    return (row[0], row[1], row[2], row[3])


def count_from(db: sqlite3.Connection, folder: int, uid: int) -> int:
    """Messages with this UID or a higher one."""
    (count,) = db.execute("SELECT count(*) FROM message WHERE folder = ? AND uid >= ?", (folder, uid)).fetchone()
    return int(count)


def _steps(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _STEP):
        yield values[start:start + _STEP]


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
