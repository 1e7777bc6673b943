"""Address lists of a header as IMAP's ENVELOPE shows them: (name, route, mailbox, host) (RFC 5322 section 3.4).

Knows comments, quoted strings, groups, obsolete routes, and that real headers break the rules: whatever comes,
something is shown. Bytes stay bytes: raw Shift_JIS in a name is carried as it is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_ADDRESSES = 10_000


class Mailbox(NamedTuple):
    """A group opens with (None, None, its name, None) and closes with four None (RFC 3501 section 7.4.2)."""

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


_PIECE = re.compile(
    rb'\s*(?:"((?:[^"\\]|\\.)*)"?|([<>@,;:.])|(\[[^\]]*\]?)|(\()|([^\s"<>@,;:.\[(]+))', re.DOTALL
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class _Token(NamedTuple):
    kind: str  # "word", "quoted", "comment", or the special itself
    text: bytes
    spaced: bool  # blanks stood before it


def parse_addresses(value: bytes) -> list[Mailbox]:
    """The addresses of an unfolded field value."""
    found: list[Mailbox] = []
    pending: list[_Token] = []
    in_group = False
    tokens = iter(_tokens(value))
    for token in tokens:
        if token.kind == "<":
            inside: list[_Token] = []
            for inner in tokens:
                if inner.kind == ">":
                    break
                inside.append(inner)
            found.append(_angle(pending, inside))
            pending = [_Token("done", b"", False)]
        elif token.kind in (",", ";"):
            _flush(found, pending)
            pending = []
            if token.kind == ";" and in_group:
                found.append(Mailbox(None, None, None, None))
                in_group = False
        elif token.kind == ":" and not in_group:
            found.append(Mailbox(None, None, _phrase(pending) or b"", None))
            pending, in_group = [], True
        else:
            pending.append(token)
        if len(found) >= MAX_ADDRESSES:
            break
    _flush(found, pending)
    if in_group:
        found.append(Mailbox(None, None, None, None))
    return found


def _tokens(value: bytes) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while (piece := _PIECE.match(value, at)) is not None:
        spaced = value[at:at + 1].isspace()
        at = piece.end()
        if piece[1] is not None:
            tokens.append(_Token("quoted", _ESCAPED.sub(rb"\1", piece[1]), spaced))
        elif piece[2] is not None:
            tokens.append(_Token(piece[2].decode("ascii"), piece[2], spaced))
        elif piece[4] is not None:
            text, at = _comment(value, at)
            tokens.append(_Token("comment", text, spaced))
        else:
            tokens.append(_Token("word", piece[3] or piece[5], spaced))
    return tokens


def _comment(value: bytes, at: int) -> tuple[bytes, int]:
    """The inside of a comment whose "(" is behind us, and where it ends."""
    start, depth = at, 1
    while at < len(value) and depth:
        byte = value[at:at + 1]
        depth += (byte == b"(") - (byte == b")")
        at += 2 if byte == b"\\" else 1
    return _ESCAPED.sub(rb"\1", value[start:at - (depth == 0)]).strip(), min(at, len(value))


def _phrase(tokens: list[_Token]) -> bytes | None:
    words = b""
    for token in tokens:
        if token.kind in ("comment", "done"):
            continue
        words += (b" " if words and (token.spaced or token.kind == "quoted") else b"") + token.text
    return words or None


def _comments(tokens: list[_Token]) -> bytes | None:
    return next((token.text for token in tokens if token.kind == "comment" and token.text), None)


def _angle(before: list[_Token], inside: list[_Token]) -> Mailbox:
    name = _phrase(before) or _comments(before)
    route: bytes | None = None
    colon = next((at for at, token in enumerate(inside) if token.kind == ":"), None)
    if colon is not None:  # <@a,@b:c@d>, RFC 5322 section 4.4
        route = b"".join(token.text for token in inside[:colon] if token.kind != "comment")
        inside = inside[colon + 1:]
    mailbox, host = _addr_spec(inside)
    return Mailbox(name, route, mailbox, host)


def _flush(found: list[Mailbox], pending: list[_Token]) -> None:
    if any(token.kind == "done" for token in pending) or all(token.kind == "comment" for token in pending):
        return
    mailbox, host = _addr_spec(pending)
    found.append(Mailbox(_comments(pending), None, mailbox, host))


def _addr_spec(tokens: list[_Token]) -> tuple[bytes, bytes]:
    """(local part, domain); "" for a side that isn't there: NIL would mean a group."""
    parts = [token for token in tokens if token.kind != "comment"]
    at = max((at for at, token in enumerate(parts) if token.kind == "@"), default=len(parts))
    local = parts[:at]
    if any(token.kind == "quoted" for token in local):
        text = b"".join(token.text for token in local)
    else:
        text = b"".join((b" " if token.spaced and n else b"") + token.text for n, token in enumerate(local))
    return text, b"".join(token.text for token in parts[at + 1:])
