"""XLINK, the node's private commands for replication: bytes -> the values of link_command.py.

Knows their grammar and its limits (docs/replication-protocol.md). Does not know what is done with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from onedomain.protocol.imap.cursor import BadCommand, Cursor
from onedomain.protocol.imap.link_command import (
    MAX_UID,
    Bodies,
    Changes,
    DropFolder,
    Find,
    FlagsOf,
    FolderRef,
    Gap,
    GiveAccount,
    GiveDelivered,
    GiveExpunges,
    GiveFlags,
    GiveFolder,
    GiveGaps,
    GivenMessage,
    GiveSubscriptions,
    Gone,
    Identities,
    LinkCommand,
    Messages,
)

CAPABILITY = "XLINK=1"
MAX_ITEMS = 10_000

T = TypeVar("T")

_LINK = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]{1,64} XLINK (?=([A-Z]+))", re.IGNORECASE)
_MAILBOX_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")  # RFC 8474 section 4
_DELIVERY = re.compile(r"[!-~]{1,200}")
_USE = re.compile(r"\\[A-Za-z]{1,30}")


def is_link(data: bytes) -> bool:
    return _LINK.match(data) is not None


def is_link_append(data: bytes) -> bool:
    found = _LINK.match(data)
    return found is not None and found[1].upper() == b"APPEND"


def parse_link(data: bytes) -> LinkCommand:
    """A whole command other than APPEND. Raises BadCommand, BadName."""
    cursor, name = _begin(data)
    read = _COMMANDS.get(name)
    if read is None:
        raise BadCommand(f"Unknown command XLINK {name[:40]}")
    cursor.space()
    command = read(cursor)
    cursor.end()
    return command


def parse_link_append(data: bytes) -> tuple[FolderRef, GivenMessage]:
    """An APPEND up to the announcement of its first message's literal. Raises BadCommand."""
    cursor, _ = _begin(data)
    cursor.space()
    return _folder(cursor), _message(cursor)


def parse_link_append_more(line: bytes) -> GivenMessage | None:
    """What follows a message's literal: another message, or None at the end. Raises BadCommand."""
    cursor = Cursor(line.rstrip(b"\r\n"))
    return None if cursor.at_end else _message(cursor)


def _begin(data: bytes) -> tuple[Cursor, str]:
    cursor = Cursor(data)
    found = _LINK.match(data)
    if found is None:
        raise BadCommand("Expected XLINK")
    cursor.at = found.end()
    return cursor, cursor.word()


def _message(cursor: Cursor) -> GivenMessage:
    cursor.expect(b" (")
    uid = cursor.number()
    if uid > MAX_UID:
        raise BadCommand("UID out of range")
    cursor.space()
    modseq = cursor.number()
    cursor.space()
    date = -1 if cursor.skip(b"-") else 1
    date *= cursor.number()
    cursor.space()
    flags = _flags(cursor)
    cursor.space()
    delivery = "" if _nil(cursor) else _delivery(cursor)
    cursor.expect(b") ")
    if not cursor.peek(b"{"):
        raise BadCommand("Expected the message as a literal")
    return GivenMessage(uid, modseq, date, flags, delivery)


def _changes(cursor: Cursor) -> Changes:
    since = cursor.number()
    accounts: tuple[str, ...] | None = None
    if cursor.peek(b" ("):
        cursor.space()
        accounts = _list(cursor, _account)
    return Changes(since, accounts, cursor.skip(b" COUNTED"))


def _messages(cursor: Cursor) -> Messages:
    folder = _folder(cursor)
    cursor.space()
    since = cursor.number()
    bodies: tuple[int, int] | None = None
    first = cursor.number() if cursor.skip(b" FROM ") else 1
    if cursor.skip(b" (BODIES "):
        whole = cursor.number()
        cursor.space()
        bodies = (whole, cursor.number())
        cursor.expect(b")")
    return Messages(folder, since, bodies, cursor.skip(b" COUNTED"), first)


def _bodies(cursor: Cursor) -> Bodies:
    folder = _folder(cursor)
    cursor.space()
    return Bodies(folder, cursor.messages())


def _identities(cursor: Cursor) -> Identities:
    folder = _folder(cursor)
    cursor.space()
    return Identities(folder, cursor.messages())


def _find(cursor: Cursor) -> Find:
    account = _account(cursor)
    cursor.space()
    return Find(account, _list(cursor, _delivery))


def _give_folder(cursor: Cursor) -> GiveFolder:
    folder = _folder(cursor)
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    uidnext = _uid(cursor)
    cursor.space()
    highestmodseq = _modseq(cursor)
    cursor.space()
    use = "" if _nil(cursor) else _matching(cursor, _USE, "special use", quoted=True)
    return GiveFolder(folder, name, uidnext, highestmodseq, use)


