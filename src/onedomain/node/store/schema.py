"""The node's tables, and how a connection to them is opened.

Knows SQL and the version of the format. Does not know what the rows are used for.

Replication finds what it needs: a modseq per message and folder, the UIDs that were expunged and when (RFC 7162
section 3.2), a mailbox id that survives RENAME, per account the delivery ids that were ever taken, and the number of
the commit that last changed a folder or an account's list of folders.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

VERSION = 3
DATABASE = "node.db"

_FIRST = """
CREATE TABLE account (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,              -- key form, `local@domain`
    password TEXT NOT NULL DEFAULT '',      -- hash in crypt or {SCHEME} form; '' lets nobody in but the proxy user
    uidvalidity INTEGER NOT NULL DEFAULT 0, -- the last one given to a folder: none is ever given twice
    created INTEGER NOT NULL                -- seconds since 1970
);
CREATE TABLE folder (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,                     -- Unicode, levels separated by "/"; INBOX in capitals
    mailbox_id TEXT NOT NULL UNIQUE,        -- RFC 8474; survives RENAME
    special_use TEXT NOT NULL DEFAULT '',   -- RFC 6154, `\\Sent`
    uidvalidity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL DEFAULT 1,
    highestmodseq INTEGER NOT NULL DEFAULT 1,
    recent_uid INTEGER NOT NULL DEFAULT 1,  -- UIDs from here on have not been shown as \\Recent
    UNIQUE (account, name)
);
CREATE TABLE subscription (                 -- RFC 3501 section 6.3.6: outlives the folder it names
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;
CREATE TABLE body (                         -- the bytes of one message, shared by its copies
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    segment INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    size INTEGER NOT NULL,
    digest BLOB NOT NULL,                   -- SHA-256 of the bytes
    delivery TEXT                           -- value of X-OneDomain-Delivery, where it has one
);
CREATE INDEX body_segment ON body (segment);
CREATE INDEX body_delivery ON body (delivery) WHERE delivery IS NOT NULL;
CREATE TABLE message (
    folder INTEGER NOT NULL REFERENCES folder (id) ON DELETE CASCADE,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    date INTEGER NOT NULL,                  -- internal date, seconds since 1970
    flags TEXT NOT NULL DEFAULT '',         -- canonical form, protocol/imap/flags.py
    body INTEGER NOT NULL REFERENCES body (id),
    PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
CREATE INDEX message_body ON message (body);
CREATE TABLE expunged (
    folder INTEGER NOT NULL REFERENCES folder (id) ON DELETE CASCADE,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
CREATE INDEX expunged_modseq ON expunged (folder, modseq);
CREATE TABLE delivered (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    delivery TEXT NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (account, delivery)
) WITHOUT ROWID;
"""

_SECOND = """
CREATE TABLE node (                         -- one row
    id TEXT NOT NULL,                       -- of this database: another one behind the same address has another id
    change INTEGER NOT NULL                 -- number of the last commit: what `changed` refers to
);
INSERT INTO node VALUES (lower(hex(randomblob(12))), 1);
ALTER TABLE account ADD COLUMN changed INTEGER NOT NULL DEFAULT 1;  -- names of folders, special use, subscriptions
ALTER TABLE folder ADD COLUMN changed INTEGER NOT NULL DEFAULT 1;   -- UIDNEXT, HIGHESTMODSEQ
ALTER TABLE folder ADD COLUMN forgotten_modseq INTEGER NOT NULL DEFAULT 0;  -- expunges up to here may be missing
ALTER TABLE folder ADD COLUMN forgotten_uid INTEGER NOT NULL DEFAULT 0;     -- the highest UID that may be missing there
ALTER TABLE expunged ADD COLUMN digest BLOB;                        -- begins the SHA-256 of what the UID named
CREATE INDEX account_changed ON account (changed);
CREATE INDEX folder_changed ON folder (changed);
CREATE INDEX message_modseq ON message (folder, modseq);
CREATE TABLE retired (                      -- a name's UIDVALIDITY of before: what its UIDs named is not forgotten
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL,
    highestmodseq INTEGER NOT NULL,
    forgotten_uid INTEGER NOT NULL,
    time INTEGER NOT NULL,
    contents BLOB NOT NULL,                 -- retired.py
    PRIMARY KEY (account, name, uidvalidity)
);
CREATE INDEX retired_time ON retired (time);
"""
_THIRD = """
ALTER TABLE folder ADD COLUMN doubt_from INTEGER NOT NULL DEFAULT 0;  -- modseqs above this one and below the next
ALTER TABLE folder ADD COLUMN doubt_to INTEGER NOT NULL DEFAULT 0;    -- were another server's, for changes lost with it
"""
_STEPS = (_FIRST, _SECOND, _THIRD)
"""Each leads from one version of the format to the next."""


class WrongVersion(Exception):
    """The database was written by a version of the node that this one can't read."""


def open_for_writing(directory: Path) -> sqlite3.Connection:
    """The one connection that writes; makes the tables where there are none. Raises WrongVersion, sqlite3.Error."""
    db = sqlite3.connect(directory / DATABASE, isolation_level=None, check_same_thread=False, timeout=10)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA cache_size = -32768")
    db.execute("PRAGMA wal_autocheckpoint = 4000")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= VERSION:
        db.close()
        raise WrongVersion(f"{directory / DATABASE} has format {version}, this node reads {VERSION}")
    for number, step in enumerate(_STEPS[version:], version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")
    return db


def open_for_reading(directory: Path) -> sqlite3.Connection:
    """A connection that can't write; each of its transactions sees one moment. Raises sqlite3.Error."""
    db = sqlite3.connect(
        f"file:{directory / DATABASE}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=10
    )
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA cache_size = -8192")
    return db
