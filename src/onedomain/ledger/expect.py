"""From the acts of a ledger, what must be found and what may be. Pure: knows no file, no server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from onedomain.ledger.ledger import ACKED, APPEND, COPY, DELIVER, EXPUNGE, MOVE, REFUSED, STORE, UNKNOWN, Act, Sent


@dataclass
class Range:
    """How many copies must be there at least, and may be there at most."""

    least: int = 0
    most: int = 0

    def add(self, certain: bool) -> None:
        self.least += certain
        self.most += 1

    def take(self, certain: bool) -> None:
        self.least = max(0, self.least - 1)
        if certain:
            self.most = max(0, self.most - 1)

    def __contains__(self, count: int) -> bool:
        return self.least <= count <= self.most


@dataclass
class Expected:
    """What one account must hold of one message. `flags` maps folder and flag to True, False, or None for unknown."""

    account: str
    token: str
    total: Range = field(default_factory=Range)
    folders: dict[str, Range] = field(default_factory=lambda: defaultdict(Range))
    flags: dict[tuple[str, str], bool | None] = field(default_factory=dict)
    sent: Sent | None = None
    acts: list[Act] = field(default_factory=list)

    @property
    def in_doubt(self) -> bool:
        return any(act.state == UNKNOWN for act in self.acts)


def canonical(folder: str) -> str:
    """INBOX is the same in any case: RFC 9051, 5.1."""
    return "INBOX" if folder.upper() == "INBOX" else folder


def expectations(acts: Iterable[Act], delivery_folder: str = "INBOX") -> dict[tuple[str, str], Expected]:
    """Expectations by account and token. A refused act changes nothing, an unknown one widens what may be."""
    expected: dict[tuple[str, str], Expected] = {}
    for act in acts:
        key = (act.account, act.token)
        it = expected.setdefault(key, Expected(act.account, act.token))
        it.acts.append(act)
        it.sent = it.sent or act.sent
        if act.state != REFUSED:
            _apply(it, act, act.state == ACKED, delivery_folder)
    return expected


def _apply(it: Expected, act: Act, certain: bool, delivery_folder: str) -> None:
    folder = canonical(act.folder or delivery_folder)
    target = canonical(act.target or "")
    if act.op in (DELIVER, APPEND):
        it.total.add(certain)
        _arrives(it, folder, dict.fromkeys((flag.lower() for flag in act.added), True))
        it.folders[folder].add(certain)
    elif act.op == COPY:
        it.total.add(certain)
        _arrives(it, target, _flags(it, folder))
        it.folders[target].add(certain)
    elif act.op == MOVE:
        _arrives(it, target, _flags(it, folder))
        it.folders[folder].take(certain)
        it.folders[target].add(certain)
    elif act.op == EXPUNGE:
        it.total.take(certain)
        it.folders[folder].take(certain)
    elif act.op == STORE:
        _note_flags(it, folder, act.added, True, certain)
        _note_flags(it, folder, act.removed, False, certain)
    else:
        raise ValueError(f"no such act: {act.op}")


def _note_flags(it: Expected, folder: str, flags: Iterable[str], value: bool, certain: bool) -> None:
    for flag in flags:
        it.flags[folder, flag.lower()] = value if certain else None


def _flags(it: Expected, folder: str) -> dict[str, bool | None]:
    return {flag: value for (where, flag), value in it.flags.items() if where == folder}


def _arrives(it: Expected, folder: str, flags: dict[str, bool | None]) -> None:
    """A copy with these flags comes into the folder. What an earlier copy had, that has left since, is forgotten; where
    one may still be there nobody can say which of the two will be found.
    """
    alone = not it.folders[folder].most
    before = _flags(it, folder)
    for flag in before:
        del it.flags[folder, flag]
    for flag in flags if alone else {**before, **flags}:
        value = flags.get(flag)
        it.flags[folder, flag] = value if alone or value == before.get(flag) else None
