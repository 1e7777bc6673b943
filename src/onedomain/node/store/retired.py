"""What a name's UIDs once named, after its folder was deleted or was given another UIDVALIDITY.

A link may give a name a UIDVALIDITY that it had here before, to mend a replica; then a UID must name what it named
(RFC 3501 section 2.3.1.1). Knows rows. Does not know who asks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from onedomain.node.store.messages import DIGEST
from onedomain.node.store.values import Folder
from onedomain.node.store.writer import Transaction

_NAMED = struct.Struct(f">I{DIGEST}s")
_NOBODY = bytes(DIGEST)


def retire(tx: Transaction, folder: Folder, now: int) -> None:
    """Remember a folder that goes, or goes on under another UIDVALIDITY; one that never had a message is nothing."""
    if folder.uidnext == 1:
        return
    rows = tx.db.execute(
        "SELECT uid, substr(digest, 1, ?) FROM message JOIN body ON body.id = body WHERE folder = ?"
        " UNION ALL SELECT uid, digest FROM expunged WHERE folder = ?",
        (DIGEST, folder.id, folder.id),
    )
    contents = b"".join(_NAMED.pack(uid, digest or _NOBODY) for uid, digest in rows)
    tx.db.execute(
        "INSERT OR REPLACE INTO retired VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (folder.account, folder.name, folder.uidvalidity, folder.uidnext, folder.highestmodseq, folder.forgotten_uid,
         now, contents),
    )  # fmt: skip


def revive(tx: Transaction, folder: Folder) -> None:
    """The folder has its name and UIDVALIDITY from now on: if there was one like it, this one goes on from there."""
    row = tx.db.execute(
        "DELETE FROM retired WHERE account = ? AND name = ? AND uidvalidity = ?"
        " RETURNING uidnext, highestmodseq, forgotten_uid, contents",
        (folder.account, folder.name, folder.uidvalidity),
    ).fetchone()
    if row is None:
        return
    uidnext, modseq, forgotten_uid, contents = row
    tx.db.execute(
        "UPDATE folder SET uidnext = max(uidnext, ?), highestmodseq = max(highestmodseq, ?),"
        " forgotten_modseq = max(forgotten_modseq, ?), forgotten_uid = max(forgotten_uid, ?) WHERE id = ?",
        (uidnext, modseq, modseq, forgotten_uid, folder.id),
    )
    # modseq 1: whatever the link gives for the UID is newer, as long as it is the same message
    tx.db.executemany(
        "INSERT OR IGNORE INTO expunged (folder, uid, modseq, digest) VALUES (?, ?, 1, ?)",
        [(folder.id, uid, digest) for uid, digest in _unpack(contents)],
    )


def forget(tx: Transaction, before: int) -> None:
    tx.db.execute("DELETE FROM retired WHERE time < ?", (before,))


def _unpack(contents: bytes) -> Iterator[tuple[int, bytes | None]]:
    for uid, digest in _NAMED.iter_unpack(contents):
        yield uid, None if digest == _NOBODY else digest
