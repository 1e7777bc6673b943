"""Commands about folders as wholes: CREATE, DELETE, RENAME, SUBSCRIBE, LIST, LSUB, STATUS.

Knows their grammar, from behind the name on. Does not know which commands are allowed now.
"""

from __future__ import annotations

from collections.abc import Callable

from onedomain.protocol.imap import command as c
from onedomain.protocol.imap.cursor import BadCommand, Cursor

MAX_PATTERNS = 100

STATUS_ITEMS = frozenset(
    {"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "DELETED", "HIGHESTMODSEQ", "MAILBOXID"}
)
SPECIAL_USES = {
    use.upper(): use for use in (r"\All", r"\Archive", r"\Drafts", r"\Flagged", r"\Junk", r"\Sent", r"\Trash")
}
_LIST_SELECT = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
_LIST_RETURN = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "STATUS"})


def create(cursor: Cursor) -> c.Create:
    """RFC 3501 section 6.3.3, with USE (RFC 6154 section 3)."""
    cursor.space()
    mailbox = cursor.mailbox()
    use = ""
    if cursor.skip(b" "):
        cursor.expect(b"(")
        if cursor.word() != "USE":
            raise BadCommand("Unknown CREATE parameter")
        cursor.expect(b" (")
        if cursor.skip(b"\\"):
            spelled = SPECIAL_USES.get(f"\\{cursor.word()}")
            if spelled is None:
                raise BadCommand("Unknown special use")
            use = spelled
        cursor.expect(b"))")
    # A trailing separator says that children will follow (RFC 3501 section 6.3.3): nothing that we need to know
    return c.Create(mailbox[:-1] if mailbox.endswith("/") else mailbox, use)


def delete(cursor: Cursor) -> c.Delete:
    """RFC 3501 section 6.3.4."""
    cursor.space()
    return c.Delete(cursor.mailbox())


def rename(cursor: Cursor) -> c.Rename:
    """RFC 3501 section 6.3.5."""
    cursor.space()
    old = cursor.mailbox()
    cursor.space()
    return c.Rename(old, cursor.mailbox())


def subscribe(wanted: bool) -> Callable[[Cursor], c.Subscribe]:
    """RFC 3501 sections 6.3.6 and 6.3.7."""
    def read(cursor: Cursor) -> c.Subscribe:
        cursor.space()
        return c.Subscribe(cursor.mailbox(), wanted)

    return read


def list_(cursor: Cursor) -> c.List:
    """RFC 3501 section 6.3.8, RFC 5258 section 6, LIST-STATUS (RFC 5819)."""
    cursor.space()
    extended = False
    select: frozenset[str] = frozenset()
    if cursor.peek(b"("):
        select, extended = frozenset(cursor.words()), True
        cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    patterns: list[str] = []
    if cursor.skip(b"("):
        extended = True
        while not cursor.skip(b")"):
            if patterns:
                cursor.space()
            patterns.append(cursor.pattern())
            if len(patterns) > MAX_PATTERNS:
                raise BadCommand("Too many patterns")
    else:
        patterns.append(cursor.pattern())
    give: set[str] = set()
    status: tuple[str, ...] = ()
    if cursor.skip(b" "):
        extended = True
        if cursor.word() != "RETURN":
            raise BadCommand("Expected RETURN")
        cursor.expect(b" (")
        while not cursor.skip(b")"):
            cursor.skip(b" ")
            option = cursor.word()
            give.add(option)
            if option == "STATUS":
                cursor.space()
                status = _status_items(cursor)
    if "RECURSIVEMATCH" in select and "SUBSCRIBED" not in select:
        raise BadCommand("RECURSIVEMATCH needs SUBSCRIBED")
    if unknown := (select - _LIST_SELECT) | (give - _LIST_RETURN):
        raise BadCommand(f"Unknown LIST option {sorted(unknown)[0][:40]}")
    return c.List(reference, tuple(patterns), select, frozenset(give), status, extended)


def lsub(cursor: Cursor) -> c.Lsub:
    """RFC 3501 section 6.3.9."""
    cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    return c.Lsub(reference, cursor.pattern())


def status(cursor: Cursor) -> c.Status:
    """RFC 3501 section 6.3.10."""
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    return c.Status(mailbox, _status_items(cursor))


def _status_items(cursor: Cursor) -> tuple[str, ...]:
    items = tuple(dict.fromkeys(cursor.words()))
    if not items or not STATUS_ITEMS.issuperset(items):
        raise BadCommand("Bad STATUS items")
    return items
