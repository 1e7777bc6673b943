"""What is wrong with a configuration file, where, and what to do: every problem at once.

Knows problems and how they read. Does not know how they were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onedomain.config.texts import say

Place = tuple[str | int, ...]
"""Keys and indexes from the top of the file, such as ("server", 1, "imap", "port")."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`line` counts from 1; 0 where there is none. `advice` says what to do, or is empty."""

    place: Place
    message: str
    advice: str = ""
    line: int = 0

    @property
    def path(self) -> str:
        """`server[2].imap.port`, counting tables of one name from 1, as people do."""
        text = ""
        for step in self.place:
            text += f"[{step + 1}]" if isinstance(step, int) else f".{step}"
        return text.removeprefix(".")

    def __str__(self) -> str:
        where = say("line", line=self.line) if self.line else ""
        parts = [": ".join(part for part in (where, self.path, self.message) if part), self.advice]
        return "\n    ".join(part for part in parts if part)


class ConfigErrors(Exception):
    """The file cannot be used; nothing of it was."""

    def __init__(self, file: Path, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__("\n".join([say("heading", file=file, count=len(problems)), *map(str, problems)]))
