"""One account on both of its servers, message by message: what is the same, what differs, and how.

Knows which message is which by the link's state. Reads only. Does not know why anybody asks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from onedomain.backend.link.base import LinkEnd
from onedomain.decision.link.uids import Pairs
from onedomain.model.replica import FolderLink, Identity, LinkState, Row

BYTES_AT_ONCE = 500
"""Messages whose bytes are compared with one question to each side."""


class Verdict(Enum):
    SAME = "same"
    FLAGS = "other flags"
    DATE = "another date"
    BYTES = "other bytes"
    MISSING = "missing"        # on the replica
    REFUSED = "refused"        # by the replica; kept in our own store
    ONLY_THERE = "only there"  # on the replica


@dataclass(frozen=True, slots=True)
class Line:
    """`uid` at the source and `target_uid` at the target, 0 where it is not there. `detail` for people."""

    folder: str
    uid: int
    target_uid: int
    verdict: Verdict
    detail: str = ""


async def compare(
    source: LinkEnd, target: LinkEnd, state: Callable[[], LinkState], *, octets: bool = False,
    only: Mapping[str, Collection[int]] | None = None,
) -> AsyncGenerator[Line, None]:
    """Every message of every folder, in the order of the source's UIDs, then the folders that only the target has.
    `state`: as passes leave it, which go on meanwhile. `octets`: their bytes, too, which are all read then. `only`: of
    these folders those with these UIDs of the target. What changes meanwhile may look different; what has just come is
    missing rather than only there, as the target is read first. Raises Failed.
    """
    names = {folder.name for folder in (await target.list_folders()).folders}
    known = state()
    newest, links = known, _by_names(known)
    for link in known.folders:
        if link.gone or (only is not None and link.source_name not in only):
            continue
        there = (await target.read(link.target_name)).rows if link.target_name in names else ()
        here = (await source.read(link.source_name)).rows
        if (now := state()) is not newest:  # else what was carried meanwhile would have no partner
            newest, links = now, _by_names(now)
        link = links.get((link.source_name, link.target_name), link)
        lines = folder_lines(link, {row.uid: row for row in here}, {row.uid: row for row in there})
        if only is not None:
            lines = [line for line in lines if line.target_uid in only[link.source_name]]
        for start in range(0, len(lines), BYTES_AT_ONCE):
            part = lines[start : start + BYTES_AT_ONCE]
            for line in await _with_bytes(source, target, link, part) if octets else part:
                yield line
    linked = {link.target_name for each in (known, state()) for link in each.folders if not link.gone}
    for name in sorted(names - linked):
        if only is None or name in only:
            for row in (await target.read(name)).rows:
                if only is None or row.uid in only[name]:
                    yield Line(name, 0, row.uid, Verdict.ONLY_THERE, "a folder that only this server has")


def _by_names(state: LinkState) -> dict[tuple[str, str], FolderLink]:
    return {(link.source_name, link.target_name): link for link in state.folders}


def folder_lines(link: FolderLink, here: Mapping[int, Row], there: Mapping[int, Row]) -> list[Line]:
    pairs = Pairs(link)
    name = link.source_name
    lines = []
    met = set()
    for uid, row in sorted(here.items()):
        partner = pairs.target(uid)
        other = there.get(partner)
        if pairs.refused(uid):
            detail = "larger than links carry, so only here" if uid in link.large else ""
            lines.append(Line(name, uid, 0, Verdict.REFUSED, detail))
        elif other is None:
            lines.append(Line(name, uid, 0, Verdict.MISSING))
        else:
            met.add(partner)
            lines.append(_pair(link, row, other))
    lines += [Line(name, 0, uid, Verdict.ONLY_THERE) for uid in sorted(there.keys() - met)]
    return lines


def _pair(link: FolderLink, row: Row, other: Row) -> Line:
    kept = row.flags - link.untaken
    if kept != other.flags - link.untaken:
        detail = f"{' '.join(sorted(row.flags))} here, {' '.join(sorted(other.flags))} there"
        return Line(link.source_name, row.uid, other.uid, Verdict.FLAGS, detail)
    if row.date != other.date:
        return Line(link.source_name, row.uid, other.uid, Verdict.DATE, f"{row.date} here, {other.date} there")
    return Line(link.source_name, row.uid, other.uid, Verdict.SAME)


async def _with_bytes(source: LinkEnd, target: LinkEnd, link: FolderLink, lines: list[Line]) -> list[Line]:
    pairs = [line for line in lines if line.uid and line.target_uid]
    here = await source.read_identities(link.source_name, [line.uid for line in pairs])
    there = await target.read_identities(link.target_name, [line.target_uid for line in pairs])
    return [_judged(line, here, there) if line.uid and line.target_uid else line for line in lines]


def _judged(line: Line, here: Mapping[int, Identity], there: Mapping[int, Identity]) -> Line:
    one, other = here.get(line.uid), there.get(line.target_uid)
    if one is None or other is None or one.digest == other.digest:
        return line  # gone since, or the same
    return Line(line.folder, line.uid, line.target_uid, Verdict.BYTES)
