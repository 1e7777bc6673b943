"""The mailbox sessions of this worker, by account: so that they can be ended when something changes beneath them.

Knows accounts, epochs and how to end a session. Does not know protocols: each session ends itself in its own words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from onedomain.model.account import Account
from onedomain.model.failure import Failed, again

Cut = Callable[[str], None]
"""Ends a session at once; is given the reason, fit for the client. Never raises, and may be called twice."""


class Counts(Protocol):
    """Counts over all workers (net/shared.py)."""

    def add(self, key: str, amount: int = 1) -> None: ...

    def enter(self, key: str, limit: int) -> bool:
        """`add` one, unless there are `limit` already."""
        ...


class TooMany(Failed):
    """The account has as many sessions as it may have."""


class Seat:
    """One session's place, and the account as it is now as far as the session may stay.

    `cut` is None until the log-in at the home is over; up to then Homes looks after changes.
    """

    __slots__ = ("account", "cut")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.cut: Cut | None = None


def may_stay(account: Account, now: Account | None) -> bool:
    """Whether a session that began for `account` as it was then is still right for it as it is now.

    An epoch more, and the primary is the same: one change, and only of the replicas. Two, and another server may have
    been the primary in between. From then on the session is one of `now`: it needs a lease if that has a replica.
    """
    return (
        now is not None
        and now.enabled
        and now.home.epoch - account.home.epoch in (0, 1)
        and now.home.primary == account.home.primary
        and (now.home.no_modseq, now.home.shown) == (account.home.no_modseq, account.home.shown)
        and now.mailbox_name == account.mailbox_name
    )


class Relays:
    """`limit` is how many sessions one account may have over all workers, 0 for no limit."""

    def __init__(self, counts: Counts, *, limit: int = 0) -> None:
        self._counts = counts
        self._limit = limit
        self._seats: dict[str, set[Seat]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._seats.values()))

    def take(self, account: Account) -> Seat:
        """A place among the account's sessions, from before its log-in at the home. Raises TooMany, of kind AGAIN."""
        seat = self.take_if_free(account)
        if seat is None:
            reason = f"{account.address} has {self._limit} sessions already"
            raise TooMany(again(454, "4.7.0", "Too many sessions of this account.", reason))
        return seat

    def take_if_free(self, account: Account) -> Seat | None:
        key = _key(account)
        if not self._limit:
            self._counts.add(key)
        elif not self._counts.enter(key, self._limit):
            return None
        seat = Seat(account)
        seats = self._seats.get(account.address)
        if seats is None:
            seats = self._seats[account.address] = set()
        seats.add(seat)
        return seat

    def release(self, seat: Seat) -> None:
        """The session is over. May be called twice."""
        others = self._seats.get(seat.account.address)
        if others is None or seat not in others:
            return
        self._counts.add(_key(seat.account), -1)
        others.discard(seat)
        if not others:
            del self._seats[seat.account.address]

    def account_changed(self, address: str, now: Account | None) -> int:
        """The directory says so: ends the sessions that may not stay; how many those were. The others go on as those of
        the account as it is now, before anything else can ask what they may do.
        """
        reason = (
            "Your mailbox has moved to another server, please log in again."
            if now is not None and now.enabled
            else "This account may not log in any more."
        )
        seats = self._seats.get(address, ())
        ended = [seat for seat in seats if not may_stay(seat.account, now)]
        if now is not None:
            for seat in seats:
                if may_stay(seat.account, now):
                    seat.account = now
        return self._cut(ended, reason)

    def cut(self, address: str, reason: str) -> int:
        """How many sessions that ended."""
        return self._cut(list(self._seats.get(address, ())), reason)

    def cut_fenced(self, may_forward: Callable[[Account], bool]) -> int:
        """The sessions that nothing may be forwarded for any more; how many those were."""
        reason = "Your mailbox is not available now, please log in again later."
        return self._cut([seat for seats in self._seats.values() for seat in seats if not may_forward(seat.account)],
                         reason)

    def cut_all(self, reason: str) -> int:
        return self._cut([seat for seats in self._seats.values() for seat in seats], reason)

    def _cut(self, seats: list[Seat], reason: str) -> int:
        cuts = [seat.cut for seat in seats if seat.cut is not None]
        for cut in cuts:
            cut(reason)
        return len(cuts)


def _key(account: Account) -> str:
    return f"sessions of {account.address}"
