"""What a link gives, applied to the rows: folders, messages, flags and expunges with the numbers of another server.

Knows what makes a replica: the same change twice is once, the later change of a message wins, and a UID never names
two contents (RFC 3501 section 2.3.1.1). Does not know the wire. Everything takes the writer's transaction and raises
Rejected, with a code that the link can act on; then nothing of the command was done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from onedomain.node.store import accounts, folders, messages, retired
from onedomain.node.store.bodies import Place
from onedomain.node.store.values import (
    NO_DOUBT,
    Account,
    Added,
    Doubt,
    Flagged,
    Folder,
    Message,
    Raised,
    Rejected,
    Removed,
)
from onedomain.node.store.writer import Transaction
from onedomain.protocol.imap.link_command import MAX_UID, FlagsOf, FolderRef, Gap, GiveFolder, GivenMessage, Gone

MAX_EXPUNGES = 100_000  # UIDs of one command


@dataclass(slots=True)
class Outcome:
    """UIDs by what became of them. `newer`: what is here was changed later; `missing`: there is no such message."""

    done: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    newer: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)


class _There(NamedTuple):
    modseq: int
    flags: str
    digest: bytes


def owner(db: sqlite3.Connection, name: str) -> Account:
    account = accounts.find(db, name)
    if account is None:
        raise Rejected("NOACCOUNT", "No such account")
    return account


def find(db: sqlite3.Connection, ref: FolderRef) -> Folder:
    folder = folders.with_mailbox_id(db, owner(db, ref.account).id, ref.mailbox_id)
    if folder is None:
        raise Rejected("NONEXISTENT", "No such mailbox")
    if folder.uidvalidity != ref.uidvalidity:
        raise Rejected(f"UIDVALIDITY {folder.uidvalidity}", "UIDVALIDITY is another one")
    return folder


def give_account(tx: Transaction, name: str, now: int) -> None:
    """With INBOX and nothing else: which folders there are is the link's to say."""
    accounts.create(tx, name, now, others={})


def give_folder(tx: Transaction, given: GiveFolder, now: int) -> None:
    """Make it, name it, raise it. One that never had a message takes on any mailbox id."""
    ref = given.folder
    account = owner(tx.db, ref.account).id
    folders.check_name(given.name)
    folder = folders.with_mailbox_id(tx.db, account, ref.mailbox_id)
    named = folders.find(tx.db, account, given.name)
    if folder is None:
        folder = _new(tx, account, given, named, now)
    elif folder.name != given.name:
        _rename(tx, folder, given.name, named, now)
        folder = folders.by_id(tx.db, folder.id)
    if folder.uidvalidity != ref.uidvalidity:
        _renew(tx, folder, ref.uidvalidity, now)
    if folder.special_use != given.special_use:
        tx.db.execute("UPDATE folder SET special_use = ? WHERE id = ?", (given.special_use, folder.id))
        folders.touch(tx, account)
    _raise(tx, folders.by_id(tx.db, folder.id), given.uidnext, given.highestmodseq)


def drop_folder(tx: Transaction, ref: FolderRef, now: int) -> None:
    account = owner(tx.db, ref.account).id
    if folders.with_mailbox_id(tx.db, account, ref.mailbox_id) is not None:
        folders.delete(tx, account, find(tx.db, ref).name, now)


def give_subscriptions(tx: Transaction, name: str, names: Iterable[str]) -> None:
    """These and no others."""
    account = owner(tx.db, name).id
    before, after = set(folders.subscriptions(tx.db, account)), set(names)
    for gone in before - after:
        folders.unsubscribe(tx, account, gone)
    for new in after - before:
        folders.subscribe(tx, account, new)


def give_delivered(tx: Transaction, name: str, deliveries: Iterable[str], now: int) -> None:
    account = owner(tx.db, name).id
    for delivery in deliveries:
        messages.take(tx, account, delivery, now)


def append(tx: Transaction, ref: FolderRef, given: Sequence[GivenMessage], now: int) -> Outcome:
    """Bodies are the transaction's, in the same order; those that are here already are not kept twice."""
    folder = find(tx.db, ref)
    given = _numbered(folder, given)
    outcome = Outcome()
    added: list[Message] = []
    flagged: list[FlagsOf] = []
    for message, place in zip(given, tx.places, strict=True):
        there = _there(tx.db, folder.id, message.uid)
        if there is not None:
            tx.left.add(place.segment)
            if there.digest != place.digest:
                raise Rejected(f"CONFLICT {message.uid}", "Another message has this UID")
            _flag(tx, folder, FlagsOf(message.uid, message.modseq, message.flags), there, outcome, flagged)
        elif _may_come(tx, folder, message, place):
            if message.delivery:
                messages.take(tx, folder.account, message.delivery, now)
            body = messages.add_body(tx, place, message.delivery or None)
            row = Message(message.uid, message.modseq, message.date, message.flags, body, place.size)
            messages.insert(tx, folder.id, row)
            added.append(row)
            outcome.done.append(message.uid)
        else:
            tx.left.add(place.segment)
            outcome.newer.append(message.uid)
    _raise(tx, folder, max(m.uid for m in given) + 1, max(m.modseq for m in given))
    if outcome.done:
        _touch(tx, folder)
    if added:
        tx.changes.append(Added(folder.id, tuple(sorted(added))))
    _tell_flags(tx, folder, flagged)
    return outcome


