"""The folders of a target get the names and shapes of the source's: put away, renamed, made, subscribed.

Knows folders and the order in which their changes become safe. Does not know messages. What a folder is going to be
called is saved before the target is asked for it: a pass that dies in between has left it under one of two names that
are known, whatever else the target has there by then.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from onedomain.decision.link.actions import (
    Alert,
    CreateFolder,
    DeleteFolder,
    ListFolders,
    Plan,
    RenameFolder,
    Save,
    SetUse,
    Subscribe,
)
from onedomain.decision.link.folders import INBOX, Matched, plain_name, target_name
from onedomain.model.replica import Folder, FolderLink, LinkState, Listing, Mark, Side
from onedomain.model.validities import Validities

AWAY = "~gone~"
"""In the name of a folder that the source has no longer and the target still has."""


@dataclass(frozen=True, slots=True)
class Both:
    """A folder as it is on both sides now."""

    link: FolderLink
    here: Folder
    there: Mark


@dataclass(frozen=True, slots=True)
class Shaped:
    """`gone`: links of folders that the source has no longer."""

    state: LinkState
    both: tuple[Both, ...]
    gone: tuple[FolderLink, ...]


def shape(state: LinkState, matched: Matched, here: Listing, there: Listing, shown: Validities) -> Plan[Shaped]:
    """`matched`: with the names that the target's folders are found under. `shown`: as what clients see the source's
    UIDVALIDITYs.
    """
    work = _Shaping(replace(state, folders=matched.links), here, there, shown)
    yield from work.put_away()
    yield from work.rename()
    yield from work.make(matched.fresh)
    if state.surplus:
        yield from work.drop_strangers()
    return (yield from work.joined())


class _Shaping:
    def __init__(self, state: LinkState, here: Listing, there: Listing, shown: Validities) -> None:
        self._state = state
        self._here = here
        self._there = there
        self._shown = shown
        self._present = {folder.name: folder.mark for folder in there.folders}  # kept as it is
        self._reshaped = False  # it is not as it was listed

    def put_away(self) -> Plan[None]:
        """What the source has no longer goes when all else has been carried; its name may be wanted before."""
        separator = self._there.separator
        for number, link in enumerate(self._state.folders):
            name = link.target_name
            if not link.gone or name not in self._present or name == INBOX or AWAY in name:
                continue
            path = name.removeprefix(self._there.prefix)
            aside = self._there.prefix + f"{path}{AWAY}".replace(separator, "_")
            used = [each + separator for each in self._present]  # also by what lies below it
            numbers = range(1, len(self._present) + 2)
            free = next(i for i in numbers if not any(each.startswith(f"{aside}{i}{separator}") for each in used))
            yield from self._rename(number, f"{aside}{free}")

    def rename(self) -> Plan[None]:
        """Saved as each changes. What lies above others is first: they move along."""
        depths = [link.source_name.count(self._here.separator) for link in self._state.folders]
        for number in sorted(range(len(depths)), key=depths.__getitem__):
            link = self._state.folders[number]
            if link.gone or link.renamed:
                continue
            others: set[str] = set()
            name = target_name(link.source_name, self._here, self._there, ())
            if link.target_name != name:
                others = {each.target_name for each in self._state.folders if each is not link}
                name = target_name(link.source_name, self._here, self._there, others)
            if link.target_name not in self._present:
                if not link.target.uidvalidity:  # it was never made
                    self._put(number, replace(link, target_name=name))
                continue
            if link.target_name == name or _is_twin(link, name):
                if target_name(link.target_name, self._there, self._here, ()) != link.source_name:
                    self._put(number, replace(link, renamed=True))
            elif any(name + each[len(link.target_name) :] in self._present for each in self._moved(link.target_name)):
                continue  # taken for now; the link knows the folder by either name
            elif not (yield from self._rename(number, name)):
                plain = plain_name(link.source_name, self._there, others)  # the old name may be wanted again
                yield _named_otherwise(link.source_name, name, plain)
                yield from self._rename(number, plain, renamed=True)

    def make(self, fresh: Collection[Folder]) -> Plan[None]:
        """Those that the target hasn't: new ones, and such as it lost."""
        taken = {link.target_name for link in self._state.folders}
        new = []
        for folder in fresh:
            name = target_name(folder.name, self._here, self._there, taken)
            renamed = target_name(name, self._there, self._here, ()) != folder.name
            new.append(FolderLink(folder.name, name, folder.identity, renamed=renamed))
            taken.add(name)
        self._state = replace(self._state, folders=(*self._state.folders, *new))
        if fresh:
            yield Save(self._state)
        for number, link in enumerate(self._state.folders):
            here = self._here.find(link.source_name)
            there = self._present.get(link.target_name)
            if link.gone or here is None or (there is not None and (link.target.uidvalidity or there.uidnext > 1)):
                continue
            name, validity = link.target_name, self._shown.shown(here.mark.uidvalidity)
            made: Mark | None = yield CreateFolder(name, validity, here.special_use, here.identity)
            if made is None:
                name = plain_name(here.name, self._there, {each.target_name for each in self._state.folders})
                yield _named_otherwise(here.name, link.target_name, name)
                self._put(number, replace(link, target_name=name, renamed=True))
                yield Save(self._state)
                made = yield CreateFolder(name, validity, here.special_use, here.identity, must=True)
            assert made is not None
            self._put(number, replace(self._state.folders[number], asked="", special_use=here.special_use))
            self._present[name] = made
            self._reshaped = True

    def drop_strangers(self) -> Plan[None]:
        """After a return: what was made or renamed on the old primary, too late."""
        self._there = yield ListFolders(Side.TARGET)
        self._reshaped = False
        linked = {link.target_name for link in self._state.folders}
        for folder in self._there.folders:
            if folder.name not in linked and folder.name != INBOX:
                yield DeleteFolder(folder.name)

    def joined(self) -> Plan[Shaped]:
        if self._reshaped:
            self._there = yield ListFolders(Side.TARGET)
        yield from self._use()
        both: list[Both] = []
        gone: list[FolderLink] = []
        for number, link in enumerate(self._state.folders):
            here, there = self._here.find(link.source_name), self._there.find(link.target_name)
            if link.gone or here is None:
                gone.append(link)
                continue
            subscribed = there is not None and there.subscribed
            mark = there.mark if there is not None else self._present.get(link.target_name, Mark())
            asked = yield from self._subscribe(number, link, here.subscribed, subscribed)
            link = replace(link, special_use=here.special_use, asked=asked)
            both.append(Both(link, here, mark))
        return Shaped(self._state, tuple(both), tuple(gone))

    def _use(self) -> Plan[None]:
        """Special uses that have changed since the last pass. A folder has to lose one before another can have it."""
        changed = []
        for link in self._state.folders:
            here, there = self._here.find(link.source_name), self._there.find(link.target_name)
            if link.gone or here is None or there is None:
                continue
            if here.special_use not in (link.special_use, there.special_use):
                changed.append((there, here.special_use))
        for there, _ in changed:
            if there.special_use:
                yield SetUse(there.name, "")
        for there, use in changed:
            if use:
                yield SetUse(there.name, use)

    def _subscribe(self, number: int, link: FolderLink, wanted: bool, subscribed: bool) -> Plan[str]:
        if wanted == subscribed:
            return ""
        asked = "SUBSCRIBE" if wanted else "UNSUBSCRIBE"
        if asked != link.asked:  # else it had no effect: Dovecot's `auto = subscribe`
            if link.asked:  # it must not pass for the last word if this pass dies
                self._put(number, replace(link, asked=""))
                yield Save(self._state)
            yield Subscribe(link.target_name, wanted)
        return asked

    def _put(self, number: int, link: FolderLink) -> None:
        folders = self._state.folders
        self._state = replace(self._state, folders=(*folders[:number], link, *folders[number + 1 :]))

    def _moved(self, name: str) -> list[str]:
        """It and what lies below it."""
        return [each for each in self._present if each == name or each.startswith(name + self._there.separator)]

    def _rename(self, number: int, to: str, *, renamed: bool = False) -> Plan[bool]:
        """Whether the target has it under that name."""
        old = self._state.folders[number].target_name
        moved = self._moved(old)
        before = self._state.folders
        self._state = replace(self._state, folders=tuple(
            replace(link, becoming=to + link.target_name[len(old) :]) if link.target_name in moved else link
            for link in before
        ))  # fmt: skip
        yield Save(self._state)
        if not (yield RenameFolder(old, to)):
            self._state = replace(self._state, folders=before)
            return False
        self._reshaped = True
        for name in moved:
            self._present[to + name[len(old) :]] = self._present.pop(name)
        self._state = replace(self._state, folders=tuple(
            replace(link, target_name=link.becoming, becoming="", asked="") if link.becoming else link
            for link in self._state.folders
        ))  # fmt: skip
        self._put(number, replace(self._state.folders[number], renamed=renamed))
        yield Save(self._state)
        return True


def _is_twin(link: FolderLink, name: str) -> bool:
    """A numbered twin keeps its number, or it would be renamed to and fro."""
    return link.target_name.partition("~")[0] == name.partition("~")[0] and "~" in link.target_name


def _named_otherwise(source_name: str, refused: str, name: str) -> Alert:
    return Alert(source_name, f"the replica will not have a folder named {refused}: it is called {name} there")
