"""The messages of one Append on their way: group by group as they are read, and what became of each.

Knows what ends an Append early, and which answer belongs to which message. Does not know who takes them.

The next group is read while the one before is taken; whoever asks for it in the middle waits for that. Two are in
memory. Nothing is read that will not be taken: what is left goes with the next Append, which would read it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from onedomain.backend.link.base import Letter, octets_of
from onedomain.decision.link.actions import Append, Copied, Gone, Outcome, Refused
from onedomain.model.failure import Failed, again


class Load:
    """`given`: the target gives UIDs. `octets`: after so many it ends, if there are more.

    `sent`: letters that were taken and not yet answered for. `too_large`: how many were for links. `failure`: what
    reading them failed with.
    """

    def __init__(
        self, action: Append, groups: AsyncGenerator[list[Letter], None], *, given: bool, octets: int
    ) -> None:
        self.given = given
        self.too_large = 0
        self.failure: Failed | None = None
        self._action = action
        self._copies = {copy.source_uid: copy for copy in action.copies}
        self._groups = groups
        self._expected = iter(copy.source_uid for copy in action.copies)  # of those not yet taken
        self._most = octets
        self._octets = 0
        self._last = 0
        self._next: list[Letter] | None = None
        self._reading = asyncio.Lock()
        self._over = False
        self._cut = False
        self._sent: list[int] = []
        self._outcomes: dict[int, Outcome] = {}

    @property
    def sent(self) -> int:
        return len(self._sent)

    @property
    def seats(self) -> Sequence[int]:
        """Of these, the UIDs that they have at the source where they are to have the same at the target, else 0."""
        return [self._copies[uid].uid for uid in self._sent]

    async def read(self) -> None:
        """Ahead of whoever will take it."""
        async with self._reading:
            if not self._full:
                await self._read()

    @property
    def _full(self) -> bool:
        return self._octets >= self._most

    async def _read(self) -> list[Letter]:
        if self.failure is not None:
            raise self.failure
        if self._next is None:
            try:
                self._next = await anext(self._groups, [])
            except Failed as failure:
                self.failure = failure
                raise
        return self._next or []

    async def take(self) -> Sequence[Letter]:
        """The next group as the target shall have it; nothing: that was all. Raises Failed."""
        async with self._reading:
            letters: list[Letter] = []
            while not letters and not self._over:
                group = [] if self._full else await self._read()
                self._next = None
                if not group:
                    self._over = True
                    self._cut = self._full and any(uid > self._last for uid in self._copies)
                    break
                self._octets += octets_of(group)
                self._last = group[-1].uid
                letters = self._fitting(group)
            return letters

    def _fitting(self, group: list[Letter]) -> list[Letter]:
        """Without what is too large for links. Where UIDs are not given, up to the first that is, or that is gone:
        those behind it have to wait, as their UIDs would come out one too low.
        """
        letters = []
        for letter in group:
            if not self.given and letter.uid != next(self._expected):
                self._over = True
                break
            if letter.octets:
                self._outcomes[letter.uid] = Refused(too_large(letter.octets), letter.identity)
                self.too_large += 1
                if not self.given:
                    self._over = True
                    break
            else:
                letters.append(self._as_wanted(letter))
                self._sent.append(letter.uid)
        return letters

    def _as_wanted(self, letter: Letter) -> Letter:
        copy = self._copies[letter.uid]
        if letter.date != copy.date:
            self.failure = Failed(again(451, "4.3.0", "another folder has that name by now", "INTERNALDATE differs"))
            raise self.failure
        return replace(letter, uid=copy.uid if self.given else 0, flags=copy.flags)

    def answered(self, answers: Sequence[Copied | Refused]) -> bool:
        """What the target says of those that were taken: whether there is any use in more."""
        self._outcomes.update(zip(self._sent, answers, strict=False))
        self._sent.clear()
        if not self.given and answers and isinstance(answers[-1], Refused):
            self._over = True
        return not self._over

    def outcomes(self) -> tuple[Outcome, ...]:
        """Of the whole Append, or of its beginning."""
        result: list[Outcome] = []
        for copy in self._action.copies:
            if self._cut and copy.source_uid > self._last:
                break
            outcome = self._outcomes.get(copy.source_uid, Gone())
            result.append(outcome)
            if not self.given and not isinstance(outcome, Copied):
                break
        return tuple(result)


def too_large(octets: int) -> str:
    return f"a message of {octets} octets is larger than links carry"
