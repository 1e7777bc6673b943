"""SMTP and LMTP replies as a client reads them (RFC 5321 section 4.2, RFC 2034, RFC 2033).

Knows how to find one reply, of however many lines, in a stream of bytes, and what its code means. Does not know which
command it answers: that is client.py's. Sans-IO.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from onedomain.model.failure import Failed, Failure, again, give_up

MAX_LINE = 2048   # RFC 5321 section 4.5.3.1.5 asks for 512; real servers put more into one line
MAX_LINES = 256   # an EHLO reply of the wordiest server has some thirty

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n\0]*))?")
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadReply(Failed):
    """The peer speaks no SMTP: the connection is of no more use. The failure is of kind AGAIN."""


def _bad(reason: str) -> BadReply:
    return BadReply(again(451, "4.5.0", "the next server gave an answer that is no SMTP", reason))


@dataclass(frozen=True, slots=True)
class Reply:
    """code; enhanced code ("2.1.5") or ""; the text of each line, without codes, fit for a log."""

    code: int
    enhanced: str = ""
    lines: tuple[str, ...] = ("",)

    @property
    def text(self) -> str:
        return self.lines[0] if len(self.lines) == 1 else " ".join([line for line in self.lines if line])

    @property
    def is_done(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_go_on(self) -> bool:
        return 300 <= self.code < 400

    @property
    def is_again(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_refusal(self) -> bool:
        return self.code >= 500

    def __str__(self) -> str:
        words = f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)
        return f"{words} {text}" if (text := self.text) else words

    def failure(self, doing: str = "") -> Failure:
        """What a reply that was not hoped for means: 5xx give up, anything else try again."""
        reason = f"{doing}: {self}" if doing else str(self)
        if self.is_refusal:
            return give_up(self.code, self.enhanced or "5.0.0", self.text or "refused", reason)
        code = self.code if self.is_again else 451
        enhanced = self.enhanced if self.is_again and self.enhanced else "4.0.0"
        return again(code, enhanced, self.text or "not now", reason)


class ReplyReader:
    """Bytes in, replies out. Bounded: a line by `max_line` octets, a reply by `max_lines`."""

    def __init__(self, *, max_line: int = MAX_LINE, max_lines: int = MAX_LINES) -> None:
        self._max_line = max_line
        self._max_lines = max_lines
        self._buffer = bytearray()
        self._code = 0
        self._lines: list[str] = []

    @property
    def buffered(self) -> int:
        """Octets (or lines) received and not yet handed out. Before TLS starts it must be 0 (RFC 3207 section 6)."""
        return len(self._buffer) + len(self._lines)

    def receive(self, data: bytes) -> None:
        self._buffer += data

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None when more bytes are needed. Raises BadReply; the reader is then useless."""
        while True:
            end = self._buffer.find(b"\r\n", 0, self._max_line + 2)
            if end < 0:
                if len(self._buffer) > self._max_line:
                    raise _bad(f"reply line longer than {self._max_line} octets: {bytes(self._buffer[:60])!r}")
                return None
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            if self._take(line):
                return self._finish()

    def _take(self, line: bytes) -> bool:
        if len(self._lines) >= self._max_lines:
            raise _bad(f"reply of more than {self._max_lines} lines")
        code, last, text = _read(line)
        if self._lines and code != self._code:
            raise _bad(f"reply changes its code from {self._code} to {code}")
        self._code = code
        self._lines.append(text)
        return last

    def _finish(self) -> Reply:
        lines, self._lines = self._lines, []
        return _reply(self._code, tuple(lines))


# A server says the same few things all day.
@lru_cache(256)
def _read(line: bytes) -> tuple[int, bool, str]:
    """Code, whether it is the last line of its reply, text. Raises BadReply."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise _bad(f"not a reply line: {line[:60]!r}")
    text = (match[3] or b"").decode("utf-8", "backslashreplace")
    return int(match[1]), match[2] != b"-", _CONTROL.sub("?", text)


@lru_cache(256)
def _reply(code: int, lines: tuple[str, ...]) -> Reply:
    first = _ENHANCED.match(lines[0])
    # RFC 3463: the class of the enhanced code is the first digit of the reply code; otherwise it is just text
    if first is None or first[1][0] != str(code)[0]:
        return Reply(code, "", lines)
    enhanced = first[1]
    plain = (line[len(enhanced):].lstrip() if line.startswith(enhanced) else line for line in lines)
    return Reply(code, enhanced, tuple(plain))
