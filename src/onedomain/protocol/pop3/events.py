"""What a POP3 session asks of whoever has its sockets and mailboxes.

Knows shapes only; what each of them waits for says server.py.
"""

from __future__ import annotations

from typing import NamedTuple

from onedomain.protocol import sasl
from onedomain.protocol.pop3.maildrop import Entry


class LogIn(NamedTuple):
    credentials: sasl.Credentials
    mechanism: str


class StartTls(NamedTuple):
    pass


class Retrieve(NamedTuple):
    """RETR, or TOP where `lines` is a number."""

    entry: Entry
    lines: int | None


class Quit(NamedTuple):
    """The session reaches its UPDATE state: `deleted` are to be removed, `retrieved` were read by RETR."""

    deleted: tuple[Entry, ...]
    retrieved: tuple[Entry, ...]


class Close(NamedTuple):
    reason: str


class Answered(NamedTuple):
    pass


Event = LogIn | StartTls | Retrieve | Quit | Close | Answered
