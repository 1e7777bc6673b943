"""The items of FETCH (RFC 3501 section 6.4.5, MODSEQ of RFC 7162). Knows their grammar, and what the macros stand for.
"""

from __future__ import annotations

import re

from onedomain.protocol.imap.command import Section
from onedomain.protocol.imap.cursor import MAX_ITEMS, BadCommand, Cursor

MAX_SECTIONS = 200
MAX_DEPTH = 100

_MACROS: dict[str, tuple[str, ...]] = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_SIMPLE = frozenset({"FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ"})
_OLD = {
    "RFC822": Section((), "", (), None, False, b"RFC822"),
    "RFC822.HEADER": Section((), "HEADER", (), None, True, b"RFC822.HEADER"),
    "RFC822.TEXT": Section((), "TEXT", (), None, False, b"RFC822.TEXT"),
}
_ITEM = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,8})*")
_TEXT = re.compile(rb"HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME", re.IGNORECASE)
_PARTIAL = re.compile(rb"<([0-9]{1,15})\.([1-9][0-9]{0,14})>")
_PLAIN_FIELD = re.compile(rb"[!#-'+-\[^-z|}~]+")


def fetch_items(cursor: Cursor) -> tuple[str | Section, ...]:
    """Raises BadCommand."""
    if not cursor.skip(b"("):
        name = _name(cursor)
        whole = cursor.at_end or cursor.peek(b" ")
        return _MACROS[name] if name in _MACROS and whole else (_item(cursor, name),)
    items: list[str | Section] = []
    while not cursor.skip(b")"):
        if items:
            cursor.space()
        item = _item(cursor, _name(cursor))
        if item not in items:
            items.append(item)
        if len(items) > MAX_SECTIONS:
            raise BadCommand("Too many items")
    if not items:
        raise BadCommand("Nothing to fetch")
    return tuple(items)


def _name(cursor: Cursor) -> str:
    found = _ITEM.match(cursor.data, cursor.at)
    if found is None:
        raise BadCommand("Expected an item")
    cursor.at = found.end()
    return found[0].decode("ascii").upper()


def _item(cursor: Cursor, name: str) -> str | Section:
    if name in ("BODY", "BODY.PEEK") and cursor.skip(b"["):
        return _section(cursor, peek=name == "BODY.PEEK")
    if name in _SIMPLE:
        return name
    if name in _OLD:
        return _OLD[name]
    raise BadCommand(f"Unknown item {name[:40]}")


def _section(cursor: Cursor, peek: bool) -> Section:
    part: tuple[int, ...] = ()
    if found := _PART.match(cursor.data, cursor.at):
        part = tuple(map(int, found[0].split(b".")))
        cursor.at = found.end()
        if len(part) > MAX_DEPTH:
            raise BadCommand("Part too deep")
    text = ""
    fields: tuple[bytes, ...] = ()
    if not part or cursor.skip(b"."):
        if found := _TEXT.match(cursor.data, cursor.at):
            text = found[0].decode("ascii").upper()
            cursor.at = found.end()
        elif part:
            raise BadCommand("Bad section")
    if text == "MIME" and not part:
        raise BadCommand("MIME needs a part")
    if text.startswith("HEADER.FIELDS"):
        cursor.space()
        fields = _fields(cursor)
    cursor.expect(b"]")
    partial: tuple[int, int] | None = None
    if found := _PARTIAL.match(cursor.data, cursor.at):
        partial = (int(found[1]), int(found[2]))
        cursor.at = found.end()
    elif cursor.peek(b"<"):
        raise BadCommand("Bad partial")
    return Section(part, text, fields, partial, peek, _label(part, text, fields))


def _fields(cursor: Cursor) -> tuple[bytes, ...]:
    cursor.expect(b"(")
    fields: list[bytes] = []
    while not cursor.skip(b")"):
        if fields:
            cursor.space()
        fields.append(cursor.astring())
        if len(fields) > MAX_ITEMS or len(fields[-1]) > 998:
            raise BadCommand("Too many or too long field names")
    if not fields:
        raise BadCommand("No field names")
    return tuple(fields)


def _label(part: tuple[int, ...], text: str, fields: tuple[bytes, ...]) -> bytes:
    names = ".".join([*map(str, part), *([text] if text else [])]).encode("ascii")
    if fields:
        names += b" (" + b" ".join(map(_field, fields)) + b")"
    return b"BODY[" + names + b"]"


def _field(name: bytes) -> bytes:
    if _PLAIN_FIELD.fullmatch(name):
        return name
    if b"\r" in name or b"\n" in name or not name.isascii():
        raise BadCommand("Bad field name")
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
