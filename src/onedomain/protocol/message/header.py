"""The header section of a message as it streams by: what has to go goes, what we need to know is noted (RFC 5322).

Knows field names and folding. Holds back the header section (bounded) and nothing else; every octet that is not part
of a removed field passes as it came. Does not know what follows from what it found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from onedomain.model.failure import Failed, refuse
from onedomain.model.message import DELIVERY_ID_HEADER, TRACE_HEADER

MAX_HEADER = 256 * 1024  # octets of the whole section
MAX_MESSAGE_ID = 998

# A LF alone ends a line here, too: a listener may let bare ones pass, and servers behind us take them for line ends.
_BLANK_LINE = re.compile(rb"\n\r?\n")
_REST = rb"[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)"


def _field(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?im)^" + re.escape(name.encode()) + _REST)


_DELIVERY = _field(DELIVERY_ID_HEADER)
_TRACE = _field(TRACE_HEADER)
_MESSAGE_ID = _field("Message-ID")
_DATE = re.compile(rb"(?im)^Date[ \t]*:")
# Looked for in lower case first: an expression that starts with ^ is tried at every octet.
_OURS = b"\nx-onedomain-"
_RECEIVED = (b"\nreceived:", b"\nreceived ", b"\nreceived\t")
_HOP = re.compile(r"cluster=([^;\s]+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Facts:
    """`message_id` as it stands there, with its brackets, or "". `hops` are the clusters named by trace fields.
    `ours`: there may be fields of our own making.
    """

    message_id: str = ""
    has_date: bool = False
    received: int = 0
    hops: tuple[str, ...] = ()
    ours: bool = field(default=False, compare=False)


class HeaderFilter:
    """`feed` each chunk, then `end` once. `facts` is None until the whole header section has been seen."""

    def __init__(self, limit: int = MAX_HEADER) -> None:
        self._limit = limit
        self._held: bytes | bytearray = b""
        self.facts: Facts | None = None

    def feed(self, chunk: bytes) -> bytes:
        """What may go on of what came so far. Raises Failed (552) when the header section is too large."""
        if self.facts is not None:
            return chunk
        start = max(len(self._held) - 2, 0)
        held = self._hold(chunk)
        # the line before the header is a line end that isn't there: a blank line at once means there is no header
        if held.startswith((b"\r\n", b"\n")):
            return self._release(0)
        found = _BLANK_LINE.search(held, start)
        if found is not None:
            return self._release(found.start() + 1)
        if len(held) > self._limit:
            raise Failed(refuse(552, "5.3.4", f"header section larger than {self._limit} octets"))
        return b""

    def _hold(self, chunk: bytes) -> bytes | bytearray:
        if not self._held:
            self._held = chunk  # nearly always it is all there at once: no copy
        elif isinstance(self._held, bytearray):
            self._held += chunk
        else:
            self._held = bytearray(self._held + chunk)
        return self._held

    def end(self) -> bytes:
        """The rest of a message that had no body."""
        return b"" if self.facts is not None else self._release(len(self._held))

    def _release(self, size: int) -> bytes:
        if size > self._limit:
            raise Failed(refuse(552, "5.3.4", f"header section larger than {self._limit} octets"))
        held, self._held = bytes(self._held), b""
        section = held[:size]
        self.facts = facts = read_facts(section)
        return _DELIVERY.sub(b"", section) + held[size:] if facts.ours else held


def read_facts(section: bytes) -> Facts:
    """Of a header section without the blank line after it."""
    # Everything stands in `low` one octet further on than in the section.
    low = b"\n" + section.lower()
    at = low.find(b"\nmessage-id")
    found = _MESSAGE_ID.search(section, at) if at >= 0 else None
    date = low.find(b"\ndate")
    ours = _OURS in low
    hops = tuple(
        name[1].lower() for one in _TRACE.finditer(section) if (name := _HOP.search(_text(one[1]))) is not None
    ) if ours else ()
    return Facts(
        message_id=_text(found[1])[:MAX_MESSAGE_ID] if found else "",
        has_date=date >= 0 and _DATE.search(section, date) is not None,
        received=sum(low.count(after) for after in _RECEIVED) if b"\nreceived" in low else 0,
        hops=hops,
        ours=ours)


def _text(value: bytes) -> str:
    """A field's value unfolded, for logs and look-ups."""
    unfolded = b" ".join(value.translate(None, b"\r\n").split())
    return _CONTROL.sub("?", unfolded.decode("utf-8", "backslashreplace"))
