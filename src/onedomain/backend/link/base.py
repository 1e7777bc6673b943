"""What a link asks of a server: one account's mailbox, as a source or as a target.

Knows the questions and the shapes of their answers; each mirrors an action of decision/link/actions.py. Does not know
which side it is on, nor what a plan makes of the answers. Bodies pass from end to end without the plan seeing them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from onedomain.decision.link.actions import Copied, Raise, Refused, Rows
from onedomain.decision.link.identity import identity_of
from onedomain.model.account import Account
from onedomain.model.replica import Identity, Listing, Mark, Powers


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way. `uid` 0: whichever comes. `date` is INTERNALDATE in seconds since 1970.

    `modseq` is the one that it has where it comes from, 0 where there are none; a target that can choose gives none
    below, so that what clients know of the source stays true. `octets`: of one that is larger than links carry; its
    bytes are not here.
    """

    uid: int
    flags: frozenset[str]
    date: int
    raw: bytes = field(repr=False)
    modseq: int = 0
    octets: int = 0

    @property
    def identity(self) -> Identity:
        return Identity(f"{self.octets} octets", large=True) if self.octets else identity_of(self.raw)


def octets_of(letters: Sequence[Letter]) -> int:
    """What they weigh in memory."""
    return sum(len(letter.raw) for letter in letters)


def chunks(letters: Iterable[Letter], most: int, octets: int) -> Iterator[list[Letter]]:
    """In their order, at most so many together and so heavy; a heavier one is alone."""
    some: list[Letter] = []
    size = 0
    for letter in letters:
        if some and (len(some) >= most or size + len(letter.raw) > octets):
            yield some
            some, size = [], 0
        some.append(letter)
        size += len(letter.raw)
    if some:
        yield some


More = Callable[[], Awaitable[Sequence[Letter]]]
"""What follows letters that are on their way; nothing: that was all. Asked by one at a time."""
May = Callable[[], bool]
"""Whether what was taken may be made final still: a process may have been frozen since."""


def always() -> bool:
    return True


class LinkEnd(Protocol):
    """One account at one server. One question at a time; raises nothing but Failed and CancelledError.

    AGAIN: the plan is dropped and begun anew later. What the server refuses for good is an answer, not a failure.
    """

    powers: Powers

    async def list_folders(self) -> Listing:
        """LIST, LSUB, STATUS and special-use; what has vanished in between is left out."""
        ...

    async def read(self, folder: str, since: int = 0, first: int = 1) -> Rows:
        """`before` is what SELECT said. Raises Failed where the folder is not there."""
        ...

    async def look(self, folder: str, since: int, bodies: int) -> tuple[Rows | None, Listing]:
        """`read`, and after it `list_folders`; in one round trip where that can be, and then with the bytes of what is
        new: of UIDs from `bodies` on, where they are few and small. None: there is no such folder.
        """
        ...

    async def read_identities(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> Mapping[int, Identity]:
        """Those that are gone are missing. Raises Failed where SELECT says another UIDVALIDITY (0: whatever)."""
        ...

    def letters(self, folder: str, uids: Sequence[int], uidvalidity: int = 0) -> AsyncIterator[Letter]:
        """With their UIDs here, ascending, one at a time in memory where they are large; those gone are left out."""
        ...

    async def create_folder(self, name: str, uidvalidity: int, special_use: str = "", identity: str = "") -> Mark:
        """Raises Failed, not of Kind.AGAIN where the server will never have that name."""
        ...

    async def rename_folder(self, name: str, to: str) -> None:
        """Raises Failed as `create_folder` does."""
        ...

    async def delete_folder(self, name: str) -> None: ...
    async def subscribe(self, name: str, on: bool) -> None: ...

    async def set_use(self, name: str, special_use: str) -> None:
        """"" takes it away. Nothing happens where the server can't, or won't for this folder."""
        ...

    def expect(self, messages: int) -> None:
        """About so many will be appended: who does better with more sessions may open them. Nobody waits for it."""
        ...

    async def append(
        self, folder: str, letters: Sequence[Letter], more: More | None = None, may: May = always
    ) -> tuple[Copied | Refused, ...]:
        """In their order; where UIDs are not given it ends with the first that is refused. `more` may be asked for what
        follows, so that nobody waits at the end of a group: it is answered for as if it had been among the letters.
        `may` is asked after every wait for others; no more is appended, nor answered for, than before it said no.
        """
        ...

    async def raise_uidnext(self, folders: Sequence[Raise]) -> None:
        """All of them, or Failed: then any of them may have been raised."""
        ...

    async def burn(self, folder: str, first: int, count: int) -> tuple[Copied | Refused, ...]: ...

    async def set_flags(
        self, folder: str, uids: Sequence[int], flags: frozenset[str], modseq: int = 0
    ) -> frozenset[str]: ...

    async def expunge(self, folder: str, uids: Sequence[int], modseq: int = 0) -> None: ...
    async def expunge_deleted(self, folder: str) -> None: ...

    async def find(self, deliveries: Collection[str]) -> frozenset[str]:
        """Those of the delivery ids that are in any folder, or that the server says it has taken once."""
        ...

    async def close(self, *, broken: bool = False) -> None:
        """Gives the connection back, or ends it: `broken` after a failure or in the middle of an answer."""
        ...


class LinkServer(Protocol):
    """One server for links: a bounded number of connections, lent to ends. May be used side by side."""

    powers: Powers

    async def end(self, account: Account) -> LinkEnd:
        """Waits for a connection, fairly. Raises Failed: no log-in for this account, or the server does not answer."""
        ...

    async def provide(self, account: Account) -> None:
        """Makes the account where the server does not make it by itself; there already is fine. Raises Failed."""
        ...

    async def close(self) -> None: ...
