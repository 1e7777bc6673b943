"""What a link has sent to its target since the marks were saved: UID by UID, which message it was.

A promotion finds messages there that no mark covers. Those that were sent under the UID at which they lie are the ones
that clients know under it; any other may be a stranger's, whose UID a client knows as another message's. Is kept in
memory only: a process that did not send them itself can't tell. Knows no server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onedomain.model.replica import LinkState

MOST = 10_000
"""Messages of one account between two saves (a save comes after 1,000, or 32 MiB); above it nothing is known."""


class Sent:
    """Of one account. Folders by their names at the target."""

    __slots__ = ("_count", "_folders")

    def __init__(self) -> None:
        self._folders: dict[str, dict[int, str]] = {}
        self._count = 0

    def add(self, folder: str, messages: Iterable[tuple[int, str]]) -> None:
        """(UID at the source, digest) of messages that may be in the target's folder from now on, under that UID."""
        there = self._folders.setdefault(folder, {})
        before = len(there)
        there.update(messages)
        self._count += len(there) - before
        if self._count > MOST:
            self.forget_all()

    def forget(self, folder: str) -> None:
        """Another folder may have that name now."""
        self._count -= len(self._folders.pop(folder, ()))

    def forget_all(self) -> None:
        self._folders.clear()
        self._count = 0

    def saved(self, state: LinkState) -> None:
        """What the marks cover by now need not be told from anything."""
        if not self._folders:
            return
        marks = {link.target_name: link.target.uidnext for link in state.folders}
        for folder, there in tuple(self._folders.items()):
            left = {uid: digest for uid, digest in there.items() if uid >= marks.get(folder, 0)}
            self._count -= len(there) - len(left)
            if left:
                self._folders[folder] = left
            else:
                del self._folders[folder]

    def by_folder(self) -> Mapping[str, Mapping[int, str]]:
        return self._folders
