"""One command of an IMAP client: bytes -> `Command` (RFC 3501 section 6 and extensions).

Knows the grammar of every command but those about folders, FETCH's items and SEARCH's keys, which have files of their
own. Does not know which commands are allowed now. `parse` takes a whole command with its literals in their places,
without the final line end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from onedomain.protocol.imap import command as c
from onedomain.protocol.imap import folder_commands as folders
from onedomain.protocol.imap.cursor import BadCommand, BadName, Cursor
from onedomain.protocol.imap.fetching import fetch_items
from onedomain.protocol.imap.flags import Mode
from onedomain.protocol.imap.searching import BadCharset, search
from onedomain.protocol.imap.sequence import SequenceSet

__all__ = ["BadCharset", "BadCommand", "BadName", "parse", "parse_append", "parse_append_more", "tag_of"]

MAX_ID = 30           # RFC 2971 section 3.3: at most 30 pairs

_TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]{1,64}(?= |\Z)")



def tag_of(data: bytes) -> str:
    """The tag, or "*" where there is none: then the answer is untagged."""
    found = _TAG.match(data.rstrip(b"\r\n"))
    return found[0].decode("ascii") if found else "*"


def parse(data: bytes) -> c.Command:
    """Raises BadCommand, BadName, BadCharset."""
    cursor, tag, name = _begin(data)
    if name == "UID":
        cursor.space()
        name = f"UID {cursor.word()}"
    read = _COMMANDS.get(name)
    if read is None:
        raise BadCommand(f"Unknown command {name[:40]}")
    arguments = read(cursor)
    cursor.end()
    return c.Command(tag, name, arguments)


def is_append(data: bytes) -> bool:
    """Whether a command, of which perhaps only the beginning is here, is an APPEND."""
    try:
        return _begin(data)[2] == "APPEND"
    except BadCommand:
        return False


def parse_append(data: bytes) -> tuple[str, c.NewMessage] | None:
    """(mailbox, message) of an APPEND that is here up to the announcement of its message's literal.

    None: the literal that comes next is the mailbox's name. Raises BadCommand, BadName.
    """
    cursor, _, _ = _begin(data)
    cursor.space()
    if cursor.peek(b"{") and data.find(b"}", cursor.at) >= len(data.rstrip(b"\r\n")) - 1:
        return None
    mailbox = cursor.mailbox()
    return mailbox, _new_message(cursor)


def parse_append_more(line: bytes) -> c.NewMessage | None:
    """What follows a message's literal: another message (RFC 3502), or None at the end. Raises BadCommand."""
    cursor = Cursor(line.rstrip(b"\r\n"))
    return None if cursor.at_end else _new_message(cursor)


def _begin(data: bytes) -> tuple[Cursor, str, str]:
    cursor = Cursor(data)
    found = _TAG.match(data)
    if found is None:
        raise BadCommand("Missing or bad tag")
    cursor.at = found.end()
    cursor.space()
    return cursor, found[0].decode("ascii"), cursor.word()


def _new_message(cursor: Cursor) -> c.NewMessage:
    flags, date = "", None
    cursor.space()
    if cursor.peek(b"("):
        flags = cursor.flags()
        cursor.space()
    if cursor.peek(b'"'):
        date = cursor.moment()
        cursor.space()
    if not cursor.peek(b"{"):
        raise BadCommand("Expected the message as a literal")
    return c.NewMessage(flags, date)


def _plain(name: str) -> Callable[[Cursor], c.Arguments]:
    return lambda cursor: c.Plain(name)


def _login(cursor: Cursor) -> c.Login:
    cursor.space()
    user = cursor.text()
    cursor.space()
    return c.Login(user, cursor.text())


def _authenticate(cursor: Cursor) -> c.Authenticate:
    cursor.space()
    mechanism = cursor.word()
    initial: bytes | None = None
    if cursor.skip(b" "):
        initial, cursor.at = cursor.data[cursor.at:], len(cursor.data)
    return c.Authenticate(mechanism, initial)


def _id(cursor: Cursor) -> c.Id:
    cursor.space()
    parameters: dict[str, str] = {}
    if cursor.skip(b"("):
        while not cursor.skip(b")"):
            cursor.skip(b" ")
            name = cursor.string().decode("utf-8", "replace").lower()
            cursor.space()
            value = b"" if _nil(cursor) else cursor.string()
            parameters[name] = value.decode("utf-8", "replace")
            if len(parameters) > MAX_ID:
                raise BadCommand("Too many ID parameters")
    elif not _nil(cursor):
        raise BadCommand("Expected a list or NIL")
    return c.Id(parameters)


def _nil(cursor: Cursor) -> bool:
    if cursor.data[cursor.at:cursor.at + 3].upper() == b"NIL":
        cursor.at += 3
        return True
    return False


def _enable(cursor: Cursor) -> c.Enable:
    names: list[str] = []
    while cursor.skip(b" "):
        names.append(cursor.word())
    if not names:
        raise BadCommand("Missing argument")
    return c.Enable(tuple(names))