def _give_subscriptions(cursor: Cursor) -> GiveSubscriptions:
    account = _account(cursor)
    cursor.space()
    return GiveSubscriptions(account, _list(cursor, Cursor.mailbox))


def _give_delivered(cursor: Cursor) -> GiveDelivered:
    account = _account(cursor)
    cursor.space()
    return GiveDelivered(account, _list(cursor, _delivery))


def _give_flags(cursor: Cursor) -> GiveFlags:
    folder = _folder(cursor)
    items: list[FlagsOf] = []
    while cursor.skip(b" ("):
        uid = _uid(cursor)
        cursor.space()
        modseq = _modseq(cursor)
        cursor.space()
        items.append(FlagsOf(uid, modseq, _flags(cursor)))
        cursor.expect(b")")
    return GiveFlags(folder, _bounded(items))


def _give_expunges(cursor: Cursor) -> GiveExpunges:
    folder = _folder(cursor)
    items: list[Gone] = []
    while cursor.skip(b" ("):
        uids = cursor.messages()
        if any(0 in pair or max(pair) > MAX_UID for pair in uids.ranges):
            raise BadCommand("Expected UIDs")
        cursor.space()
        items.append(Gone(uids, _modseq(cursor)))
        cursor.expect(b")")
    return GiveExpunges(folder, _bounded(items))


def _gaps(cursor: Cursor) -> GiveGaps:
    account = _account(cursor)
    items: list[Gap] = []
    while cursor.skip(b" ("):
        folder = _folder_of(account, cursor)
        cursor.space()
        uidnext = _uid(cursor)
        cursor.space()
        highestmodseq = _modseq(cursor)
        cursor.space()
        items.append(Gap(folder, uidnext, highestmodseq, cursor.number()))
        cursor.expect(b")")
    return GiveGaps(_bounded(items))


def _folder(cursor: Cursor) -> FolderRef:
    account = _account(cursor)
    cursor.space()
    return _folder_of(account, cursor)


def _folder_of(account: str, cursor: Cursor) -> FolderRef:
    mailbox_id = _matching(cursor, _MAILBOX_ID, "mailbox id")
    cursor.space()
    uidvalidity = cursor.number()
    if not 1 <= uidvalidity <= MAX_UID:
        raise BadCommand("UIDVALIDITY out of range")
    return FolderRef(account, mailbox_id, uidvalidity)


def _account(cursor: Cursor) -> str:
    account = cursor.text()
    if not account:
        raise BadCommand("Expected an account")
    return account


def _delivery(cursor: Cursor) -> str:
    return _matching(cursor, _DELIVERY, "delivery id")


def _uid(cursor: Cursor) -> int:
    uid = cursor.number()
    if not 1 <= uid <= MAX_UID:
        raise BadCommand("UID out of range")
    return uid


def _modseq(cursor: Cursor) -> int:
    modseq = cursor.number()
    if not modseq:
        raise BadCommand("A mod-sequence is above zero")
    return modseq


def _flags(cursor: Cursor) -> str:
    if not cursor.peek(b"("):
        raise BadCommand("Expected flags in parentheses")
    return cursor.flags()


def _nil(cursor: Cursor) -> bool:
    return cursor.skip(b"NIL")


def _matching(cursor: Cursor, expression: re.Pattern[str], what: str, *, quoted: bool = False) -> str:
    if quoted and not cursor.peek(b'"'):
        raise BadCommand(f"Expected {what} as a string")
    text = cursor.text()
    if expression.fullmatch(text) is None:
        raise BadCommand(f"Not a {what}")
    return text


def _list(cursor: Cursor, read: Callable[[Cursor], T]) -> tuple[T, ...]:
    cursor.expect(b"(")
    items: list[T] = []
    while not cursor.skip(b")"):
        if items:
            cursor.space()
        items.append(read(cursor))
        if len(items) > MAX_ITEMS:
            raise BadCommand("List too long")
    return tuple(items)


def _bounded(items: list[T]) -> tuple[T, ...]:
    if not 1 <= len(items) <= MAX_ITEMS:
        raise BadCommand("Nothing, or too much at once")
    return tuple(items)


_COMMANDS: Mapping[str, Callable[[Cursor], LinkCommand]] = {
    "CHANGES": _changes,
    "MESSAGES": _messages,
    "BODIES": _bodies,
    "IDENTITIES": _identities,
    "FIND": _find,
    "ACCOUNT": lambda cursor: GiveAccount(_account(cursor)),
    "FOLDER": _give_folder,
    "DELETE": lambda cursor: DropFolder(_folder(cursor)),
    "SUBSCRIPTIONS": _give_subscriptions,
    "DELIVERED": _give_delivered,
    "FLAGS": _give_flags,
    "EXPUNGE": _give_expunges,
    "GAP": _gaps,
}
