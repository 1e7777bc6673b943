"""UIDs that were expunged, and since when (RFC 7162 section 3.2): asked for, and forgotten when they are too many.

Knows rows and ranges of UIDs. What was forgotten is still told, only less exactly: every UID that is not there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from onedomain.model.uids import Range, UidSet
from onedomain.node.store.values import Folder
from onedomain.node.store.writer import Transaction

MOST = 20_000
KEPT = 10_000
"""Of one folder: above `MOST` the oldest are forgotten, until `KEPT` are left."""


def knows(folder: Folder, modseq: int) -> bool:
    """Whether every expunge after `modseq` is remembered."""
    return modseq >= folder.forgotten_modseq


def since(db: sqlite3.Connection, folder: int, modseq: int) -> list[int]:
    """Ascending UIDs of what was expunged after `modseq`, as far as it is remembered."""
    rows = db.execute("SELECT uid FROM expunged WHERE folder = ? AND modseq > ? ORDER BY uid", (folder, modseq))
    return [uid for (uid,) in rows]


def absent(uids: Sequence[int], within: Iterable[Range]) -> tuple[Range, ...]:
    """What of `within` (ascending, apart) is not among the ascending `uids`."""
    return UidSet(tuple(within)).without(uids).ranges


def forget(tx: Transaction) -> None:
    """Bound the memory of every folder. Clients that come with an older modseq are told of all UIDs not there."""
    crowded = tx.db.execute("SELECT folder, count(*) FROM expunged GROUP BY folder HAVING count(*) > ?", (MOST,))
    for folder, count in crowded.fetchall():
        oldest = (
            "SELECT uid, modseq FROM expunged WHERE folder = ? ORDER BY modseq, uid LIMIT ?", (folder, count - KEPT)
        )
        gone = tx.db.execute(*oldest).fetchall()
        tx.db.executemany("DELETE FROM expunged WHERE folder = ? AND uid = ?", [(folder, uid) for uid, _ in gone])
        tx.db.execute(
            "UPDATE folder SET forgotten_modseq = max(forgotten_modseq, ?), forgotten_uid = max(forgotten_uid, ?)"
            " WHERE id = ?",
            (gone[-1][1], max(uid for uid, _ in gone), folder),
        )
