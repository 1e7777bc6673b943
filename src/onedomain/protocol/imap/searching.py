"""SEARCH (RFC 3501 section 6.4.4, RFC 4731 ESEARCH, RFC 5032 WITHIN, RFC 7162 MODSEQ): its grammar, its charsets.

Knows how keys are written. Does not know how they are answered.
"""

from __future__ import annotations

from onedomain.protocol.imap import command as c
from onedomain.protocol.imap.cursor import BadCommand, Cursor

MAX_KEYS = 2_000
MAX_DEPTH = 50

CHARSETS = {
    "US-ASCII": "ascii", "UTF-8": "utf-8", "ISO-8859-1": "latin-1",
    "ISO-2022-JP": "iso2022_jp_ext", "SHIFT_JIS": "cp932", "EUC-JP": "euc_jp",
}
"""Name -> codec. Those that clients in Japan really send, besides what RFC 3501 demands."""

_FLAGS = {name: f"\\{name.capitalize()}" for name in ("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN")}
_FIELDS = {"BCC": "bcc", "CC": "cc", "FROM": "from", "SUBJECT": "subject", "TO": "to"}
_RETURNS = frozenset({"MIN", "MAX", "ALL", "COUNT"})


class BadCharset(ValueError):
    """NO [BADCHARSET]."""


def search(cursor: Cursor, uid: bool) -> c.Search:
    """Raises BadCommand, BadCharset."""
    give: frozenset[str] | None = None
    cursor.space()
    if cursor.data[cursor.at:cursor.at + 8].upper() == b"RETURN (":
        cursor.at += 7
        give = frozenset(cursor.words()) or frozenset({"ALL"})
        if not give <= _RETURNS:
            raise BadCommand("Unknown RETURN option")
        cursor.space()
    codec = "ascii"
    if cursor.data[cursor.at:cursor.at + 8].upper() == b"CHARSET ":
        cursor.at += 8
        codec = _codec(cursor.astring())
        cursor.space()
    return c.Search(uid, _Keys(cursor, codec).all_keys(), give)


def _codec(charset: bytes) -> str:
    codec = CHARSETS.get(charset.decode("ascii", "replace").upper())
    if codec is None:
        raise BadCharset("Charset is not known here")
    return codec


class _Keys:
    def __init__(self, cursor: Cursor, codec: str) -> None:
        self._cursor = cursor
        self._codec = codec
        self._left = MAX_KEYS

    def all_keys(self) -> c.Key:
        keys = [self._key(0)]
        while self._cursor.skip(b" "):
            keys.append(self._key(0))
        return keys[0] if len(keys) == 1 else c.And(tuple(keys))

    def _key(self, depth: int) -> c.Key:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise BadCommand("Too many search keys")
        cursor = self._cursor
        if cursor.skip(b"("):
            keys = [self._key(depth + 1)]
            while not cursor.skip(b")"):
                cursor.space()
                keys.append(self._key(depth + 1))
            return keys[0] if len(keys) == 1 else c.And(tuple(keys))
        if cursor.data[cursor.at:cursor.at + 1] in (b"*", *(b"%d" % digit for digit in range(10))):
            return c.Among(cursor.messages(), uid=False)
        name = cursor.word()
        if name == "NOT":
            cursor.space()
            return c.Not(self._key(depth + 1))
        if name == "OR":
            cursor.space()
            left = self._key(depth + 1)
            cursor.space()
            return c.Or(left, self._key(depth + 1))
        return _of_flags(name) or self._with_argument(name)

    def _with_argument(self, name: str) -> c.Key:
        cursor = self._cursor
        cursor.space()
        if name in _FIELDS:
            return c.HeaderText(_FIELDS[name], self._text())
        match name:
            case "HEADER":
                field = cursor.astring().decode("ascii", "replace").lower()
                cursor.space()
                return c.HeaderText(field, self._text())
            case "BODY" | "TEXT":
                return c.BodyText(self._text(), header=name == "TEXT")
            case "KEYWORD":
                return c.Flag(cursor.atom())
            case "UNKEYWORD":
                return c.Not(c.Flag(cursor.atom()))
            case "UID":
                return c.Among(cursor.messages(), uid=True)
            case "BEFORE" | "ON" | "SINCE":
                return c.Day(name, cursor.day(), sent=False)
            case "SENTBEFORE" | "SENTON" | "SENTSINCE":
                return c.Day(name[4:], cursor.day(), sent=True)
            case "LARGER" | "SMALLER":
                return c.Size(cursor.number(), larger=name == "LARGER")
            case "OLDER" | "YOUNGER":
                return c.Age(cursor.number(), older=name == "OLDER")
            case "MODSEQ":
                return c.Modified(_modseq(cursor))
        raise BadCommand(f"Unknown search key {name[:40]}")

    def _text(self) -> str:
        data = self._cursor.astring()
        try:
            return data.decode(self._codec)
        except UnicodeDecodeError:
            pass
        try:
            return data.decode("utf-8")  # some clients send UTF-8 without saying so
        except UnicodeDecodeError:
            raise BadCommand("Search text is not in its charset") from None


def _modseq(cursor: Cursor) -> int:
    """`"/flags/\\Seen" all 620162338`: there is one mod-sequence for all of a message, whichever flag is asked for."""
    if cursor.peek(b'"'):
        cursor.string()
        cursor.space()
        if cursor.word() not in ("PRIV", "SHARED", "ALL"):
            raise BadCommand("Expected priv, shared or all")
        cursor.space()
    return cursor.number()


def _of_flags(name: str) -> c.Key | None:
    """Keys without an argument."""
    if name in _FLAGS:
        return c.Flag(_FLAGS[name])
    if name.startswith("UN") and name[2:] in _FLAGS:
        return c.Not(c.Flag(_FLAGS[name[2:]]))
    match name:
        case "ALL":
            return c.All()
        case "RECENT":
            return c.Flag(r"\Recent")
        case "OLD":
            return c.Not(c.Flag(r"\Recent"))
        case "NEW":
            return c.And((c.Flag(r"\Recent"), c.Not(c.Flag(r"\Seen"))))
    return None
