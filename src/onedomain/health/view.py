"""What a board and its mirrors in the workers have in common: faces, changes, and the view of one face.

Knows shapes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from onedomain.model.health import Load, Verdict

FACES = ("imap", "delivery")
SNAPSHOT = 1
"""Version of the snapshot's form: a worker takes no other."""


@dataclass(frozen=True, slots=True)
class Change:
    """`face` is "" where the server as a whole changed. `reason` is what the last sighting said."""

    server: str
    face: str
    before: Verdict
    after: Verdict
    reason: str = ""


class Faced(Protocol):
    """`face` "" is the server as a whole: its worst face."""

    def verdict(self, server: str, face: str = "") -> Verdict: ...
    def load(self, server: str, face: str = "") -> Load: ...


@dataclass(frozen=True, slots=True)
class Facing:
    """One face of a board or a mirror, as a model.health.BoardView."""

    board: Faced
    face: str

    def verdict(self, server: str) -> Verdict:
        return self.board.verdict(server, self.face)

    def load(self, server: str) -> Load:
        return self.board.load(server, self.face)
