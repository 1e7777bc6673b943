"""The mailbox sessions of this worker, by account: so that they can be ended when something changes beneath them.

Knows accounts, epochs and how to end a session. Does not know protocols: each session ends itself in its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from onedomain.model.account import Account
from onedomain.model.failure import Failed, again

Cut = Callable[[str], None]
"""Ends a session at once; is given the reason, fit for the client. Never raises, and may be called twice."""


class Counts(Protocol):
    """Counts over all workers (net/shared.py)."""

    def add(self, key: str, amount: int = 1) -> None: ...
    def total(self, key: str) -> int: ...


class TooMany(Failed):
    """The account has as many sessions as it may have."""


class _Live:
    __slots__ = ("account", "cut")

    def __init__(self, account: Account, cut: Cut) -> None:
        self.account = account
        self.cut = cut


def may_stay(account: Account, now: Account | None) -> bool:
    """Whether a session that began for `account` as it was then is still right for it as it is now."""
    return (
        now is not None
        and now.enabled
        and now.home.epoch == account.home.epoch
        and now.home.primary == account.home.primary
        and now.mailbox_name == account.mailbox_name
    )


class Relays:
    """`limit` is how many sessions one account may have over all workers, 0 for no limit."""

    def __init__(self, counts: Counts, *, limit: int = 0) -> None:
        self._counts = counts
        self._limit = limit
        self._live: dict[str, set[_Live]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._live.values()))

    @contextmanager
    def held(self, account: Account) -> Iterator[None]:
        """A place among the account's sessions, from before its log-in at the home. Raises TooMany, of kind AGAIN."""
        key = f"sessions of {account.address}"
        if self._limit and self._counts.total(key) >= self._limit:
            reason = f"{account.address} has {self._limit} sessions already"
            raise TooMany(again(454, "4.7.0", "Too many sessions of this account.", reason))
        self._counts.add(key, 1)
        try:
            yield
        finally:
            self._counts.add(key, -1)

    @contextmanager
    def joined(self, account: Account, cut: Cut) -> Iterator[None]:
        """The session is live while this lasts."""
        live = _Live(account, cut)
        self._live.setdefault(account.address, set()).add(live)
        try:
            yield
        finally:
            others = self._live[account.address]
            others.discard(live)
            if not others:
                del self._live[account.address]

    def account_changed(self, address: str, now: Account | None) -> int:
        """The directory says so: ends the sessions that may not stay; how many those were."""
        reason = (
            "Your mailbox has moved to another server, please log in again."
            if now is not None and now.enabled
            else "This account may not log in any more."
        )
        return self._cut([live for live in self._live.get(address, ()) if not may_stay(live.account, now)], reason)

    def cut(self, address: str, reason: str) -> int:
        """How many sessions that ended."""
        return self._cut(list(self._live.get(address, ())), reason)

    def cut_all(self, reason: str) -> int:
        return self._cut([live for lives in self._live.values() for live in lives], reason)

    def _cut(self, lives: list[_Live], reason: str) -> int:
        for live in lives:
            live.cut(reason)
        return len(lives)
