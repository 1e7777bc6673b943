"""The recipients of one message put together: no account and no outside address twice.

Knows how the answers for single recipients become one envelope, and what a unit's policy asks for before one is taken.
Does not know how an answer was found, nor how a verdict.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from onedomain.decision.recipient import Accept
from onedomain.model.account import Account, DirectoryView, Level, Unit
from onedomain.model.failure import Failure, again
from onedomain.model.health import BoardView
from onedomain.model.message import Target
from onedomain.model.ports import LinkView


class RecipientList:
    """Grows with every RCPT that is taken. `said` is what the client named, and what accounts or addresses it led to.

    `missed`: why what some unit prefers can't be had now, or "". `copied`: accounts whose replicas 250 waits for.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._targets: dict[str, Target] = {}
        self.said: dict[str, list[str]] = {}
        self.missed = ""
        self._copied: set[str] = set()
        self._strict = False
        self._preferred = False
        self._down = False  # the home of one that would be waited for

    @property
    def waits(self) -> bool:
        """Whether 250 has to wait for more than the spool. Where it can't be had in time it is not waited for."""
        return self._strict or (self._preferred and not self._down)

    @property
    def copied(self) -> frozenset[str]:
        return frozenset(self._copied) if self.waits else frozenset()

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(self._targets.values())

    def add(self, view: DirectoryView, board: BoardView, accepted: Accept, name: str, notify: str,
            links: LinkView) -> Failure | None:
        """Takes all targets of one recipient, or none: 451 where what a strict unit asks for is out of reach, 452
        4.5.3.
        """
        asked = [
            _Asked.of(unit, account, board, links) for account in accepted.accounts
            if (unit := view.unit(account.unit)) is not None and unit.level is not Level.SPOOL]
        for one in asked:
            if one.missed and one.strict:
                return again(451, "4.3.2", "the recipient's mail server is not available, try again later",
                             f"{one.missed} and unit {one.unit} is strict")
        keyed = [(_key(target), target) for target in accepted.targets]
        if len(self._targets) + sum(1 for key, _ in keyed if key not in self._targets) > self._limit:
            return again(452, "4.5.3", "too many recipients", f"{name} makes them more than {self._limit}")
        for key, target in keyed:
            known = self._targets.get(key)
            if known is None:
                self._targets[key] = replace(target, notify=notify) if notify else target
            elif known.notify != notify:
                self._targets[key] = replace(known, notify=merge_notify(known.notify, notify))
        self.said[name] = [target.account or target.address for target in accepted.targets]
        for one in asked:
            self.missed = self.missed or one.missed
            self._strict = self._strict or one.strict
            self._preferred = True
            self._down = self._down or one.down
            if one.copied:
                self._copied.add(one.account)
        return None


class _Asked(NamedTuple):
    """What a unit asks for one of its accounts. `down`: its primary is out of reach; `copied`: a replica is within."""

    unit: str
    account: str
    strict: bool
    down: bool
    copied: bool
    missed: str

    @classmethod
    def of(cls, unit: Unit, account: Account, board: BoardView, links: LinkView) -> _Asked:
        missed = _out_of_reach(account.home.primary, board)
        down, copied = bool(missed), False
        if unit.level is Level.REPLICA and not down:
            replica = account.home.replicas[0] if account.home.replicas else ""
            missed = links.trouble(account.address) or _out_of_reach(replica, board)
            copied = not missed
        return cls(unit.name, account.address, unit.strict, down, copied, missed)


def _out_of_reach(server: str, board: BoardView) -> str:
    if not server:
        return "the account has no replica"
    verdict = board.verdict(server)
    return "" if verdict.usable else f"{server} is {verdict.value}"


def _key(target: Target) -> str:
    if target.account:
        return target.account
    # the local part of an outside address is the other side's to compare (RFC 5321 section 2.4)
    local, _, domain = target.address.rpartition("@")
    return f"{local}@{domain.lower()} outside"


def merge_notify(one: str, other: str) -> str:
    """RFC 3461 NOTIFY of two recipients that turn out to be one: whatever either asked for."""
    wanted = (_wishes(one) | _wishes(other)) - {"NEVER"}
    if not wanted:
        return "NEVER"
    return ",".join(word for word in ("SUCCESS", "FAILURE", "DELAY") if word in wanted)


def _wishes(notify: str) -> set[str]:
    return set(notify.split(",")) if notify else {"FAILURE", "DELAY"}