def _select(read_only: bool) -> Callable[[Cursor], c.Select]:
    def read(cursor: Cursor) -> c.Select:
        cursor.space()
        mailbox = cursor.mailbox()
        condstore, resync = False, None
        if cursor.skip(b" ("):  # RFC 4466 section 2.1
            while not cursor.skip(b")"):
                cursor.skip(b" ")
                match cursor.word():
                    case "CONDSTORE":
                        condstore = True
                    case "QRESYNC":
                        cursor.expect(b" (")
                        resync = _resync(cursor)
                    case _:
                        raise BadCommand("Unknown SELECT parameter")
        return c.Select(mailbox, read_only, condstore, resync)

    return read


def _resync(cursor: Cursor) -> c.Resync:
    """RFC 7162 section 7: `uidvalidity modseq [known-uids] [(known-sequence-set known-uid-set)])`."""
    uidvalidity = cursor.number()
    cursor.space()
    modseq = cursor.number()
    if not uidvalidity or not modseq:
        raise BadCommand("UIDVALIDITY and mod-sequence are above zero")
    known, pairs = None, None
    if cursor.skip(b" ") and not cursor.peek(b"("):
        known = _known(cursor)
        cursor.skip(b" ")
    if cursor.skip(b"("):
        numbers = _known(cursor)
        cursor.space()
        pairs = (numbers, _known(cursor))
        cursor.expect(b")")
    cursor.expect(b")")
    return c.Resync(uidvalidity, modseq, known, pairs)


def _known(cursor: Cursor) -> SequenceSet:
    known = cursor.messages()
    if any(0 in pair for pair in known.ranges):
        raise BadCommand("* is nothing that is known")
    return known


def _fetch(uid: bool) -> Callable[[Cursor], c.Fetch]:
    def read(cursor: Cursor) -> c.Fetch:
        cursor.space()
        messages = cursor.messages()
        cursor.space()
        items = fetch_items(cursor)
        changed_since, vanished = None, False
        if cursor.skip(b" ("):  # RFC 4466 section 2.4
            while not cursor.skip(b")"):
                cursor.skip(b" ")
                match cursor.word():
                    case "CHANGEDSINCE":
                        cursor.space()
                        changed_since = cursor.number()
                    case "VANISHED" if uid:
                        vanished = True
                    case _:
                        raise BadCommand("Unknown FETCH modifier")
            if changed_since is None:
                raise BadCommand("VANISHED needs CHANGEDSINCE")
        return c.Fetch(messages, uid, items, changed_since, vanished)

    return read


def _store(uid: bool) -> Callable[[Cursor], c.Store]:
    def read(cursor: Cursor) -> c.Store:
        cursor.space()
        messages = cursor.messages()
        cursor.space()
        unchanged_since = None
        if cursor.skip(b"("):  # RFC 4466 section 2.5
            if cursor.word() != "UNCHANGEDSINCE":
                raise BadCommand("Unknown STORE modifier")
            cursor.space()
            unchanged_since = cursor.number()
            cursor.expect(b") ")
        mode = next((mode for mode in (Mode.ADD, Mode.REMOVE) if cursor.skip(mode.value.encode())), Mode.SET)
        item = cursor.word()
        if item not in ("FLAGS", "FLAGS.SILENT"):
            raise BadCommand("Only FLAGS can be stored")
        cursor.space()
        return c.Store(messages, uid, mode, item.endswith("SILENT"), cursor.flags(), unchanged_since)

    return read


def _copy(uid: bool, move: bool) -> Callable[[Cursor], c.Copy]:
    def read(cursor: Cursor) -> c.Copy:
        cursor.space()
        messages = cursor.messages()
        cursor.space()
        return c.Copy(messages, uid, cursor.mailbox(), move)

    return read


def _uid_expunge(cursor: Cursor) -> c.UidExpunge:
    cursor.space()
    return c.UidExpunge(cursor.messages())


def _search(uid: bool) -> Callable[[Cursor], c.Search]:
    return lambda cursor: search(cursor, uid)


_COMMANDS: Mapping[str, Callable[[Cursor], c.Arguments]] = {
    **{
        name: _plain(name)
        for name in (
            "CAPABILITY", "NOOP", "LOGOUT", "STARTTLS", "CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "IDLE", "NAMESPACE",
        )
    },
    "LOGIN": _login,
    "AUTHENTICATE": _authenticate,
    "ID": _id,
    "ENABLE": _enable,
    "SELECT": _select(False),
    "EXAMINE": _select(True),
    "CREATE": folders.create,
    "DELETE": folders.delete,
    "RENAME": folders.rename,
    "SUBSCRIBE": folders.subscribe(True),
    "UNSUBSCRIBE": folders.subscribe(False),
    "LIST": folders.list_,
    "LSUB": folders.lsub,
    "STATUS": folders.status,
    "FETCH": _fetch(False),
    "UID FETCH": _fetch(True),
    "STORE": _store(False),
    "UID STORE": _store(True),
    "COPY": _copy(False, False),
    "UID COPY": _copy(True, False),
    "MOVE": _copy(False, True),
    "UID MOVE": _copy(True, True),
    "UID EXPUNGE": _uid_expunge,
    "SEARCH": _search(False),
    "UID SEARCH": _search(True),
}
