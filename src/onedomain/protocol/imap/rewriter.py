"""What a home says, as its clients are to read it: other UIDVALIDITYs, fewer capabilities, no HIGHESTMODSEQ.

Knows the responses that carry them: the codes UIDVALIDITY, APPENDUID, COPYUID (RFC 4315), HIGHESTMODSEQ (RFC 7162) and
CAPABILITY, tagged and untagged; STATUS (also of LIST-STATUS, RFC 5819, and NOTIFY, RFC 5465); CAPABILITY. Does not know
folders: which value is shown instead of the server's is asked for with the value alone. Client to server see veil.py.

Literals pass untouched; a chunk without any of those words costs a look at its bytes, a line of a FETCH with a literal
about half a microsecond. A line is kept back only while it may be one of these and is not at its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from onedomain.protocol.imap.lines import announced

MAX_TAG = 256
MAX_KEPT = 65_536
"""Of a line that is kept back; no mailbox name and no list of capabilities is so long."""

_ANNOUNCEMENT = 26  # bytes from the end of a line, in which its literal is announced
_WORDS = (b"UIDVALIDITY", b"APPENDUID", b"COPYUID", b"HIGHESTMODSEQ", b"CAPABILITY")

_RESPONSES = (b"STATUS", b"CAPABILITY")
_CONDITIONS = (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH")
_TEXT = re.compile(rb"(?i)\* (?:OK|NO|BAD|BYE|PREAUTH)(?: |\r?\n)")  # text to the end, whatever it looks like
_STATUS = re.compile(rb"(?i)\* STATUS (?=[^\r\n])")
_LINE = re.compile(
    rb"(?im)^(?:(?:\*|[^ \r\n+][^ \r\n]*) (?:OK|NO|BAD|BYE|PREAUTH) \[(?:"
    rb"(?:UIDVALIDITY|APPENDUID|COPYUID) +(\d{1,10})(?!\d)"
    rb"|(HIGHESTMODSEQ +\d+)"
    rb"|CAPABILITY((?: [^\]\r\n]*)?))"
    rb"|\* CAPABILITY((?: [^\r\n]*)?)"
    rb'|\* STATUS +(?:"(?:[^"\\\r\n]|\\[^\r\n])*"|[^ "\r\n]+)( *\([^\r\n]*))'
)
_NUMBER, _MODSEQ, _ITEMS = 1, 2, 5  # its groups; the others are capabilities
_CODE = re.compile(rb"(?i)\[(?:(?:UIDVALIDITY|APPENDUID|COPYUID|HIGHESTMODSEQ) +\d+[^\d]|CAPABILITY[^\]\r\n]*\])")
_CODE_BEGUN = re.compile(rb"(?i)\[(UIDVALIDITY|APPENDUID|COPYUID|HIGHESTMODSEQ|CAPABILITY)[ \]]")
_ITEM = re.compile(rb"(?i)(?<=[( ])UIDVALIDITY +(\d{1,10})(?!\d)")


class TooLong(ValueError):
    """A line that has to be rewritten has no end."""


def _same(value: int) -> int:
    return value


class Rewriter:
    """`hidden`: capabilities in capitals; `prefixes`: what others begin with. `shown`: the server's UIDVALIDITY -> the
    one that clients know.
    """

    __slots__ = ("_continued", "_hidden", "_kept", "_literal", "_prefixes", "_shown", "_status", "_tail", "_text")

    def __init__(
        self,
        hidden: Collection[str],
        shown: Callable[[int], int] = _same,
        prefixes: tuple[str, ...] = (),
    ) -> None:
        self._hidden = frozenset(name.encode("ascii") for name in hidden)
        self._prefixes = tuple(prefix.encode("ascii") for prefix in prefixes)
        self._shown = shown
        self._kept = b""         # a line from its beginning on, not passed on yet
        self._tail = b""         # of a line whose beginning was passed on, what it has last
        self._text = False       # that line announces no literal
        self._literal = 0        # bytes left of a literal
        self._continued = False  # the line goes on behind a literal
        self._status = False     # and it is a STATUS

    @property
    def literal(self) -> int:
        """Bytes of a literal that are still to come; they need not be heard, see `skip`."""
        return self._literal

    def skip(self) -> None:
        """The rest of the literal goes past it."""
        self._literal = 0

    def hear(self, data: bytes) -> bytes:
        """What is passed on instead; `data` itself where nothing changes. Every byte has to come here, from the first
        line behind the log-in on. Raises TooLong.
        """
        if self._kept:
            data = self._kept + data
            self._kept = b""
        if self._literal >= len(data):
            self._literal -= len(data)
            return data
        if not (self._literal or self._continued or self._tail or b"}" in data) and data[-1:] == b"\n":
            return self._whole_lines(data)
        return self._lines(data)

    def _whole_lines(self, data: bytes) -> bytes:
        """No literals, nothing begun before nor left over."""
        capitals = data.upper()
        for word in _WORDS:
            if word in capitals:
                return _LINE.sub(self._changed, data)
        return data

    def _lines(self, data: bytes) -> bytes:
        done: list[bytes] = []  # with what was changed; from `since` on all is as it came
        at = since = 0
        size = len(data)
        while at < size:
            if self._literal:
                taken = min(self._literal, size - at)
                self._literal -= taken
                at += taken
                continue
            end = data.find(b"\n", at) + 1
            fresh = not (self._continued or self._tail)
            if not end:
                piece = data[at:]
                if (fresh and undecided(piece)) or self._status:
                    if len(piece) > MAX_KEPT:
                        raise TooLong(f"{len(piece)} octets of a line that has no end")
                    self._kept = piece
                    done.append(data[since:at])
                    return b"".join(done)
                if fresh:
                    self._text = piece[:2] != b"* " or _TEXT.match(piece) is not None
                    if self._text:
                        done += (data[since:at], _LINE.sub(self._changed, piece, count=1))
                        since = size
                self._tail = (self._tail + piece)[-_ANNOUNCEMENT:]
                break
            line = data[at:end]
            changed = line
            if fresh:
                second = line[2:3]
                if not (line[:2] == b"* " and second.isdigit()):
                    changed = _LINE.sub(self._changed, line, count=1)
            elif self._status and self._continued:
                changed = _ITEM.sub(self._item, line)
            if changed is not line and changed != line:
                done += (data[since:at], changed)
                since = end
            self._end_line(line, fresh)
            at = end
        if not done:
            return data
        done.append(data[since:])
        return b"".join(done)

    def _end_line(self, line: bytes, fresh: bool) -> None:
        whole = self._tail + line[-_ANNOUNCEMENT:] if self._tail else line
        literal = None
        if fresh:
            if line[-3:-2] == b"}" or line[-2:-1] == b"}":
                text = line[:2] != b"* " or _TEXT.match(line) is not None
                literal = None if text else announced(line)
                self._status = literal is not None and _STATUS.match(line) is not None
        elif not (self._tail and self._text and not self._continued):
            literal = announced(whole)
        self._tail = b""
        self._text = False
        self._continued = literal is not None
        self._status = self._status and self._continued
        self._literal = literal.size if literal is not None else 0

    def _changed(self, found: re.Match[bytes]) -> bytes:
        which = found.lastindex or 0
        begun, value = found[0][: found.start(which) - found.start()], found[which]
        if which == _NUMBER:
            return begun + self._number(value)
        if which == _MODSEQ:
            return begun + b"NOMODSEQ"
        return begun + (_ITEM.sub(self._item, value) if which == _ITEMS else self._names(value))

    def _item(self, found: re.Match[bytes]) -> bytes:
        return found[0][: found.start(1) - found.start()] + self._number(found[1])

    def _number(self, digits: bytes) -> bytes:
        value = int(digits)
        shown = self._shown(value)
        return digits if shown == value else b"%d" % shown

    def _names(self, names: bytes) -> bytes:
        return b" ".join(name for name in names.split(b" ") if not self._hides(name.upper()))

    def _hides(self, name: bytes) -> bool:
        return name in self._hidden or (bool(self._prefixes) and name.startswith(self._prefixes))


def undecided(piece: bytes) -> bool:
    """Whether the beginning of a line may be that of one to be rewritten, and hasn't all that takes yet."""
    tag, blank, rest = piece.partition(b" ")
    if not blank:
        return len(piece) <= MAX_TAG and not piece.startswith(b"+")
    word, blank, rest = rest.partition(b" ")
    word = word.rstrip(b"\r").upper()
    untagged = tag == b"*"
    if not blank:
        return any(each.startswith(word) for each in _CONDITIONS) or (
            untagged and any(each.startswith(word) for each in _RESPONSES)
        )
    if untagged and word in _RESPONSES:
        return True
    if word not in _CONDITIONS or (rest and not rest.startswith(b"[")):
        return False
    name = re.match(rb"\[[A-Za-z0-9-]*", rest)
    if name is None or name.end() == len(rest):  # nothing of the code yet, or its name not to its end
        return any(each.startswith(rest[1:].upper()) for each in _WORDS)
    return _CODE_BEGUN.match(rest) is not None and _CODE.match(rest) is None
