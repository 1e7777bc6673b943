"""Modified UTF-7: how IMAP4rev1 spells mailbox names outside ASCII (RFC 3501 section 5.1.3).

Knows the spelling only. Does not know separators, quoting or which names exist.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

_NEEDS_SHIFT = re.compile(r"&|[^\x20-\x7e]+")
_SHIFTED = re.compile(r"&([^-]*)(-?)")
_BASE64 = re.compile(r"[A-Za-z0-9+,]+\Z")




def encode(name: str) -> str:
    """`請求&co` -> `&itxsQg-&-co`. Raises ValueError for lone surrogates."""
    return _NEEDS_SHIFT.sub(_shift, name)


def decode(name: str) -> str:
    """The reverse. Raises ValueError for what no `encode` makes: a client might otherwise see one folder twice."""
    if not all(" " <= c <= "~" for c in name):
        raise ValueError("characters outside ASCII in a modified UTF-7 name")
    text = _SHIFTED.sub(_unshift, name)
    if encode(text) != name:
        raise ValueError("not the one modified UTF-7 spelling of this name")
    return text


def _shift(found: re.Match[str]) -> str:
    if found[0] == "&":
        return "&-"
    packed = b64encode(found[0].encode("utf-16-be")).decode("ascii")
    return "&" + packed.rstrip("=").replace("/", ",") + "-"


def _unshift(found: re.Match[str]) -> str:
    if not found[2]:
        raise ValueError("shift without its end")
    if not found[1]:
        return "&"
    if not _BASE64.match(found[1]):
        raise ValueError("characters outside modified base64")
    packed = found[1].replace(",", "/")
    return b64decode(packed + "=" * (-len(packed) % 4)).decode("utf-16-be")
