"""What all peers have in common: the ports of the server behind them, and their configurations with names filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("peers")


@dataclass(frozen=True, slots=True)
class Behind:
    """Ports on loopback of the server that everybody passes things on to."""

    imap: int = 0
    pop3: int = 0
    smtp: int = 0
    lmtp: int = 0


def filled(name: str, **values: object) -> str:
    """The configuration of that name; KeyError for an @NAME@ that has no value."""
    text = (FOLDER / name).read_text()
    return re.sub(r"@([A-Z0-9_]+)@", lambda found: str(values[found[1].lower()]), text)


def first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
