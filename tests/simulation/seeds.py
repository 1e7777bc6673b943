"""How many seeds, and which pairs of servers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

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


PINNED = {("imap", "node"): (95,), ("node", "plain"): (132, 240), ("dovecot", "burning"): (289,)}
"""Seeds that once failed, beyond those that are run anyway: released and nowhere; there twice."""


def seeds(
    count: int, pair: tuple[str, str] = ("", ""), pinned: Mapping[tuple[str, str], tuple[int, ...]] = PINNED
) -> Iterator[int]:
    """`count` of them and what is pinned for this pair, or as the environment says: ONEDOMAIN_SEEDS how many,
    ONEDOMAIN_SEED just this one.
    """
    if one := os.environ.get("ONEDOMAIN_SEED"):
        yield int(one)
        return
    end = int(os.environ.get("ONEDOMAIN_SEEDS", count))
    yield from range(end)
    yield from (seed for seed in pinned.get(pair, ()) if seed >= end)
