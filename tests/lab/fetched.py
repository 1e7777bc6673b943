"""What imaplib brought back of a FETCH of one message. Knows nothing of servers."""

from __future__ import annotations

from typing import Any

Answer = tuple[str, list[Any]]


def parts(answer: Answer) -> tuple[bytes, bytes]:
    """(the line up to the literal, the literal); a server may tell of other messages' flags beside it."""
    found = _literal(answer)
    assert found is not None, answer
    return found


def body(answer: Answer) -> bytes:
    """The literal."""
    return parts(answer)[1]


def body_if_there(answer: Answer) -> bytes | None:
    """None: somebody else has expunged it since it was listed; some say so by NIL, some by nothing (RFC 2180)."""
    found = _literal(answer)
    return found[1] if found is not None else None


def _literal(answer: Answer) -> tuple[bytes, bytes] | None:
    return next((part for part in answer[1] if isinstance(part, tuple)), None)
