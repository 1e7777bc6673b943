"""What must not be used of a home whose MODSEQs are not those that clients were shown (RFC 7162): hidden and refused.

Knows the names and the commands. Does not know when (the account's home says so), nor what the home says (rewriter.py).
A client that was told MODSEQs by another server would be told of no change by this one, so what goes by them is not
offered, and whoever asks all the same is told BAD by the home, for a word that no server knows. OBJECTID (RFC 8474)
names things as one server did.
"""

from __future__ import annotations

import re

HIDDEN = frozenset(("CONDSTORE", "QRESYNC", "OBJECTID"))

REWRITTEN = HIDDEN | {"NOTIFY", "URLAUTH", "CATENATE", "MULTISEARCH"}
"""Where UIDVALIDITYs are rewritten, too: they also come in URLs (RFC 4467, 4469) and in ESEARCH (RFC 7377)."""

PREFIXES = ("COMPRESS=",)
"""What the names begin with of further ones that nobody may use through a relay that has to read along."""

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
