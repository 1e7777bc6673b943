"""What a plain EXPUNGE borrows: flags that it must not find, or has to, noted before they change and given back after.

A server without UIDPLUS expunges whatever is \\Deleted. A plan that is cut off in between leaves flags that are
nobody's; what follows, be it a pass or a promotion, first gives them back. Knows link states and flags. Does not know
why a message goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from onedomain.decision.link.actions import Lend, Plan, Read, Rows, Save, SetFlags
from onedomain.model.replica import FolderLink, LinkState, Row, Side

T = TypeVar("T")
DELETED = frozenset({"\\Deleted"})
BATCH = 50


def lent(state: LinkState, plan: Plan[T]) -> Plan[T]:
    """The plan, with each Lend saved as part of the state that it saved last; `state` is what it begins from."""
    open_: dict[str, Lend] = {}
    answer: Any = None
    try:
        while True:
            try:
                action = plan.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(action, Save):
                state = action.state
            if isinstance(action, Lend):
                answer = None
                open_.pop(action.folder, None)
                if action.unmarked or action.marked:
                    open_[action.folder] = action
                    yield Save(_noted(state, open_))
            else:
                answer = yield Save(_noted(state, open_)) if isinstance(action, Save) else action
    finally:
        plan.close()


def _noted(state: LinkState, lent: dict[str, Lend]) -> LinkState:
    if not lent:
        return state
    return replace(state, folders=tuple(
        replace(link, unmarked=lent[link.target_name].unmarked, marked=lent[link.target_name].marked)
        if link.target_name in lent else link
        for link in state.folders
    ))  # fmt: skip


def give_back(link: FolderLink) -> Plan[FolderLink]:
    """What a plan before this one borrowed. May be repeated: nobody else changes a replica's flags."""
    if not link.unmarked and not link.marked:
        return link
    present: Rows = yield Read(Side.TARGET, link.target_name)
    unmarked, marked = frozenset(link.unmarked), frozenset(link.marked)
    yield from mark(link.target_name, (row for row in present.rows if row.uid in unmarked), deleted=True)
    yield from mark(link.target_name, (row for row in present.rows if row.uid in marked), deleted=False)
    return replace(link, unmarked=(), marked=())


def mark(folder: str, rows: Iterable[Row], *, deleted: bool) -> Plan[None]:
    """\\Deleted set or taken off, all other flags as they are in `rows`."""
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for row in rows:
        groups[row.flags | DELETED if deleted else row.flags - DELETED].append(row.uid)
    for flags, uids in groups.items():
        for start in range(0, len(uids), BATCH):
            yield SetFlags(folder, tuple(uids[start : start + BATCH]), flags)
