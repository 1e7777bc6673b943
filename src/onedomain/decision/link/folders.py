"""Which folder of the target belongs to which of the source: names, renames, deletions, restores.

Knows names and marks. Does not know messages. A folder is known again by its identity, where the source tells one, else
by its name and UIDVALIDITY, and after a RENAME by a UIDVALIDITY that no other folder has (RENAME keeps it).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from onedomain.model.replica import Folder, FolderLink, LinkState, Listing, Mark, Pass

INBOX = "INBOX"
ANOTHER = 0
"""No message's UID: in `kept` it says that no UID of the target is what clients of the source know by it."""
MAX_PLAIN = 40
_SHIFTED = re.compile(r"&([^-&]*)-")


@dataclass(frozen=True, slots=True)
class Matched:
    """`links` as the source has them now, those of deleted folders marked `gone`. `fresh`: folders without a link."""

    links: tuple[FolderLink, ...]
    fresh: tuple[Folder, ...]


def match(state: LinkState, source: Listing, *, inbox_left: bool = False) -> Matched:
    """`inbox_left`: somebody asked for a RENAME of INBOX. If the one that is known is nowhere, it was deleted since."""
    left = {folder.name: folder for folder in source.folders}
    validities = Counter(folder.mark.uidvalidity for folder in source.folders)
    linked = Counter(link.source.uidvalidity for link in state.folders)
    links: dict[int, FolderLink] = {}
    for number, link in enumerate(state.folders):  # those that kept their names first
        folder = left.get(link.source_name)
        if not link.gone and folder is not None and _same(link, folder, state.folders, source):
            known = link.identity or linked[link.source.uidvalidity] == 1
            another = folder.name == INBOX and known and _is_another(link, folder)
            if another and (inbox_left or inbox_now(link, source) != INBOX):
                link = _emptied(link, folder)
            links[number] = _now(link, left.pop(folder.name))
    elsewhere = _Elsewhere(left.values(), validities, linked)
    for number, link in enumerate(state.folders):
        if number not in links:
            moved = elsewhere.find(link)
            if moved is not None and moved.name in left:
                links[number] = _now(link, left.pop(moved.name))
            else:
                links[number] = replace(link, gone=True)
    return Matched(tuple(links[number] for number in range(len(state.folders))), tuple(left.values()))


def meant(spelt: Iterable[str], links: Iterable[FolderLink], separator: str) -> frozenset[str]:
    """The source's folders that clients may have meant: servers take other spellings than the one that they list."""
    wanted = {_plain(each, separator) for each in spelt}
    return frozenset(link.source_name for link in links if _plain(link.source_name, separator) in wanted)


def spelt_of(names: Iterable[str], spelt: Iterable[str], separator: str) -> frozenset[str]:
    """The other way round: by what clients may have meant these."""
    plain = {_plain(each, separator) for each in names}
    return frozenset(each for each in spelt if _plain(each, separator) in plain)


def _plain(name: str, separator: str) -> str:
    """INBOX has no case (RFC 9051 section 5.1), also above other folders; modified UTF-7 (RFC 3501 section 5.1.3) may
    shift where it need not; a separator at the end is nothing.
    """
    levels = [each for each in _SHIFTED.sub(_unshifted, name).split(separator) if each]
    if levels and levels[0].upper() == INBOX:
        levels[0] = INBOX
    return separator.join(levels)


def _unshifted(found: re.Match[str]) -> str:
    packed = found[1].replace(",", "/")
    try:
        return b64decode(packed + "=" * (-len(packed) % 4)).decode("utf-16-be") if packed else "&"
    except ValueError:
        return found[0]


def inbox_now(link: FolderLink, source: Listing) -> str:
    """The name of the folder that this link knows as INBOX. Renamed, Dovecot's goes with all that it is, and another
    one takes its place; elsewhere its messages are moved.
    """
    inbox, before = source.find(INBOX), link.source
    if inbox is None or not _is_another(link, inbox):
        return INBOX
    others = [
        each.name for each in source.folders
        if (each.identity == link.identity if link.identity or inbox.identity else
            each.mark.uidvalidity == before.uidvalidity and each.mark.uidnext >= before.uidnext)
    ]
    return others[0] if len(others) == 1 else INBOX


def _is_another(link: FolderLink, inbox: Folder) -> bool:
    """A restore keeps identities and makes no UIDVALIDITY higher. Where INBOX was lost there is another one, too."""
    if link.identity or inbox.identity:
        return link.identity not in ("", inbox.identity)
    return 0 < link.source.uidvalidity < inbox.mark.uidvalidity


def restored(link: FolderLink, now: Mark) -> str:
    """Why a side of this folder must have been put back to an earlier time, or ""."""
    before = link.source
    if not before.uidvalidity or not before.uidnext:  # nothing was carried of it
        return ""
    if now.uidvalidity != before.uidvalidity:
        return f"UIDVALIDITY of {link.source_name} went from {before.uidvalidity} to {now.uidvalidity}"
    if now.uidnext < before.uidnext:
        return f"UIDNEXT of {link.source_name} went back from {before.uidnext} to {now.uidnext}"
    if now.modseq < before.modseq:
        return f"HIGHESTMODSEQ of {link.source_name} went back from {before.modseq} to {now.modseq}"
    return ""


