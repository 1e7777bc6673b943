r"""Flags of a message in canonical form: one string, system flags first, `\Answered \Seen $Forwarded Work`.

Knows RFC 3501 section 2.3.2: system flags, keywords, that case doesn't count. Does not know who may set which.
`\Recent` belongs to a session, not to a message, and is never in the canonical form.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache

SYSTEM = (r"\Answered", r"\Flagged", r"\Deleted", r"\Seen", r"\Draft")
MAX_KEYWORDS = 64
MAX_KEYWORD = 255

_SYSTEM = {flag.lower(): flag for flag in SYSTEM}


class BadFlag(ValueError):
    """The text is fit for the client."""


class Mode(Enum):
    SET = ""
    ADD = "+"
    REMOVE = "-"


def canonical(flags: Iterable[str]) -> str:
    """Each flag once, in order. Raises BadFlag for an unknown system flag, for too many or too long keywords."""
    system: set[str] = set()
    keywords: dict[str, str] = {}
    for flag in flags:
        if flag.startswith("\\"):
            known = _SYSTEM.get(flag.lower())
            if known is None:
                raise BadFlag(f"unknown system flag {flag}")
            system.add(known)
        elif len(flag) > MAX_KEYWORD:
            raise BadFlag("keyword too long")
        else:
            keywords.setdefault(flag.lower(), flag)
    if len(keywords) > MAX_KEYWORDS:
        raise BadFlag("too many keywords")
    return " ".join([*(flag for flag in SYSTEM if flag in system), *(keywords[key] for key in sorted(keywords))])


@lru_cache(maxsize=4096)
def change(flags: str, mode: Mode, given: str) -> str:
    """`flags` after STORE with `given`, both canonical (RFC 3501 section 6.4.6)."""
    if mode is Mode.SET:
        return given
    if mode is Mode.ADD:
        return canonical([*flags.split(), *given.split()])
    gone = {flag.lower() for flag in given.split()}
    return " ".join(flag for flag in flags.split() if flag.lower() not in gone)


@lru_cache(maxsize=4096)
def lowered(flags: str) -> frozenset[str]:
    """The flags of a canonical string, in lower case, for asking whether one is among them."""
    return frozenset(flags.lower().split())


def has(flags: str, flag: str) -> bool:
    return flag.lower() in lowered(flags)
