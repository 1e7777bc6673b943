"""Reading the words of one command: atoms, strings, numbers, lists, names and dates (RFC 3501 section 9).

Knows the grammar's small change. Does not know any command. The bytes are a whole command, its literals in their places
(`{5}\\r\\nhello`), without the final line end.
"""

from __future__ import annotations

import datetime
import re

from onedomain.protocol.imap import mutf7
from onedomain.protocol.imap.flags import BadFlag, canonical
from onedomain.protocol.imap.sequence import BadSet, SequenceSet, parse_set

MAX_ITEMS = 10_000  # of one list


class BadCommand(ValueError):
    """A tagged BAD; the text is for the client."""


class BadName(ValueError):
    """A mailbox name that is none (NO [CANNOT])."""


_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_ASTRING = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\]+")
_PATTERN = re.compile(rb"[^\x00-\x20\x7f-\xff(){\"\\]+")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{([0-9]{1,10})\+?\}\r?\n")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_SET = re.compile(rb"[0-9:*,]+")
_FLAG = re.compile(rb"\\?[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_DAY = re.compile(rb'"?([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})"?')
_MOMENT = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = {name.lower(): number for number, name in enumerate(MONTHS, 1)}


class Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def at_end(self) -> bool:
        return self.at >= len(self.data)

    def peek(self, text: bytes) -> bool:
        return self.data.startswith(text, self.at)

    def skip(self, text: bytes) -> bool:
        """Take `text` if it comes next."""
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def expect(self, text: bytes) -> None:
        if not self.skip(text):
            raise BadCommand(f"Expected {text.decode()!r}" if text != b" " else "Missing argument")

    def space(self) -> None:
        self.expect(b" ")

    def end(self) -> None:
        if not self.at_end:
            raise BadCommand("Too many arguments")

    def word(self) -> str:
        """An atom, in capitals: names of commands, items and options."""
        return self._take(_ATOM, "atom").decode("ascii").upper()

    def atom(self) -> str:
        return self._take(_ATOM, "atom").decode("ascii")

    def number(self) -> int:
        number = int(self._take(_NUMBER, "number"))
        if number >= 1 << 63:
            raise BadCommand("Number too large")
        return number

    def string(self) -> bytes:
        """A quoted string or a literal."""
        if self.peek(b'"'):
            found = _QUOTED.match(self.data, self.at)
            if found is None:
                raise BadCommand("Bad quoted string")
            self.at = found.end()
            return re.sub(rb"\\(.)", rb"\1", found[1]) if b"\\" in found[1] else found[1]
        found = _LITERAL.match(self.data, self.at)
        if found is None:
            raise BadCommand("Expected a string")
        start = found.end()
        self.at = start + int(found[1])
        if self.at > len(self.data):
            raise BadCommand("Literal is cut short")
        return self.data[start:self.at]

    def astring(self) -> bytes:
        return self.string() if self.peek(b'"') or self.peek(b"{") else self._take(_ASTRING, "string")

    def text(self) -> str:
        """An astring in UTF-8: user names, passwords."""
        try:
            return self.astring().decode("utf-8")
        except UnicodeDecodeError:
            raise BadCommand("Not UTF-8") from None

    def mailbox(self) -> str:
        """Raises BadName."""
        return self._name(self.astring())

    def pattern(self) -> str:
        """A list-mailbox: a name with `*` and `%`."""
        return self._name(self.string() if self.peek(b'"') or self.peek(b"{") else self._take(_PATTERN, "pattern"))

    def messages(self) -> SequenceSet:
        try:
            return parse_set(self._take(_SET, "sequence set"))
        except BadSet as error:
            raise BadCommand(str(error)) from None

    def flags(self) -> str:
        r"""`(\Seen Work)` or, as STORE allows, without parentheses -> canonical form. `\Recent` is nobody's to set."""
        flags: list[str] = []
        if self.skip(b"("):
            while not self.skip(b")"):
                if flags:
                    self.space()
                flags.append(self._take(_FLAG, "flag").decode("ascii"))
        else:
            flags.append(self._take(_FLAG, "flag").decode("ascii"))
            while self.skip(b" "):
                flags.append(self._take(_FLAG, "flag").decode("ascii"))
        try:
            return canonical(flag for flag in flags if flag.lower() != r"\recent")
        except BadFlag as error:
            raise BadCommand(str(error)) from None

    def day(self) -> datetime.date:
        found = _DAY.match(self.data, self.at)
        if found is None:
            raise BadCommand("Bad date")
        self.at = found.end()
        try:
            return datetime.date(int(found[3]), _MONTH.get(found[2].decode().lower(), 0), int(found[1]))
        except ValueError:
            raise BadCommand("No such day") from None

    def moment(self) -> int:
        """A date-time -> seconds since 1970."""
        found = _MOMENT.match(self.data, self.at)
        if found is None:
            raise BadCommand("Bad date-time")
        self.at = found.end()
        day, month, year, hour, minute, second, sign, east_h, east_m = found.groups()
        try:
            naive = datetime.datetime(
                int(year), _MONTH.get(month.decode().lower(), 0), int(day), int(hour), int(minute), min(int(second), 59)
            )
        except ValueError:
            raise BadCommand("No such moment") from None
        east = (int(east_h) * 60 + int(east_m)) * 60
        stamp = int((naive - datetime.datetime(1970, 1, 1)).total_seconds())
        return stamp - east if sign == b"+" else stamp + east

    def words(self) -> list[str]:
        """A parenthesised list of atoms, in capitals."""
        self.expect(b"(")
        words: list[str] = []
        while not self.skip(b")"):
            if words:
                self.space()
            words.append(self.word())
            if len(words) > MAX_ITEMS:
                raise BadCommand("List too long")
        return words

    def _take(self, expression: re.Pattern[bytes], what: str) -> bytes:
        found = expression.match(self.data, self.at)
        if found is None:
            raise BadCommand(f"Expected {'an' if what[0] in 'aeiou' else 'a'} {what}")
        self.at = found.end()
        return found[0]

    def _name(self, spelled: bytes) -> str:
        try:
            name = mutf7.decode(spelled.decode("ascii"))
        except ValueError:
            raise BadName("Mailbox name is not modified UTF-7") from None
        first, separator, rest = name.partition("/")
        return f"INBOX{separator}{rest}" if first.upper() == "INBOX" else name
