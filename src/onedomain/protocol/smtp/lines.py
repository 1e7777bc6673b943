"""What the peer has sent and nobody has read yet: taken as lines while commands come, as octets while a body does.

Knows line ends and the length of a line. Does not know what a line says, nor what becomes of a bad one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_CR = 13


class Fault(Enum):
    TOO_LONG = "too long"  # `text` is its beginning; the rest is dropped as it comes
    BARE_LF = "bare LF"


@dataclass(frozen=True, slots=True)
class BadLine:
    """Without its line end."""

    text: bytes
    fault: Fault


class Input:
    """Bounded by its owner, who reads only when everything has been taken: one read and one line at most."""

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self._dropping = False  # the rest of a line that was too long

    @property
    def empty(self) -> bool:
        return self._position == len(self._buffer)

    def __len__(self) -> int:
        return len(self._buffer) - self._position

    def receive(self, data: bytes) -> None:
        self._buffer = self._buffer[self._position:] + data
        self._position = 0

    def line(self, limit: int) -> bytes | BadLine | None:
        """The next line without its end, which counts in `limit`; None when more octets are needed."""
        end = self._buffer.find(b"\n", self._position)
        if self._dropping:
            self._position = end + 1 if end >= 0 else len(self._buffer)
            if end < 0:
                return None
            self._dropping = False
            end = self._buffer.find(b"\n", self._position)
        start = self._position
        if (end + 1 if end >= 0 else len(self._buffer)) - start > limit:
            self._dropping = True
            return BadLine(self._buffer[start:start + 80], Fault.TOO_LONG)
        if end < 0:
            return None
        self._position = end + 1
        if end > start and self._buffer[end - 1] == _CR:
            return self._buffer[start:end - 1]
        return BadLine(self._buffer[start:end], Fault.BARE_LF)

    def begins(self, word: bytes) -> bool:
        """Whether a line begins here, with that word."""
        return self._buffer.startswith(word, self._position) and not self._dropping

    def ahead(self) -> tuple[bytes, int]:
        """What came, and where in it the next line begins; `skip` what is taken of it."""
        return self._buffer, self._position

    def skip(self, end: int) -> None:
        """All up to `end` of what `ahead` gave has been taken."""
        self._position = end

    def take(self, most: int) -> bytes:
        """Up to `most` octets."""
        taken = self._buffer[self._position:self._position + most]
        self._position += len(taken)
        return taken

    def put_back(self, count: int) -> None:
        """The last `count` octets of what take() gave were not meant for its caller."""
        self._position -= count

    def clear(self) -> int:
        """Forgets everything; how many octets that was."""
        count = len(self)
        self._buffer, self._position, self._dropping = b"", 0, False
        return count
