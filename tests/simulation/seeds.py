"""How many seeds, and which pairs of servers."""

from __future__ import annotations

import os
from collections.abc import Iterator

PAIRS = [
    ("node", "node"),
    ("dovecot", "dovecot"),
    ("dovecot", "cyrus"),
    ("cyrus", "dovecot"),
    ("node", "imap"),
    ("imap", "node"),
    ("dovecot", "burning"),
    ("node", "plain"),
]


def seeds(count: int) -> Iterator[int]:
    """`count` of them, or as the environment says: ONEDOMAIN_SEEDS how many, ONEDOMAIN_SEED just this one."""
    if one := os.environ.get("ONEDOMAIN_SEED"):
        yield int(one)
        return
    yield from range(int(os.environ.get("ONEDOMAIN_SEEDS", count)))
