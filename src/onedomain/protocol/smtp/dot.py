"""Dot-stuffing of a body on its way out (RFC 5321 section 4.5.2).

Knows lines that begin with a dot, also across chunks. Does not know what the body says, and alters nothing else:
a bare CR or LF is no line end here, exactly as it is none for the receiver that undoes the stuffing.
"""

from __future__ import annotations


class DotStuffer:
    """`stuff` each chunk in order, then `end` once."""

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets sent; a body begins at the start of a line

    def stuff(self, chunk: bytes) -> bytes:
        if not chunk:
            return chunk
        tail = self._tail
        self._tail = (tail + chunk)[-2:] if len(chunk) < 2 else chunk[-2:]
        stuffed = chunk.replace(b"\r\n.", b"\r\n..")
        if tail == b"\r\n" and chunk.startswith(b"."):
            return b"." + stuffed
        if tail.endswith(b"\r") and chunk.startswith(b"\n."):
            return b"\n." + stuffed[1:]
        return stuffed

    def end(self) -> bytes:
        """The end of data: a final line end where the body had none, then the dot."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
