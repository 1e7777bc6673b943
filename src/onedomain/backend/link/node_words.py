"""What a node takes: which flags, and how many messages at once.

Knows limits. Does not know connections, nor how a command is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from onedomain.backend.link.base import Letter, chunks
from onedomain.protocol.imap.flags import MAX_KEYWORD, MAX_KEYWORDS, SYSTEM

AT_ONCE = 500
"""Items of one command."""

COMMAND_BYTES = 4 * 2**20
"""Of messages in one command; a larger one goes alone, and the node is asked before its bytes leave."""

_KEYWORD = re.compile(r"[^\x00-\x20\x7f-\U0010ffff(){%*\"\\\]]+")
_SYSTEM = {flag.lower(): flag for flag in SYSTEM}


def kept(flags: Iterable[str]) -> list[str]:
    """Those that a node takes (protocol/imap/flags.py): each keyword in one spelling, not too many of them."""
    system = [_SYSTEM[flag.lower()] for flag in flags if flag.lower() in _SYSTEM]
    keywords: dict[str, str] = {}
    for flag in sorted(flags):
        if _KEYWORD.fullmatch(flag) and len(flag) <= MAX_KEYWORD:
            keywords.setdefault(flag.lower(), flag)
    return [*system, *list(keywords.values())[:MAX_KEYWORDS]]


def commands(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    """What goes into one command: with UIDs or without, and not too much; a large one goes alone."""
    for _, same in groupby(letters, lambda letter: bool(letter.uid)):
        yield from chunks(same, AT_ONCE, COMMAND_BYTES)
