"""Passwords of a node's own accounts, in every form that the directory knows. Does not know accounts."""

from __future__ import annotations

from onedomain.directory import credentials


class HashedPasswords:
    def __init__(self) -> None:
        self._nobody = credentials.make("nobody's")

    def verify(self, stored: str, given: str) -> bool:
        """An empty hash fits nothing, and takes as long as a wrong password."""
        return credentials.verify(stored or self._nobody, given) and bool(stored)