def give_flags(tx: Transaction, ref: FolderRef, given: Sequence[FlagsOf]) -> Outcome:
    folder = find(tx.db, ref)
    outcome = Outcome()
    flagged: list[FlagsOf] = []
    for each in given:
        there = _there(tx.db, folder.id, each.uid)
        if there is None:
            outcome.missing.append(each.uid)
        else:
            _flag(tx, folder, each, there, outcome, flagged)
    if flagged:
        _raise(tx, folder, 0, max(each.modseq for each in flagged))
        _touch(tx, folder)
    _tell_flags(tx, folder, flagged)
    return outcome


def expunge(tx: Transaction, ref: FolderRef, given: Sequence[Gone]) -> Outcome:
    """Also of UIDs that never were here: a client may know them from the server that they come from."""
    folder = find(tx.db, ref)
    if sum(high - low + 1 for gone in given for low, high in gone.uids.resolve(0)) > MAX_EXPUNGES:
        raise Rejected("LIMIT", "Too many UIDs at once")
    outcome = Outcome()
    for gone in given:
        uids = list(chain.from_iterable(range(low, high + 1) for low, high in gone.uids.resolve(0)))
        there = list(messages.some(tx.db, folder.id, uids))
        going = [message for message in there if message.modseq <= gone.modseq]
        if going:
            messages.remove(tx, folder.id, going, gone.modseq)
            _touch(tx, folder)
        absent = sorted(set(uids).difference(message.uid for message in there))
        tx.db.executemany(
            "INSERT INTO expunged (folder, uid, modseq) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET modseq = excluded.modseq WHERE excluded.modseq > modseq",
            [(folder.id, uid, gone.modseq) for uid in absent],
        )
        outcome.done += [message.uid for message in going]
        outcome.known += absent
        outcome.newer += [message.uid for message in there if message.modseq > gone.modseq]
        _raise(tx, folders.by_id(tx.db, folder.id), uids[-1] + 1, gone.modseq)
    return outcome


def give_gaps(tx: Transaction, given: Iterable[Gap]) -> None:
    for each in given:
        _gap(tx, each)


def _gap(tx: Transaction, given: Gap) -> None:
    """UIDs below `uidnext` that are not here never come. Clients with an older modseq are told that they vanished, and
    those that have been told more than was replicated are told of every message."""
    folder = find(tx.db, given.folder)
    if folder.forgotten_uid >= given.uidnext - 1 and folder.highestmodseq >= given.highestmodseq:
        return
    modseq = max(folder.highestmodseq + 1, given.highestmodseq)
    after = min(given.replicated, folder.doubt.after) if folder.doubt.before else given.replicated
    _raise(tx, folder, given.uidnext, modseq, Doubt(after, modseq))
    tx.db.execute(
        "UPDATE folder SET forgotten_modseq = ?, forgotten_uid = max(forgotten_uid, ?), doubt_from = ?, doubt_to = ?"
        " WHERE id = ?",
        (modseq, given.uidnext - 1, after, modseq, folder.id),
    )


def _new(tx: Transaction, account: int, given: GiveFolder, named: Folder | None, now: int) -> Folder:
    mailbox_id = given.folder.mailbox_id
    if tx.db.execute("SELECT 1 FROM folder WHERE mailbox_id = ?", (mailbox_id,)).fetchone() is not None:
        raise Rejected("ALREADYEXISTS", "Another account has this mailbox id")
    if named is not None and named.uidnext > 1:
        raise Rejected(f"MAILBOXID ({named.mailbox_id})", "The mailbox of this name has another id")
    folder = named or folders.create(tx, account, given.name, now)
    tx.db.execute("UPDATE folder SET mailbox_id = ? WHERE id = ?", (mailbox_id, folder.id))
    folders.touch(tx, account)
    return folder


def _rename(tx: Transaction, folder: Folder, name: str, named: Folder | None, now: int) -> None:
    """Without its children: each has an id of its own."""
    if folder.name == "INBOX":
        raise Rejected("CANNOT", "INBOX stays")
    if named is not None:
        if named.uidnext > 1:
            raise Rejected(f"MAILBOXID ({named.mailbox_id})", "The mailbox of this name has another id")
        if name == "INBOX":
            raise Rejected("CANNOT", "INBOX stays")
        folders.delete(tx, folder.account, name, now)
    tx.db.execute("UPDATE folder SET name = ? WHERE id = ?", (name, folder.id))
    folders.touch(tx, folder.account)