def wiped(link: FolderLink, now: Mark | None) -> str:
    """The same for the target, whose folder may be missing altogether."""
    before = link.target
    if not before.uidvalidity:
        return ""
    if now is None:
        return f"{link.target_name} is missing on the replica"
    if now.uidvalidity != before.uidvalidity:
        return f"UIDVALIDITY of the replica's {link.target_name} went from {before.uidvalidity} to {now.uidvalidity}"
    if now.uidnext < before.uidnext:
        return f"UIDNEXT of the replica's {link.target_name} went back from {before.uidnext} to {now.uidnext}"
    return ""


def found_again(links: Iterable[FolderLink], target: Listing) -> tuple[FolderLink, ...]:
    """Links with the names that their folders have on the target: a pass may have died around a RENAME, and a stranger
    may have renamed one.
    """
    links = tuple(links)
    validities = {folder.name: folder.mark.uidvalidity for folder in target.folders}
    linked = {link.target_name for link in links}
    stray = {name: validity for name, validity in validities.items() if name not in linked}
    strays: defaultdict[int, list[str]] = defaultdict(list)
    for name, validity in stray.items():
        strays[validity].append(name)
    found = []
    for link in links:
        name = link.target_name
        if name not in validities:
            known = link.target.uidvalidity
            same = strays.get(known, [])
            if link.becoming in stray and known in (0, stray[link.becoming]):
                name = link.becoming
            elif len(same) == 1:
                name = same[0]
        found.append(link if name == link.target_name and not link.becoming else
                     replace(link, target_name=name, becoming="", asked=link.asked if name == link.target_name else ""))
    return tuple(found)


def target_name(source_name: str, source: Listing, target: Listing, taken: Container[str]) -> str:
    """The same path in the target's spelling; a character that it can't have becomes "_", twins get a number."""
    if source_name == INBOX:
        return INBOX
    path = source_name.removeprefix(source.prefix).split(source.separator)
    wrong = str.maketrans(dict.fromkeys(target.separator + target.forbidden, "_"))
    name = target.prefix + target.separator.join(part.translate(wrong) for part in path)
    number, unique = 2, name
    while unique in taken:
        unique = f"{name}~{number}"
        number += 1
    return unique


def plain_name(source_name: str, target: Listing, taken: Iterable[str]) -> str:
    """For a folder whose own name the target will not have: one that every server takes and a person recognises."""
    kept = "".join(each if each.isascii() and each.isalnum() else "_" for each in source_name).strip("_")
    base = target.prefix + (kept[:MAX_PLAIN] or "Folder")
    used = {*taken, *(folder.name for folder in target.folders)}
    return next(name for number in count(1) if (name := f"{base}~{number}") not in used)


def _same(link: FolderLink, folder: Folder, links: Sequence[FolderLink], source: Listing) -> bool:
    """A restore keeps name and identity and may lower UIDVALIDITY; who deletes and creates gets another identity, or,
    where there are none, a higher UIDVALIDITY (RFC 9051 section 2.3.1.1). Who deletes and renames another folder to
    that name brings that one's. `links`: all that are known, `source`: what is there now.
    """
    if folder.name == INBOX:
        return True
    if link.identity or folder.identity:
        return link.identity == folder.identity
    before, now = link.source, folder.mark
    if now.uidvalidity >= before.uidvalidity:
        return now.uidvalidity == before.uidvalidity or not before.uidvalidity
    for other in links:
        if other.source.uidvalidity == now.uidvalidity and other.source.uidnext <= now.uidnext:
            at_home = source.find(other.source_name)
            if at_home is None or at_home.mark.uidvalidity != now.uidvalidity:
                return False
    # It is there under another name, and one that nobody has seen yet has taken its own.
    alone = sum(other.source.uidvalidity == before.uidvalidity for other in links) == 1
    return not alone or all(
        each.mark.uidvalidity != before.uidvalidity or each.mark.uidnext < before.uidnext for each in source.folders)


def _emptied(link: FolderLink, folder: Folder) -> FolderLink:
    """Nothing on the target has a partner any more; it goes when the renamed folder has been copied."""
    return replace(
        link, source=Mark(folder.mark.uidvalidity, 1), runs=(), kept=(*link.kept, ANOTHER), refused=(), large=(),
        last=Pass(), doomed=(),
    )


class _Elsewhere:
    """Folders of the source whose names no link has: where those have gone that are not at home."""

    def __init__(self, folders: Iterable[Folder], validities: Counter[int], linked: Counter[int]) -> None:
        others = [folder for folder in folders if folder.name != INBOX]
        self._linked = linked
        self._known = {folder.identity: folder for folder in others if folder.identity}
        self._alone = {folder.mark.uidvalidity: folder for folder in others
                       if not folder.identity and validities[folder.mark.uidvalidity] == 1}

    def find(self, link: FolderLink) -> Folder | None:
        if link.gone or link.source_name == INBOX:
            return None
        if link.identity:
            return self._known.get(link.identity)
        found = self._alone.get(link.source.uidvalidity) if self._linked[link.source.uidvalidity] == 1 else None
        return found if found is not None and found.mark.uidnext >= link.source.uidnext else None


def _now(link: FolderLink, folder: Folder) -> FolderLink:
    renamed = link.renamed and link.source_name == folder.name  # a new name may be one that the target has
    return replace(link, source_name=folder.name, identity=folder.identity, renamed=renamed)
