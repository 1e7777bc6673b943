"""How many files a worker may have open, and how many it needs when every listener is as full as the file allows.

Knows RLIMIT_NOFILE and what a session of each protocol holds open. Does not know what is done about too few.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a node has none, and starts faster without its library
    from onedomain.config import Config

RELAYED = ("imap", "pop3")
OWN = 128
"""Spool segments, logs, the loop, the keeper's line, inherited sockets of a few listeners."""


def raise_limit() -> int:
    """Lets this process, and what it forks, open as many files as the system allows it; how many that are.

    What is usual for a login shell (1024) is kept for the sake of select(2), which nothing here uses.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def allowed() -> int:
    """What `raise_limit` would give."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def needed(config: Config) -> int:
    """Per worker: a session holds one descriptor, a relayed one a second for its home; deliveries one each."""
    sessions = sum(listener.max_sessions * (2 if listener.protocol in RELAYED else 1)
                   for listener in config.listeners)
    return OWN + sessions + sum(server.max_deliveries for server in config.servers)
