"""Which UID on one side is which on the other.

Knows runs, kept and refused messages. Does not know what messages are.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace

from onedomain.model.replica import FolderLink, Run


class Pairs:
    """The pairing of one folder, unfolded for as long as a pass needs it."""

    def __init__(self, link: FolderLink) -> None:
        self._there = {run.source + i: run.target + i for run in link.runs for i in range(run.count)}
        self._back = {target: source for source, target in self._there.items()}
        self._kept = frozenset(link.kept)
        self._refused = frozenset(link.refused)

    def target(self, source_uid: int) -> int:
        """0: it has no partner."""
        if source_uid in self._there:
            return self._there[source_uid]
        taken = source_uid in self._back or source_uid in self._kept or source_uid in self._refused
        return 0 if taken else source_uid

    def source(self, target_uid: int) -> int:
        """0: it has no partner."""
        if target_uid in self._back:
            return self._back[target_uid]
        free = target_uid not in self._there and target_uid not in self._kept and target_uid not in self._refused
        return target_uid if free else 0

    def refused(self, source_uid: int) -> bool:
        return source_uid in self._refused


def still_refused(link: FolderLink, gone: Container[int]) -> FolderLink:
    """The link without messages that were refused and that the source has no longer."""
    refused, large = (tuple(uid for uid in uids if uid not in gone) for uids in (link.refused, link.large))
    return replace(link, refused=refused, large=large)


def paired(link: FolderLink, source_uid: int, target_uid: int) -> FolderLink:
    """The link with one more pair; equal UIDs take no room."""
    link = unpaired(link, (source_uid,))
    if source_uid == target_uid:
        return link
    if link.runs:
        last = link.runs[-1]
        if (last.source + last.count, last.target + last.count) == (source_uid, target_uid):
            return replace(link, runs=(*link.runs[:-1], replace(last, count=last.count + 1)))
    return replace(link, runs=(*link.runs, Run(source_uid, target_uid)))


def unpaired(link: FolderLink, source_uids: Iterable[int]) -> FolderLink:
    """The link without the runs of these messages, which are gone or have another partner now."""
    lost = frozenset(source_uids)
    if not any(run.source + i in lost for run in link.runs for i in range(run.count)):
        return link
    runs: list[Run] = []
    for run in link.runs:
        for i in range(run.count):
            source, target = run.source + i, run.target + i
            if source in lost:
                continue
            before = runs[-1] if runs else Run(0, 0, 0)
            if (before.source + before.count, before.target + before.count) == (source, target):
                runs[-1] = replace(before, count=before.count + 1)
            else:
                runs.append(Run(source, target))
    return replace(link, runs=tuple(runs))
