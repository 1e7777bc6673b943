"""An account's folders by name, as they were last listed and as they have been changed by us since.

Knows what lies below a name without looking at all others: an account may have thousands, and each may be renamed.
Does not know any server, nor when what is known is too old.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from onedomain.decision.link.names import Names

T = TypeVar("T")


class Known(Generic[T]):
    def __init__(self, folders: Mapping[str, T], separator: str = "/") -> None:
        self._folders = dict(folders)
        self._separator = separator
        self._names: Names | None = None  # made when somebody asks what lies below

    def __contains__(self, name: object) -> bool:
        return name in self._folders

    def __getitem__(self, name: str) -> T:
        return self._folders[name]

    def get(self, name: str) -> T | None:
        return self._folders.get(name)

    def items(self) -> Iterable[tuple[str, T]]:
        return self._folders.items()

    def family(self, name: str) -> list[str]:
        """It, if it is there, and what lies below it."""
        if self._names is None:
            self._names = Names(self._folders, self._separator)
        return [*([name] if name in self._folders else ()), *self._names.below(name)]

    def put(self, name: str, folder: T) -> None:
        if self._names is not None and name not in self._folders:
            self._names.add(name)
        self._folders[name] = folder

    def drop(self, name: str) -> None:
        if self._folders.pop(name, None) is not None and self._names is not None:
            self._names.discard(name)
