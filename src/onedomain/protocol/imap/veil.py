"""What must not be used of a home whose MODSEQs are not those that clients were shown (RFC 7162): hidden and refused.

Knows the names and the commands. Does not know when (the account's home says so). A client that was told MODSEQs by
another server would be told of no change by this one, so what goes by them is not offered, and whoever asks all the
same is told BAD by the home, for a word that no server knows. OBJECTID (RFC 8474) names things as one server did.
"""

from __future__ import annotations

import re

from onedomain.protocol.imap.lines import announced

HIDDEN = frozenset(("CONDSTORE", "QRESYNC", "OBJECTID"))

MAX_KEPT = 8192  # of a line that may name capabilities
_SHORT = 300     # of any other line that is not at its end yet
_ANNOUNCEMENT = 26

_NAMING = re.compile(rb"(?i)(?:\* CAPABILITY |[^ \r\n]+ OK \[CAPABILITY )[^\]\r\n]*")
_NAME = re.compile(rb"(?i) (?:CONDSTORE|QRESYNC|OBJECTID)(?=[ \r\n]|\Z)")
_STATUS = re.compile(rb"(?i)\* (?:OK|NO|BAD|BYE|PREAUTH)(?: |\r?\n)")

_COMMAND = re.compile(
    rb"(?i) *[^ ]+ +(?:UID +)?(?:(ENABLE)|(SELECT|EXAMINE)|(FETCH)|(STORE)|(SEARCH|SORT|THREAD|ESEARCH)"
    rb"|(STATUS|LIST|NOTIFY)) "
)
_ASKED = tuple(
    re.compile(pattern)
    for pattern in (
        rb"(?i)(?<= )(?:CONDSTORE|QRESYNC)\b",
        rb"(?i)(?<=[( ])(?:CONDSTORE(?=[) ])|QRESYNC(?= ?\())(?=.*\))",
        rb"(?i)(?<=[( ])(?:CHANGEDSINCE(?= )|VANISHED(?=\))|MODSEQ(?=[) \r\n]|\Z))",
        rb"(?i)(?<=\()UNCHANGEDSINCE(?= )",
        rb"(?i)(?<=[( ])MODSEQ(?= [\"0-9])",
        rb"(?i)(?<=[( ])HIGHESTMODSEQ(?=[) ])",
    )
)
_QUOTED = re.compile(rb'"(?:[^"\\\r\n]|\\.)*"')


def asks(command: bytes) -> bool:
    """Whether a whole command, literals as quoted strings or not, asks for something hidden."""
    return _refused(command) is not None


def refused(data: bytes) -> bytes:
    """Whole commands without literals, those that ask for something hidden so that every server refuses them."""
    return b"".join(_refused(line) or line for line in data.splitlines(keepends=True))


def _refused(line: bytes) -> bytes | None:
    found = _COMMAND.match(line)
    if found is None or found.lastindex is None:
        return None
    asked = _ASKED[found.lastindex - 1]
    strings = [match.span() for match in _QUOTED.finditer(line)]
    places = [
        match.start()
        for match in asked.finditer(line, found.end() - 1)
        if not any(start <= match.start() < end for start, end in strings)
    ]
    if not places:
        return None
    changed = bytearray(line)
    for place in places:
        changed[place] = ord("X") if changed[place] not in b"Xx" else ord("Y")
    return bytes(changed)


class Veil:
    """Takes the hidden names out of the home's CAPABILITY responses and codes; all else passes as it is."""

    __slots__ = ("_continued", "_kept", "_literal", "_passing")

    def __init__(self) -> None:
        self._kept = b""
        self._literal = 0
        self._continued = False  # the line goes on behind a literal
        self._passing = b""      # the end of a line whose beginning has been passed on

    def hide(self, data: bytes) -> bytes:
        """Every byte of the home has to come here, from the first line behind the log-in on."""
        data = self._kept + data
        self._kept = b""
        passed: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._literal:
                taken = min(self._literal, size - at)
                passed.append(data[at:at + taken])
                self._literal -= taken
                at += taken
                continue
            end = data.find(b"\n", at) + 1
            line = data[at:end or size]
            if not end:
                if self._may_name(line):
                    self._kept = line
                    break
                self._passing = (self._passing + line)[-MAX_KEPT:] if self._passing else line[-MAX_KEPT:]
                passed.append(line)
                break
            passed.append(self._whole(line))
            at = end
        return b"".join(passed)

    def _may_name(self, line: bytes) -> bool:
        """A line that is not at its end is kept while it may be one that names capabilities."""
        if self._continued or self._passing:
            return False
        return len(line) <= _SHORT or (len(line) <= MAX_KEPT and _NAMING.match(line) is not None)

    def _whole(self, line: bytes) -> bytes:
        whole = self._passing + line
        fresh = not self._passing and not self._continued
        text = not self._continued and (not whole.startswith(b"* ") or _STATUS.match(whole) is not None)
        literal = None if text else announced(whole)
        self._passing = b""
        self._continued = literal is not None
        self._literal = literal.size if literal is not None else 0
        if not fresh:
            return line
        found = _NAMING.match(line)
        return line if found is None else _NAME.sub(b"", found[0]) + line[found.end():]
