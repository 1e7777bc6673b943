"""A message as POP3 sends it (RFC 1939 section 3): CRLF line ends, dots stuffed, for TOP only the first lines.

Knows bytes in pieces. Does not know where they come from. Holds no more than one byte.
"""

from __future__ import annotations


class BodyWriter:
    """`write` gives the bytes to send for a piece; `finish` those that end the message, the final dot included.

    With `lines` (TOP) no more than the header, the empty line and that many lines of the body come out; `done` says
    that nothing more will.
    """

    def __init__(self, lines: int | None = None) -> None:
        self.done = False
        self._lines_left = lines
        self._in_header = True
        self._at_line_start = True
        self._held = b""  # a CR at the end of a piece: whether its LF follows decides

    def write(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        if data[-1:] == b"\r":
            data, self._held = data[:-1], b"\r"
        if data.count(b"\n") != data.count(b"\r\n"):
            data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if self._lines_left is not None:
            data = self._top(data, self._lines_left)
        return self._stuffed(data)

    def finish(self) -> bytes:
        last = b"" if self.done else self._stuffed(self._held)
        return last + (b".\r\n" if self._at_line_start else b"\r\n.\r\n")

    def _stuffed(self, data: bytes) -> bytes:
        if not data:
            return b""
        first = b"." if self._at_line_start and data[:1] == b"." else b""
        self._at_line_start = data[-1:] == b"\n"
        return first + data.replace(b"\n.", b"\n..")

    def _top(self, data: bytes, left: int) -> bytes:
        at_line_start = self._at_line_start
        at = 0
        while not self.done and at < len(data):
            end = data.find(b"\n", at) + 1
            if not end:
                return data
            if not self._in_header:
                left -= 1
            elif at_line_start and end - at == 2:  # CRLF alone: a CR is held back until its LF is here
                self._in_header = False
            at_line_start = True
            at = end
            self._lines_left = left
            self.done = not self._in_header and left <= 0
        return data[:at]
