"""The recipients of one message put together: no account and no outside address twice.

Knows how the answers for single recipients become one envelope, and what a unit's policy asks for before one is taken.
Does not know how an answer was found, nor how a verdict.
"""

from __future__ import annotations

from dataclasses import replace

from onedomain.decision.recipient import Accept
from onedomain.model.account import DirectoryView, Level
from onedomain.model.failure import Failure, again
from onedomain.model.health import BoardView
from onedomain.model.message import Target


class RecipientList:
    """Grows with every RCPT that is taken. `said` is what the client named, and what accounts or addresses it led to.

    `missed`: some unit prefers more than the spool, and its home is out of reach.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._targets: dict[str, Target] = {}
        self.said: dict[str, list[str]] = {}
        self.missed = False
        self._strict = False
        self._preferred = False

    @property
    def waits(self) -> bool:
        """Whether 250 has to wait for more than the spool. Where it can't be had in time it is not waited for."""
        return self._strict or (self._preferred and not self.missed)

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(self._targets.values())

    def add(self, view: DirectoryView, board: BoardView, accepted: Accept, name: str, notify: str) -> Failure | None:
        """Takes all targets of one recipient, or none: 451 where a strict unit's home is out of reach, 452 4.5.3."""
        units = [
            (unit, account.home.primary) for account in accepted.accounts
            if (unit := view.unit(account.unit)) is not None and unit.level is not Level.SPOOL]
        out_of_reach = [(unit, server) for unit, server in units if not board.verdict(server).usable]
        for unit, server in out_of_reach:
            if unit.strict:
                return again(451, "4.3.2", "the recipient's mail server is not available, try again later",
                             f"{server} is {board.verdict(server).value} and unit {unit.name} is strict")
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
        self.missed = self.missed or bool(out_of_reach)
        self._strict = self._strict or any(unit.strict for unit, _ in units)
        self._preferred = self._preferred or bool(units)
        return None


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