def _renew(tx: Transaction, folder: Folder, uidvalidity: int, now: int) -> None:
    """Another UIDVALIDITY: UIDs begin anew, or where they were if the name had it before."""
    if tx.db.execute("SELECT 1 FROM message WHERE folder = ?", (folder.id,)).fetchone() is not None:
        raise Rejected("NOTEMPTY", "Expunge the messages before the UIDVALIDITY changes")
    retired.retire(tx, folder, now)
    tx.db.execute("DELETE FROM expunged WHERE folder = ?", (folder.id,))
    tx.db.execute(
        "UPDATE folder SET uidvalidity = ?, uidnext = 1, highestmodseq = 1, recent_uid = 1, forgotten_modseq = 0,"
        " forgotten_uid = 0, doubt_from = 0, doubt_to = 0, changed = ? WHERE id = ?",
        (uidvalidity, tx.number, folder.id),
    )
    tx.db.execute(
        "UPDATE account SET uidvalidity = max(uidvalidity, ?), changed = ? WHERE id = ?",
        (uidvalidity, tx.number, folder.account),
    )
    retired.revive(tx, folders.by_id(tx.db, folder.id))
    tx.changes.append(Removed(folder.id))


def _numbered(folder: Folder, given: Sequence[GivenMessage]) -> list[GivenMessage]:
    """What has no UID gets the next one, with a mod-sequence that nobody has seen: clients may be in the folder."""
    uidnext, modseq = folder.uidnext, folder.highestmodseq + 1
    numbered = []
    for message in given:
        if not message.uid:
            message = message._replace(uid=uidnext, modseq=max(message.modseq, modseq))
        elif not message.modseq:
            message = message._replace(modseq=modseq)
        uidnext = max(uidnext, message.uid + 1)
        numbered.append(message)
    if uidnext > MAX_UID:
        raise Rejected("LIMIT", "No UID is left")
    return numbered


def _there(db: sqlite3.Connection, folder: int, uid: int) -> _There | None:
    row = db.execute(
        "SELECT modseq, flags, digest FROM message JOIN body ON body.id = body WHERE folder = ? AND uid = ?",
        (folder, uid),
    ).fetchone()
    return None if row is None else _There(*row)


def _may_come(tx: Transaction, folder: Folder, message: GivenMessage, place: Place) -> bool:
    """Whether a UID that names nothing now may name this. False: it was expunged later than this."""
    row = tx.db.execute(
        "SELECT modseq, digest FROM expunged WHERE folder = ? AND uid = ?", (folder.id, message.uid)
    ).fetchone()
    if row is None:
        if message.uid <= folder.forgotten_uid:
            raise Rejected(f"FORGOTTEN {message.uid}", "What this UID named is not known any more")
        return True
    modseq, digest = row
    if digest is not None and digest != place.digest[:messages.DIGEST]:
        raise Rejected(f"CONFLICT {message.uid}", "This UID has named another message")
    if message.modseq <= modseq:
        return False
    if digest is None:
        raise Rejected(f"FORGOTTEN {message.uid}", "What this UID named was never known here")
    tx.db.execute("DELETE FROM expunged WHERE folder = ? AND uid = ?", (folder.id, message.uid))
    return True


def _flag(
    tx: Transaction, folder: Folder, given: FlagsOf, there: _There, outcome: Outcome, flagged: list[FlagsOf]
) -> None:
    if given.modseq < there.modseq:
        outcome.newer.append(given.uid)
    elif given.modseq > there.modseq:
        tx.db.execute(
            "UPDATE message SET flags = ?, modseq = ? WHERE folder = ? AND uid = ?",
            (given.flags, given.modseq, folder.id, given.uid),
        )
        flagged.append(given)
        outcome.done.append(given.uid)
    elif given.flags == there.flags:
        outcome.known.append(given.uid)
    else:
        raise Rejected(f"CONFLICT {given.uid}", "The same mod-sequence with other flags")


def _tell_flags(tx: Transaction, folder: Folder, flagged: Sequence[FlagsOf]) -> None:
    for each in flagged:
        tx.changes.append(Flagged(folder.id, each.modseq, ((each.uid, each.flags),)))


def _touch(tx: Transaction, folder: Folder) -> None:
    tx.db.execute("UPDATE folder SET changed = ? WHERE id = ?", (tx.number, folder.id))


def _raise(
    tx: Transaction, folder: Folder, uidnext: int, highestmodseq: int, doubt: Doubt = NO_DOUBT
) -> None:
    """Never down; and nothing changes where nothing is raised, so that what is applied twice is no news."""
    if uidnext <= folder.uidnext and highestmodseq <= folder.highestmodseq:
        return
    uidnext, highestmodseq = max(uidnext, folder.uidnext), max(highestmodseq, folder.highestmodseq)
    tx.db.execute(
        "UPDATE folder SET uidnext = ?, highestmodseq = ? WHERE id = ?", (uidnext, highestmodseq, folder.id)
    )
    _touch(tx, folder)
    tx.changes.append(Raised(folder.id, uidnext, highestmodseq, doubt))
