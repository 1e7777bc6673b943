"""What imaplib brought back of a FETCH of one message. Knows nothing of servers."""

from __future__ import annotations

from typing import Any


def parts(answer: tuple[str, list[Any]]) -> tuple[bytes, bytes]:
    """(the line up to the literal, the literal); a server may tell of other messages' flags beside it."""
    return next(part for part in answer[1] if isinstance(part, tuple))


def body(answer: tuple[str, list[Any]]) -> bytes:
    """The literal."""
    return parts(answer)[1]
