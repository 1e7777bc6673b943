"""The body of a message on its way in: where it ends and what may be in it (RFC 5321 sections 2.3.8, 4.5.2).

Knows the end of data, dot-stuffing, and a listener's policy on bare CR and LF, NUL, long lines and size. Does not know
commands, nor what a message means. Everything is searched in whole buffers; what is held back is at most four octets.

The data ends at <CRLF>.<CRLF> and nowhere else. A client that can make another server see an end where we see none, or
the other way round, puts commands of its own into somebody else's session (SMTP smuggling, 2023).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from onedomain.model.failure import Failure, refuse

MAX_LINE = 998  # RFC 5322 section 2.1.1, without the line end
_END = b"\r\n.\r\n"
_CR, _LF = b"\r\n"
_DOT_AFTER_BARE = re.compile(rb"(?:\r|(?<!\r)\n)\.")


class Manners(Enum):
    """What becomes of what should not be: a CR or LF alone, a line that is too long."""

    REFUSE = "refuse"
    NORMALISE = "normalise"
    PASS = "pass"


Bare = Manners  # as the node's LMTP calls it


@dataclass(frozen=True, slots=True)
class BodyPolicy:
    """`max_size` in octets of the message; `overrun` how many more are read, and dropped, before we hang up.

    Normalised as Postfix does it: LF alone becomes CRLF, CR alone a blank (a line end in its place could end the header
    section); a long line is cut by line ends with a blank after each. `onward`: what passes is handed on by DATA, to
    servers for which a bare LF or CR may be a line end (LF: Dovecot's, Cyrus's LMTP). A dot behind one is refused all
    the same: it can't be stuffed for them without being altered for others, and unstuffed it ends the data.
    """

    bare: Manners = Manners.REFUSE
    long_lines: Manners = Manners.PASS
    nul: bool = False
    onward: bool = True
    max_size: int = 50 * 1024 * 1024
    overrun: int = 50 * 1024 * 1024


class BodyCheck:
    """Applies the policy to a message in chunks cut anywhere. After the first failure nothing is handed out."""

    def __init__(self, policy: BodyPolicy) -> None:
        self._policy = policy
        self.size = 0           # octets received
        self.failure: Failure | None = None
        self._after_cr = False  # the last octet was a CR; with NORMALISE it is held back
        self._column = 0        # octets of the line so far
        self._last = b"\r\n"    # the last two octets, where dots are looked for

    @property
    def overrun(self) -> bool:
        return self.size > self._policy.max_size + self._policy.overrun

    def feed(self, chunk: bytes) -> bytes:
        """What is to be kept of the chunk: b"" once there is a failure."""
        self.size += len(chunk)
        if self.failure is None and chunk:
            self.failure = self._find_fault(chunk)
        if self.failure is not None or not chunk:
            return b""
        if self._policy.bare is Manners.NORMALISE:
            chunk = self._normalised(chunk)
        if self._policy.long_lines is Manners.NORMALISE and self._has_long_line(chunk):
            chunk = self._cut(chunk)
        if self._policy.bare is not Manners.NORMALISE:
            self._after_cr = chunk[-1] == _CR
        return chunk

    def end(self) -> bytes:
        """Call once at the end: the rest that was held back. May set `failure`."""
        if self.failure is not None or not self._after_cr:
            return b""
        if self._policy.bare is Manners.REFUSE:
            self.failure = _BARE
        return b" " if self._policy.bare is Manners.NORMALISE else b""

    def _find_fault(self, chunk: bytes) -> Failure | None:
        policy = self._policy
        if self.size > policy.max_size:
            return too_big(policy.max_size)
        if not policy.nul and b"\0" in chunk:
            return refuse(550, "5.6.0", "message contains a NUL octet")
        if policy.bare is Manners.REFUSE and self._has_bare(chunk):
            return _BARE
        if policy.bare is Manners.PASS and policy.onward and self._has_dot_after_bare(chunk):
            return _BARE_DOT
        if policy.long_lines is Manners.REFUSE and self._has_long_line(chunk):
            return refuse(550, "5.6.0", f"message has a line of more than {MAX_LINE} octets")
        return None

    def _has_bare(self, chunk: bytes) -> bool:
        # All CR and LF are in pairs, but for a pair that is cut by either end of the chunk.
        expected = 2 * chunk.count(b"\r\n") + (chunk[-1] == _CR)
        if self._after_cr:
            if chunk[0] != _LF:
                return True
            expected += 1
        return len(chunk) - len(chunk.translate(None, b"\r\n")) != expected

    def _has_dot_after_bare(self, chunk: bytes) -> bool:
        # The first octet of either has been looked at before, and says only what stands in front of the second.
        found = _DOT_AFTER_BARE.search(self._last + chunk[:2], 1) or _DOT_AFTER_BARE.search(chunk, 1)
        self._last = (self._last + chunk[-2:])[-2:]
        return found is not None

    def _has_long_line(self, chunk: bytes) -> bool:
        # From the start of a line, its end must be within 1000 octets: jump to the last one there, and on from there.
        start, end = -self._column, len(chunk)
        while start + MAX_LINE + 2 <= end:
            feed = chunk.rfind(b"\n", max(start, 0), start + MAX_LINE + 1)
            if feed < 0:
                if not self._is_pair(chunk, start + MAX_LINE):
                    return True
                feed = start + MAX_LINE + 1
            start = feed + 1
        last = chunk.rfind(b"\n", max(start, 0))
        column = end - (last + 1 if last >= 0 else start)
        if column > MAX_LINE and not chunk.endswith(b"\r"):
            return True
        self._column = column
        return False

    def _is_pair(self, chunk: bytes, at: int) -> bool:
        """Whether CRLF stands there; -1 is the last octet of the chunk before."""
        return chunk.startswith(b"\r\n", at) if at >= 0 else self._after_cr and chunk.startswith(b"\n")

    def _cut(self, chunk: bytes) -> bytes:
        *whole, rest = chunk.split(b"\n")
        lines = [self._cut_line(line) + b"\n" for line in whole]
        return b"".join(lines) + self._cut_line(rest, ends=False)

    def _cut_line(self, line: bytes, *, ends: bool = True) -> bytes:
        pieces = []
        length = len(line) - line.endswith(b"\r")  # the CR belongs to the line end, as far as is known
        start = 0
        while self._column + length - start > MAX_LINE:
            stop = start + max(MAX_LINE - self._column, 0)
            pieces.append(line[start:stop] + b"\r\n ")
            start, self._column = stop, 1
        pieces.append(line[start:])
        self._column = 0 if ends else self._column + len(line) - start
        return b"".join(pieces)

    def _normalised(self, chunk: bytes) -> bytes:
        if self._after_cr:
            chunk = b"\r" + chunk
        self._after_cr = chunk.endswith(b"\r")
        if self._after_cr:
            chunk = chunk[:-1]
        pairs = chunk.count(b"\r\n")
        if chunk.count(b"\n") == pairs == chunk.count(b"\r"):
            return chunk
        return b"\r\n".join(line.replace(b"\r", b" ") for line in chunk.replace(b"\r\n", b"\n").split(b"\n"))


_BARE_DOT = refuse(550, "5.5.2", "message contains a dot behind a bare CR or LF, which could end it before its time")
_BARE = refuse(550, "5.5.2", "message contains a bare CR or LF (lines must end in CRLF)")


def too_big(limit: int) -> Failure:
    return refuse(552, "5.3.4", f"message larger than {limit} octets")


class DataReader:
    """The octets between 354 and the final dot: finds the end and undoes dot-stuffing."""

    def __init__(self) -> None:
        # As if a line end had come before: then a dot at the very start is no special case.
        self._held = b"\r\n"
        self._skip = True

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """(body octets, how many octets of `data` belong to the body and its end; -1: all, and no end yet)."""
        held = len(self._held)
        if held:
            data = self._held + data
        dot = data.find(b"\r\n.")  # most data has no other line with a dot than its last: one search is enough
        end = dot if dot < 0 or data.startswith(_END, dot) else data.find(_END, dot + 3)
        if end >= 0:
            return self._unstuffed(data[: end + 2], dot < end), end + len(_END) - held
        hold = _overlap(data)
        self._held = data[len(data) - hold:]
        return self._unstuffed(data[: len(data) - hold], dot >= 0), -1

    def _unstuffed(self, data: bytes, has_dots: bool) -> bytes:
        if has_dots:
            data = data.replace(b"\r\n.", b"\r\n")
        if self._skip and data:
            # the invented line end: what is not held back begins with all of it
            self._skip = False
            return data[2:]
        return data


def _overlap(data: bytes) -> int:
    """How many octets at the end of `data` may be the beginning of the end of data."""
    for length in (4, 3, 2, 1):
        if data.endswith(_END[:length]):
            return length
    return 0
